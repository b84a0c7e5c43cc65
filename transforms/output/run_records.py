"""Run records: the settings, results and timings of a run; one file per run in `runs/`."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transforms import storage
from transforms.output import columns, fencing

logger = logging.getLogger(__name__)

FORMAT = 1
"""Increased when a change would break today's readers."""

OUTPUT = "output"
"""Key of the output folder in `RunRecord.options`."""


class RunRecord(BaseModel):
    """The record of a run.

    Fields that a record of an older version lacks have their defaults; unknown fields of newer
    versions are kept.

    Attributes:
        format: version of the document.
        run_id: identifies the run; ids sort by time.
        started_at: ISO 8601 with UTC offset.
        seconds: from the start of the run to the writing of the record.
        interrupted: why the run ended early, or None.
        model: the `model_id` in its rows.
        fingerprint: fingerprint of the model package.
        versions: versions of citymask, Python and libraries.
        options: all settings of the run; Beam's options are under `beam`.
        images: counts of images by outcome.
        panoramas: counts of panoramas.
        pixels: pixels per class name, over the images done in this run.
        precisions: images done in this run by the precision of their masks.
        output_precisions: all rows of the model in the output folder, after this run, by the
            precision of their masks.
        passed_over: counts of files that are not images, by reason.
        images_per_second: images done per second of the run.
        bytes_in: bytes read from images.
        bytes_out: bytes written of masks and the files next to them.
        stages: seconds, count, mean and maximum of each stage.
        requests: requests to remote storage by kind, and their bytes.
        batches: number of batches given to the network, and their mean size.
        comparison: comparison with previous nights; only written by `citymask nightly`.
        worst_failures: most frequent kinds of failure; only written by `citymask nightly`.
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
    precisions: dict[str, int] = Field(default_factory=dict)
    output_precisions: dict[str, int] = Field(default_factory=dict)
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
        """When the run started; None if the record does not give it in ISO 8601."""
        try:
            time = datetime.fromisoformat(self.started_at)
        except ValueError:
            return None
        return time if time.tzinfo else time.replace(tzinfo=timezone.utc)

    def to_document(self) -> dict[str, Any]:
        """The record as a JSON document, without the fields of nightly runs if they are None."""
        document = self.model_dump()
        for of_nights in ("comparison", "worst_failures"):
            if document[of_nights] is None:
                del document[of_nights]
        return document

    def to_json(self) -> str:
        """The record as indented JSON; bytes of paths that are not UTF-8 are lone surrogates."""
        return json.dumps(self.to_document(), indent=2, ensure_ascii=False) + "\n"


def read_record(path: str) -> RunRecord:
    """Read a run record of this or another version.

    Raises:
        StorageError: the file cannot be read.
        ValueError: it is not a run record; the message has one line.
    """
    try:
        document = json.loads(storage.read(path))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    try:
        record = RunRecord.model_validate(document)
    except ValidationError as error:
        first, *_ = error.errors(include_url=False)
        where = ".".join(map(str, first["loc"])) or "the document"
        raise ValueError(f"{where}: {first['msg']}") from error
    if record.format > FORMAT:
        logger.info(
            "%s: format %d of a newer version; only the fields of format %d are used",
            path, record.format, FORMAT,
        )  # fmt: skip
    return record


def record_files(output: str) -> Iterator[tuple[str, RunRecord]]:
    """Path and content of each run record; unreadable ones are logged and skipped."""
    for file in storage.list_folder(f"{output}/{columns.RUNS}", ".json"):
        try:
            yield file.path, read_record(file.path)
        except (storage.StorageError, ValueError) as error:
            logger.warning("%s: not a run record (%s); skipped", file.path, error)


def read_records(output: str) -> list[RunRecord]:
    """The readable run records of an output folder, oldest first."""
    found = (record for _, record in record_files(output))
    return sorted(found, key=lambda record: (record.started_at, record.run_id))


def write_record(record: RunRecord, owner: str = "") -> None:
    """Write a run record to its output folder; see `fencing.write`.

    Bytes of paths that are not UTF-8 are written as JSON escapes, so reading restores them.
    """
    name = f"{columns.RUNS}/{record.run_id}.json"
    data = record.to_json().encode(errors="backslashreplace")
    fencing.write(record.output, name, data, owner)
