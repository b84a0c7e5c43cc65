"""`model.json`: reading it, checking it by its JSON schema, and its text."""

import hashlib
import json
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from models.weight_files import MAX_BYTES

FORMAT_VERSION = 2
"""Version of the format of `model.json`; version 1, which has neither `GRAPH` nor `ADDED`, is read
too."""

GRAPH, NETWORKS, PRECISIONS, CALIBRATION = "graph", "networks", "precisions", "calibration"
ADDED = (NETWORKS, PRECISIONS, CALIBRATION)
"""Keys of format 2 that are left out of the fingerprint."""

WEIGHTS_SHA256 = "weights_sha256"

DESCRIPTION_FILE = "model.json"
SCHEMA = Path(__file__).with_name("model.schema.json")
"""The JSON schema of `DESCRIPTION_FILE`. What each of its parts describes stands in messages."""

MAX_DESCRIPTION_BYTES = 64 << 20
"""Largest `model.json`, in bytes."""


class PackageError(ValueError):
    """A model package is unknown, incomplete, damaged or refused."""


def read_document(folder: Path) -> dict[str, Any]:
    """The content of the `model.json` of a folder.

    Raises:
        PackageError: it cannot be read or does not follow the schema.
    """
    file = folder / DESCRIPTION_FILE
    try:
        # JSON has no NaN and no infinity, and no number of the schema can be a text.
        document = json.loads(read(file, MAX_DESCRIPTION_BYTES).decode(), parse_constant=str)
    except (ValueError, RecursionError) as error:
        if isinstance(error, PackageError):
            raise
        raise PackageError(
            f"{file}: not valid JSON ({error}); the file is truncated or changed"
        ) from error
    for problem in _problems(document):
        raise PackageError(f"{file}: {problem}")
    return document


def limits(key: str) -> tuple[float, float]:
    """The least and the largest number that the schema allows for a key or its items."""
    allowed = _schema()["properties"][key]
    if "$ref" in allowed:
        allowed = _schema()["$defs"][allowed["$ref"].rpartition("/")[2]]
    allowed = allowed.get("items", allowed)
    return allowed["minimum"], allowed["maximum"]


def identity(folder: Path, document: Mapping[str, Any]) -> bytes:
    """`model.json` without what does not change the model, as the text of format 1."""
    if document["format_version"] == 1:
        return read(folder / DESCRIPTION_FILE, MAX_DESCRIPTION_BYTES)
    kept = {key: value for key, value in document.items() if key not in ADDED}
    return text_of({**kept, "format_version": 1})


def text_of(document: Mapping[str, Any]) -> bytes:
    """The text of a `model.json`."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def read(file: Path, most: int) -> bytes:
    """The content of a file of at most so many bytes; raises PackageError."""
    try:
        size = file.stat().st_size
        if size <= most:
            return file.read_bytes()
    except OSError as error:
        raise PackageError(f"{file}: cannot be read: {error.strerror}") from error
    raise PackageError(f"{file}: found {size} bytes, expected at most {most}")


def read_unchanged(file: Path, stated: str) -> bytes:
    """The content of a file, whose SHA-256 the description states; raises PackageError."""
    content = read(file, MAX_BYTES)
    if hashlib.sha256(content).hexdigest() != stated:
        raise PackageError(
            f"{file}: {len(content)} bytes with another SHA-256 than {DESCRIPTION_FILE} states; "
            "the file is truncated or changed: copy the package again"
        )
    return content


@cache
def _schema() -> dict[str, Any]:
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


@cache
def _validator() -> Any:
    """A validator for which 1.0 is no whole number, as it is none for arrays."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    checker = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    return extend(Draft202012Validator, type_checker=checker)(_schema())


def _problems(document: Any) -> Iterator[str]:
    """What does not follow the schema, for people."""
    if not isinstance(document, dict):
        yield f"found a {type(document).__name__}, expected an object"
        return
    if document.get("format_version") not in (1, FORMAT_VERSION):
        yield (
            f"format version {reprlib.repr(document.get('format_version'))}, "
            f"this program reads versions 1 to {FORMAT_VERSION}"
        )
    missing = []
    for error in _validator().iter_errors(document):
        if error.validator == "required" and not error.path:
            missing += [key for key in error.validator_value if key not in document]
            continue
        if missing:
            break
        if error.schema is False:
            yield f"found {WEIGHTS_SHA256} and a {GRAPH}; leave one of them out"
        else:
            yield _in_words(error.absolute_path, error.instance, error.schema)
    if missing:
        yield f"missing {', '.join(sorted(set(missing)))}"


def _in_words(path: Sequence[str | int], found: Any, schema: Any) -> str:
    where = ".".join(str(part) for part in path if isinstance(part, str))
    expected = schema.get("description", f"what {SCHEMA.name} says")
    return f"found the {where} {reprlib.repr(found)}, expected {expected}"
