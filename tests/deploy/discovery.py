"""JSON schemas of Google's APIs, from the discovery documents that Google's own client ships."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from googleapiclient.discovery_cache import DISCOVERY_DOC_DIR
from jsonschema import Draft202012Validator

KEPT = ("type", "enum", "items", "additionalProperties")


def validate(value: object, api: str, message: str) -> None:
    """Check a request's message, such as `Job` of `cloudscheduler.v1`.

    Raises:
        jsonschema.ValidationError: a field is unknown, of another type, or missing though the
            document calls it required.
    """
    schema = {"$ref": f"#/$defs/{message}", "$defs": definitions(api)}
    Draft202012Validator(schema).validate(value)


def methods(api: str) -> dict[str, Any]:
    """The methods of an API by their ids."""
    found: dict[str, Any] = {}
    resources = [_document(api)]
    while resources:
        resource = resources.pop()
        resources += resource.get("resources", {}).values()
        found |= {method["id"]: method for method in resource.get("methods", {}).values()}
    return found


@cache
def definitions(api: str) -> dict[str, Any]:
    """The messages of an API as JSON schemas, without what only answers have."""
    return {name: _schema(message) for name, message in _document(api)["schemas"].items()}


@cache
def _document(api: str) -> dict[str, Any]:
    return json.loads(Path(DISCOVERY_DOC_DIR, f"{api}.json").read_text("utf-8"))


def _schema(found: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in found:
        return {"$ref": f"#/$defs/{found['$ref']}"}
    schema = {key: value for key, value in found.items() if key in KEPT}
    for key in ("items", "additionalProperties"):
        if key in schema:
            schema[key] = _schema(schema[key])
    if found.get("type") == "object" and "additionalProperties" not in schema:
        fields = {
            name: field
            for name, field in found.get("properties", {}).items()
            if not field.get("readOnly")
        }
        schema["properties"] = {name: _schema(field) for name, field in fields.items()}
        schema["additionalProperties"] = False
        schema["required"] = [
            name
            for name, field in fields.items()
            if field.get("description", "").startswith("Required.")
        ]
    return schema
