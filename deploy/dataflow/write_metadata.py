"""Writes metadata.json, the parameters of the Flex Template, from the settings of a run.

    python deploy/dataflow/write_metadata.py

The fields are those of https://cloud.google.com/dataflow/docs/reference/rest/v1b3/TemplateMetadata
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.runs.kinds import kinds_of
from pipeline.runs.settings import Settings

FILE = Path(__file__).with_name("metadata.json")
DAY = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"


def metadata(settings: type[Settings] = Settings) -> dict[str, Any]:
    """The content of metadata.json for these settings."""
    return {
        "name": "citymask",
        "description": "Class masks and per-class pixel statistics of street photos.",
        "parameters": [
            _parameter(
                "inputs",
                "Photos",
                "Folders, glob patterns, .tar or .tfrecord shards, or .csv, .parquet or .txt "
                "manifests on Cloud Storage; several are separated by a semicolon.",
                regex="^gs://[^;]+(;gs://[^;]+)*$",
                optional=False,
            ),
            _parameter(
                "output",
                "Output folder",
                "Folder on Cloud Storage for all results. Existing results are kept.",
                "GCS_WRITE_FOLDER",
                regex="^gs://.+$",
                optional=False,
            ),
            *_of_settings(settings),
            _parameter("date", "Day", "Only images of this day, YYYY-MM-DD.", regex=DAY),
            _parameter(
                "from", "First day", "Only images of this day or later, YYYY-MM-DD.", regex=DAY
            ),
            _parameter(
                "to", "Last day", "Only images of this day or earlier, YYYY-MM-DD.", regex=DAY
            ),
            _flag("quiet", "Quiet launcher", "Print errors only."),
            _flag("verbose", "Verbose launcher", "Also print messages of libraries."),
            _parameter(
                "sdk_container_image",
                "Image of the workers",
                "Full name and tag of an image built with deploy/docker; with gpu, the one with "
                "CUDA.",
                regex="^[^ ]+(:|@sha256:)[^ /:]+$",
                optional=False,
            ),
        ],
    }


def _of_settings(settings: type[Settings]) -> Iterator[dict[str, Any]]:
    for name, declared, option, kind in kinds_of(settings):
        if option.in_template:
            yield _parameter(
                name,
                option.label,
                declared.description or "",
                kind.template_type,
                default=_text(declared.default),
                regex=kind.regex,
                choices={value: option.choices.get(value, value) for value in kind.choices},
            )


def _flag(name: str, label: str, help_text: str) -> dict[str, Any]:
    return _parameter(name, label, help_text, "BOOLEAN", "false", "^(true|false)$")


def _parameter(
    name: str,
    label: str,
    help_text: str,
    kind: str = "TEXT",
    default: str | None = None,
    regex: str = "",
    choices: dict[str, str] | None = None,
    optional: bool = True,
) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "label": label, "helpText": help_text, "paramType": kind}
    if optional:
        found["isOptional"] = True
    if default is not None:
        found["defaultValue"] = default
    if regex:
        found["regexes"] = [regex]
    if choices:
        found["enumOptions"] = [{"value": v, "label": text} for v, text in choices.items()]
    return found


def _text(default: Any) -> str | None:
    """A default value as text."""
    value = getattr(default, "value", default)
    return str(value).lower() if isinstance(value, bool) else None if value is None else str(value)


if __name__ == "__main__":
    FILE.write_text(json.dumps(metadata(), indent=2) + "\n", encoding="utf-8")
