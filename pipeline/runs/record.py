"""The record of a run, made from its request, its job and the Beam metrics."""

import platform
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline import __version__
from pipeline.graph import Job
from pipeline.runners import Metrics
from pipeline.runs.request import RunRequest
from transforms.flow import request_counters
from transforms.inputs import dates, listing
from transforms.output import columns, parquet, stopping, summarising
from transforms.output.run_records import RunRecord
from transforms.output.summary import Summary, read_summary
from transforms.planning import counters as planned
from transforms.planning import gating
from transforms.segmenting import measurements
from transforms.storage import metering

IMAGES = {
    "found": (listing.COUNTERS, "images"),
    "done": (measurements.COUNTERS, measurements.DONE),
    "failed": (measurements.COUNTERS, measurements.FAILED),
    "unreadable": (measurements.COUNTERS, measurements.UNREADABLE),
    **{
        name: (planned.COUNTERS, name)
        for name in (
            planned.SKIPPED,
            planned.QUARANTINED,
            planned.GATED,
            planned.NEW,
            planned.REPLACED,
            planned.RETRIED,
            planned.REDONE,
            planned.REMOVED,
            planned.DUPLICATES,
        )
    },
    "outside_dates": (dates.COUNTERS, dates.OUTSIDE),
    columns.DUPLICATE: (gating.COUNTERS, columns.DUPLICATE),
    columns.BLURRED: (gating.COUNTERS, columns.BLURRED),
}
"""The counts of images in a run record, and the Beam counters they come from."""

LIBRARIES = (
    "apache-beam", "keras", "tensorflow", "jax", "openvino", "onnxruntime", "onnxruntime-gpu",
    "ai-edge-litert", "pillow", "numpy",
)  # fmt: skip
"""Libraries whose versions a run record states, if they are installed."""

FURTHER_PHOTO = "further photo of a file"
"""Reason to pass over the other photos of a file that holds several."""

PASSED_OVER = "passed_over: "
"""Prefix of the counters of files that are no images; the reason follows."""


def new_run_id(now: datetime) -> str:
    """A name for a run that sorts by time: `20261122T213000Z-3f2a1b`."""
    return f"{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"


def make_record(
    request: RunRequest,
    job: Job,
    beam_options: Mapping[str, Any],
    metrics: Metrics,
    started: datetime,
    seconds: float,
) -> RunRecord:
    """The run record: versions, model, options, counts, and where the time went."""
    if metrics.known:
        images = count_images(metrics)
        output_precisions = metrics.in_namespace(summarising.PRECISIONS)
    else:
        summary = read_summary(job.options.output)
        images = count_results(job, summary)
        output_precisions = summary.precisions or {}
    segmenting = metrics.in_namespace(measurements.COUNTERS)
    return RunRecord(
        run_id=job.options.run_id,
        started_at=started.isoformat(timespec="milliseconds"),
        seconds=round(seconds, 3),
        interrupted=stopping.reason(job.options.output)
        or (stopping.MAX_IMAGES if images["left"] else None),
        model=job.model_id,
        fingerprint=job.package.fingerprint,
        versions={
            "citymask": __version__,
            "python": platform.python_version(),
            **_versions(LIBRARIES),
        },
        options=_options(request, job, beam_options),
        images=images,
        panoramas={
            "done": segmenting.get(measurements.PANORAMAS, 0),
            measurements.CONTRADICTIONS: segmenting.get(measurements.CONTRADICTIONS, 0),
        },
        pixels=metrics.in_namespace(measurements.PIXELS),
        precisions=metrics.in_namespace(measurements.PRECISIONS),
        output_precisions=output_precisions,
        passed_over=_passed_over(metrics),
        images_per_second=round(images["done"] / seconds, 2),
        bytes_in=segmenting.get(measurements.BYTES_IN, 0),
        bytes_out=segmenting.get(measurements.BYTES_OUT, 0),
        stages=_stages(metrics),
        requests=_requests(metrics),
        batches=_batches(metrics),
    )


def utc_now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(timezone.utc)


def count_images(metrics: Metrics) -> dict[str, int]:
    """What became of the images, under the names of the run record."""
    counters = metrics.counters
    left = ((measurements.COUNTERS, measurements.LEFT), (planned.COUNTERS, planned.BEYOND))
    return {
        **{name: counters.get(key, 0) for name, key in IMAGES.items()},
        "left": sum(counters.get(key, 0) for key in left),
    }


def count_results(job: Job, summary: Summary) -> dict[str, int]:
    """What became of the images as far as the output folder tells, for runners without metrics."""
    output, run_id = job.options.output, job.options.run_id
    files = parquet.files_in(output, columns.STATISTICS)
    tables = (table for _, table in parquet.read_tables(files, [columns.RUN_ID]))
    return {
        **summary.images.model_dump(exclude_none=True),
        "done": sum(table[columns.RUN_ID].to_pylist().count(run_id) for table in tables),
        "left": summary.interrupted.left if summary.interrupted else 0,
    }


def _versions(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _options(request: RunRequest, job: Job, beam_options: Mapping[str, Any]) -> dict[str, Any]:
    """What the run was asked for: all settings, paths absolute."""
    return {
        **request.model_dump(mode="json", exclude={"inputs", "output", "days"}),
        "inputs": list(job.inputs),
        "output": job.options.output,
        "merged": asdict(job.options.merged) if job.options.merged else None,
        "dates": str(request.dates) if request.dates else None,
        "beam": dict(beam_options),
    }


def _passed_over(metrics: Metrics) -> dict[str, int]:
    """What is no image, and images that stand in the file of another, by reason."""
    listed = {
        name.removeprefix(PASSED_OVER): count
        for name, count in metrics.in_namespace(listing.COUNTERS).items()
        if name.startswith(PASSED_OVER)
    }
    further = metrics.in_namespace(measurements.COUNTERS).get(measurements.FURTHER, 0)
    return dict(sorted({**listed, **({FURTHER_PHOTO: further} if further else {})}.items()))


def _stages(metrics: Metrics) -> dict[str, Any]:
    """Time per stage."""
    return {
        name.removesuffix(measurements.MICROSECONDS): {
            "seconds": round(found.sum / 1e6, 3),
            "count": found.count,
            "mean_ms": round(found.mean / 1e3, 3),
            "max_ms": round(found.max / 1e3, 3),
        }
        for name, found in sorted(metrics.distributions.items())
        if name.endswith(measurements.MICROSECONDS)
    }


def _requests(metrics: Metrics) -> dict[str, int]:
    """Requests to remote storage, and their bytes: of all workers, and what is left to report."""
    total = Counter(metering.take())
    total.update(metrics.in_namespace(request_counters.COUNTERS))
    return dict(sorted(total.items()))


def _batches(metrics: Metrics) -> dict[str, Any]:
    """Batches that the network was given."""
    found = metrics.distributions.get(measurements.BATCH_SIZE)
    if found is None:
        return {"count": 0, "mean_size": 0.0}
    return {"count": found.count, "mean_size": round(found.mean, 2)}
