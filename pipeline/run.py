"""A run: checks before any work, the graph on its runner, and the run record after it."""

import json
import os
import platform
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from models.merging import MergedClasses
from models.packages import ModelPackage, load_package
from pipeline import __version__
from pipeline.graph import Job, build_graph
from transforms import columns, listing, names, planning, rows, segmenting, stopping, storage
from transforms.locking import LOCK, OutputLock
from transforms.manifests import ManifestError
from transforms.segmenting import SegmentOptions


class ConfigurationError(ValueError):
    """The run cannot begin as it was asked for; the message says what to change."""


@dataclass(frozen=True)
class RunRequest:
    """What a user asked for.

    Attributes:
        inputs: directories, glob patterns, images, shards and manifests.
        output: the output folder.
        model: name of a shipped model, or path of a model package.
        overlay: whether to write a blended JPEG beside each mask.
        confidence: whether to write a confidence image beside each mask, and means into its row.
        max_pixels: larger photos are refused.
        batch_size: photos per call of the network.
        unit_size: most images in a work unit.
        label_ids: whether masks hold the label ids of the classes' data set.
        merge: CSV file that merges classes, or None.
    """

    inputs: tuple[str, ...]
    output: str
    model: str
    overlay: bool
    confidence: bool
    max_pixels: int
    batch_size: int
    unit_size: int
    label_ids: bool
    merge: str | None


@contextmanager
def prepared(request: RunRequest, run_id: str) -> Iterator[tuple[Job, list[str]]]:
    """Check a request and hold the lock of its output folder.

    As a context it gives the job, and notes that the user should read before the work begins.

    Raises:
        ConfigurationError: an INPUT is missing, empty or of no known kind, a mapping does not fit,
            the output folder cannot be written.
        PackageError: the model is unknown or damaged.
        LockedError: another run holds the output folder.
    """
    if storage.is_remote(request.output):
        raise ConfigurationError(f"{request.output}: this version writes to local folders only")
    output = os.path.abspath(request.output)
    package = replace(load_package(request.model), label_ids=request.label_ids)
    merged = _read_merged(request.merge, package) if request.merge else None
    for spec in request.inputs:
        _check_input(spec, output)
    with locked(output, run_id):
        storage.remove_unfinished(output)
        stopping.withdraw(output)
        mask_folder, notes = _mask_folder(output, package)
        options = SegmentOptions(
            output=output,
            run_id=run_id,
            overlay=request.overlay,
            confidence=request.confidence,
            max_pixels=request.max_pixels,
            batch_size=request.batch_size,
            merged=merged,
        )
        fold_case = _folds_case(output)
        yield (
            Job(request.inputs, package, options, mask_folder, fold_case, request.unit_size),
            notes,
        )


@contextmanager
def locked(output: str, owner: str) -> Iterator[None]:
    """Hold the lock of an output folder, as `owner`: a run id, or what else is done there.

    Raises:
        ConfigurationError: the folder cannot be written.
        LockedError: somebody else holds it.
    """
    lock = OutputLock(output, owner)
    try:
        lock.acquire()
    except OSError as error:
        raise ConfigurationError(
            f"--output: {output} is not a folder that can be written ({error.strerror}); "
            "give another folder or change its permissions"
        ) from error
    try:
        yield
    finally:
        lock.release()


def execute(job: Job, beam_options: PipelineOptions) -> PipelineResult:
    """Run the graph to its end.

    Raises:
        ConfigurationError: Beam does not know the runner or misses an option for it.
    """
    try:
        pipeline = beam.Pipeline(options=beam_options)
    except ValueError as error:
        raise ConfigurationError(f"Beam: {error}") from error
    build_graph(pipeline, job)
    result = pipeline.run()
    result.wait_until_finish()
    return result


def new_run_id(now: datetime) -> str:
    """A name for a run that sorts by time: `20261122T213000Z-3f2a1b`."""
    return f"{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"


