"""Run records: what a run did, with what, and how long it took; a file per run in `runs/`."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transforms import storage
from transforms.output import columns

logger = logging.getLogger(__name__)

FORMAT = 1
"""Raised when a program of today could not read a record of tomorrow."""

OUTPUT = "output"
"""Key of the output folder in `RunRecord.options`."""


class RunRecord(BaseModel):
    """The record of a run.

    Records of older versions lack fields, which then have their defaults; fields that only newer
    versions know are kept as they are.

    Attributes:
        format: version of the document.
        run_id: names the run; ids sort by time.
        started_at: ISO 8601 with its offset.
        seconds: from the start to the record.
        interrupted: why the run ended early, or None.
        model: the `model_id` in its rows.
        fingerprint: of the model package.
        versions: of citymask, Python and libraries.
        options: what the run was asked for, Beam's options among them under `beam`.
        images: counts of images by what became of them.
        panoramas: counts of panoramas.
        pixels: pixels per class name, over the images done in this run.
        passed_over: counts of files that are no images, by reason.
        images_per_second: images done per second of the run.
        bytes_in: bytes read of images.
        bytes_out: bytes of masks and what stands beside them.
        stages: seconds, count, mean and maximum of each stage.
        requests: requests to remote storage by kind, and their bytes.
        batches: how many batches the network was given, and their mean size.
        comparison: with the nights before; only of `citymask nightly`.
        worst_failures: the most frequent kinds of failure; only of `citymask nightly`.
    """

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    format: int = FORMAT
    run_id: str
    started_at: str
    seconds: float = 0.0
    interrupted: str | None = None
    model: str = ""
    fingerprint: str = ""
    versions: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    images: dict[str, int] = Field(default_factory=dict)
    panoramas: dict[str, int] = Field(default_factory=dict)
    pixels: dict[str, int] = Field(default_factory=dict)
    passed_over: dict[str, int] = Field(default_factory=dict)
    images_per_second: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    stages: dict[str, Any] = Field(default_factory=dict)
    requests: dict[str, int] = Field(default_factory=dict)
    batches: dict[str, Any] = Field(default_factory=dict)
    comparison: dict[str, Any] | None = None
    worst_failures: list[dict[str, Any]] | None = None

    @property
    def output(self) -> str:
        """The output folder of the run."""
        return self.options[OUTPUT]

    @property
    def began(self) -> datetime | None:
        """When the run started; None where the record does not say it in ISO 8601."""
        try:
            time = datetime.fromisoformat(self.started_at)
        except ValueError:
            return None
        return time if time.tzinfo else time.replace(tzinfo=timezone.utc)

    def to_document(self) -> dict[str, Any]:
        """The record as JSON has it; what only nights have is left out where there is none."""
        document = self.model_dump()
        for of_nights in ("comparison", "worst_failures"):
            if document[of_nights] is None:
                del document[of_nights]
        return document

    def to_json(self) -> str:
        """The record as text, indented; bytes of paths that are not UTF-8 are lone surrogates."""
        return json.dumps(self.to_document(), indent=2, ensure_ascii=False) + "\n"


def read_record(path: str) -> RunRecord:
    """Read a run record of this version or another.

    Raises:
        StorageError: the file cannot be read.
        ValueError: it is not a run record; one line.
    """
    document = json.loads(storage.read(path))
    try:
        record = RunRecord.model_validate(document)
    except ValidationError as error:
        first, *_ = error.errors(include_url=False)
        where = ".".join(map(str, first["loc"])) or "the document"
        raise ValueError(f"{where}: {first['msg']}") from error
    if record.format > FORMAT:
        logger.info(
            "%s: format %d of a newer version; read as far as format %d goes",
            path, record.format, FORMAT,
        )  # fmt: skip
    return record


def record_files(output: str) -> Iterator[tuple[str, RunRecord]]:
    """Path and content of each run record that can be read; the others are named in the log."""
    for file in storage.list_folder(f"{output}/{columns.RUNS}", ".json"):
        try:
            yield file.path, read_record(file.path)
        except (storage.StorageError, ValueError) as error:
            logger.warning("%s: not a run record (%s); passed over", file.path, error)


def read_records(output: str) -> list[RunRecord]:
    """The run records of an output folder that can be read, oldest first."""
    found = (record for _, record in record_files(output))
    return sorted(found, key=lambda record: (record.started_at, record.run_id))


def write_record(record: RunRecord) -> None:
    """Write a run record to its output folder; raises StorageError.

    Bytes of paths that are not UTF-8 are escaped as JSON has it, and so come back as they were.
    """
    name = f"{columns.RUNS}/{record.run_id}.json"
    storage.write(record.output, name, record.to_json().encode(errors="backslashreplace"))