def make_record(
    job: Job,
    beam_arguments: dict[str, Any],
    result: PipelineResult,
    started: datetime,
    seconds: float,
) -> dict[str, Any]:
    """The run record: versions, model, options, counts, and where the time went."""
    counters, distributions = _metrics(result)
    done = counters.get((segmenting.COUNTERS, segmenting.DONE), 0)
    prefix = "passed_over: "
    return {
        "run_id": job.options.run_id,
        "started_at": started.isoformat(),
        "seconds": round(seconds, 3),
        "interrupted": stopping.reason(job.options.output),
        "model": job.package.model_id,
        "fingerprint": job.package.fingerprint,
        "versions": {
            "citymask": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("apache-beam", "tensorflow", "pillow", "numpy")},
        },
        "options": {
            "inputs": list(job.inputs),
            "output": job.options.output,
            "overlay": job.options.overlay,
            "confidence": job.options.confidence,
            "max_pixels": job.options.max_pixels,
            "batch_size": job.options.batch_size,
            "unit_size": job.unit_size,
            "label_ids": job.package.label_ids,
            "merged": asdict(job.options.merged) if job.options.merged else None,
            "threads": job.options.threads,
            "beam": beam_arguments,
        },
        "images": {
            "found": counters.get((listing.COUNTERS, "images"), 0),
            "done": done,
            "failed": counters.get((segmenting.COUNTERS, segmenting.FAILED), 0),
            "skipped": counters.get((planning.COUNTERS, "skipped"), 0),
            "left": counters.get((segmenting.COUNTERS, segmenting.LEFT), 0),
            "replaced": counters.get((planning.COUNTERS, "replaced"), 0),
            "given_twice": counters.get((planning.COUNTERS, "duplicates"), 0),
        },
        "passed_over": {
            name.removeprefix(prefix): count
            for (_, name), count in sorted(counters.items())
            if name.startswith(prefix)
        },
        "images_per_second": round(done / seconds, 2),
        "bytes_in": counters.get((segmenting.COUNTERS, segmenting.BYTES_IN), 0),
        "bytes_out": counters.get((segmenting.COUNTERS, segmenting.BYTES_OUT), 0),
        "stages": {
            name.removesuffix(segmenting.MICROSECONDS): {
                "seconds": round(d.sum / 1e6, 3),
                "count": d.count,
                "mean_ms": round(d.mean / 1e3, 3),
                "max_ms": round(d.max / 1e3, 3),
            }
            for name, d in sorted(distributions.items())
            if name.endswith(segmenting.MICROSECONDS)
        },
        "batches": {
            "count": distributions[segmenting.BATCH_SIZE].count,
            "mean_size": round(distributions[segmenting.BATCH_SIZE].mean, 2),
        }
        if segmenting.BATCH_SIZE in distributions
        else {"count": 0, "mean_size": 0.0},
    }


def write_record(record: dict[str, Any], output: str) -> None:
    """Write a run record."""
    name = f"{columns.RUNS}/{record['run_id']}.json"
    storage.write(output, name, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())


def utc_now() -> datetime:
    """The time now, in UTC, to the second."""
    return datetime.now(timezone.utc).replace(microsecond=0)


def _read_merged(path: str, package: ModelPackage) -> MergedClasses:
    try:
        return MergedClasses.read(path, package.classes)
    except OSError as error:
        raise ConfigurationError(f"--merge: {path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"--merge: {error}") from error


def _check_input(spec: str, output: str) -> None:
    try:
        found = listing.first_image(spec, output)
    except (listing.InputError, ManifestError, storage.StorageError) as error:
        raise ConfigurationError(str(error)) from error
    if found is None:
        raise ConfigurationError(
            f"{spec}: nothing to segment; found no file with an image's extension "
            f"(.jpg, .png, .webp, .tif, ...) and no shard (.tar, .tfrecord)"
        )


def _folds_case(output: str) -> bool:
    """Whether the output folder takes names that differ only in case for one."""
    return os.path.exists(os.path.join(output, LOCK.upper()))


def _mask_folder(output: str, package: ModelPackage) -> tuple[str, list[str]]:
    """`masks`, or a folder of its own for a model that is not the first one in this output."""
    present = rows.models_in(output)
    own = present.pop(package.model_id, None)
    if own:
        return sorted(own)[0], []
    if not any(columns.MASKS in folders for folders in present.values()):
        return columns.MASKS, []
    folder = f"{columns.MASKS}-{names.image_name(package.model_id).replace('/', '-')}"
    others = ", ".join(sorted(present))
    return folder, [
        f"{output} holds results of {others}; they stay as they are. All images are done anew for "
        f"{package.model_id}: its rows stand beside the others in {columns.STATISTICS}/, its masks "
        f"go to {folder}/."
    ]


def _metrics(result: PipelineResult) -> tuple[dict[tuple[str, str], int], dict[str, Any]]:
    """Counters by namespace and name, distributions by name."""
    query = result.metrics().query()
    counters = {(m.key.metric.namespace, m.key.metric.name): m.result for m in query["counters"]}
    return counters, {m.key.metric.name: m.result for m in query["distributions"]}
