"""The run record: what a run did, with what, and how long it took."""

import json
import platform
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import grpc
from apache_beam.runners.runner import PipelineResult

from pipeline import __version__
from pipeline.console import logger
from pipeline.graph import Job
from transforms import storage
from transforms.flow import request_counters
from transforms.inputs import dates, listing
from transforms.output import columns, rows, stopping
from transforms.planning import counters as planned
from transforms.planning import gating
from transforms.segmenting import measurements
from transforms.storage import metering

IMAGES = {
    "found": (listing.COUNTERS, "images"),
    "done": (measurements.COUNTERS, measurements.DONE),
    "failed": (measurements.COUNTERS, measurements.FAILED),
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

LIBRARIES = ("apache-beam", "tensorflow", "openvino", "pillow", "numpy")
"""What a run record names the versions of."""


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
    images = count_images(result) if counters else count_results(job)
    prefix = "passed_over: "
    return {
        "run_id": job.options.run_id,
        "started_at": started.isoformat(timespec="milliseconds"),
        "seconds": round(seconds, 3),
        "interrupted": stopping.reason(job.options.output)
        or (stopping.MAX_IMAGES if images["left"] else None),
        "model": job.package.model_id,
        "fingerprint": job.package.fingerprint,
        "versions": {
            "citymask": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
        },
        "options": {
            "inputs": list(job.inputs),
            "output": job.options.output,
            "overlay": job.options.overlay,
            "confidence": job.options.confidence,
            "max_pixels": job.options.max_pixels,
            "projection": job.options.projection.value,
            "engine": job.options.engine.name.value,
            "precision": job.options.engine.precision.value,
            "batch_size": job.options.engine.batch_size,
            "unit_size": job.unit_size,
            "windows": job.package.windows,
            "label_ids": job.package.label_ids,
            "merged": asdict(job.options.merged) if job.options.merged else None,
            "policy": asdict(job.policy),
            "dates": str(job.dates) if job.dates else None,
            "max_images": job.max_images,
            "beam": beam_arguments,
        },
        "images": images,
        "panoramas": {
            "done": counters.get((measurements.COUNTERS, measurements.PANORAMAS), 0),
            measurements.CONTRADICTIONS: counters.get(
                (measurements.COUNTERS, measurements.CONTRADICTIONS), 0
            ),
        },
        "pixels": {
            name: count for (space, name), count in counters.items() if space == measurements.PIXELS
        },
        "passed_over": {
            name.removeprefix(prefix): count
            for (_, name), count in sorted(counters.items())
            if name.startswith(prefix)
        },
        "images_per_second": round(images["done"] / seconds, 2),
        "bytes_in": counters.get((measurements.COUNTERS, measurements.BYTES_IN), 0),
        "bytes_out": counters.get((measurements.COUNTERS, measurements.BYTES_OUT), 0),
        "stages": {
            name.removesuffix(measurements.MICROSECONDS): {
                "seconds": round(d.sum / 1e6, 3),
                "count": d.count,
                "mean_ms": round(d.mean / 1e3, 3),
                "max_ms": round(d.max / 1e3, 3),
            }
            for name, d in sorted(distributions.items())
            if name.endswith(measurements.MICROSECONDS)
        },
        "requests": _requests(counters),
        "batches": {
            "count": distributions[measurements.BATCH_SIZE].count,
            "mean_size": round(distributions[measurements.BATCH_SIZE].mean, 2),
        }
        if measurements.BATCH_SIZE in distributions
        else {"count": 0, "mean_size": 0.0},
    }


def write_record(record: dict[str, Any]) -> None:
    """Write a run record to the output folder that it names.

    Bytes of paths that are no UTF-8 are escaped as JSON has it, and so come back as they were.
    """
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    name = f"{columns.RUNS}/{record['run_id']}.json"
    storage.write(record["options"]["output"], name, text.encode(errors="backslashreplace"))


def utc_now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(timezone.utc)


def count_images(result: PipelineResult) -> dict[str, int]:
    """What became of the images, under the names of the run record."""
    counters, _ = _metrics(result)
    left = ((measurements.COUNTERS, measurements.LEFT), (planned.COUNTERS, planned.BEYOND))
    return {
        **{name: counters.get(key, 0) for name, key in IMAGES.items()},
        "left": sum(counters.get(key, 0) for key in left),
    }


def count_results(job: Job) -> dict[str, int]:
    """What became of the images as far as the output folder tells, for runners without metrics."""
    output, run_id = job.options.output, job.options.run_id
    summary = json.loads(storage.read(f"{output}/{columns.SUMMARY_JSON}"))
    files = rows.parquet_files(output, columns.STATISTICS)
    tables = (table for _, table in rows.read_tables(files, [columns.RUN_ID]))
    return {
        **summary["images"],
        "done": sum(table[columns.RUN_ID].to_pylist().count(run_id) for table in tables),
        "left": summary.get("interrupted", {}).get("left", 0),
    }


def _requests(counters: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """Requests to remote storage, and their bytes: of all workers, and what is left to report."""
    total = Counter(metering.take())
    total.update(
        {name: n for (space, name), n in counters.items() if space == request_counters.COUNTERS}
    )
    return dict(sorted(total.items()))


def _metrics(result: PipelineResult) -> tuple[dict[tuple[str, str], int], dict[str, Any]]:
    """Counters by namespace and name, summed over the steps, and distributions by name.

    Both are empty where the runner has none.
    """
    try:
        query = result.metrics().query()
    except (NotImplementedError, grpc.RpcError) as error:
        logger.info("the runner gives no metrics: %s", type(error).__name__)
        return {}, {}
    counters: Counter[tuple[str, str]] = Counter()
    for entry in query["counters"]:
        # Beam gives None for the 0 of a portable runner.
        counters[entry.key.metric.namespace, entry.key.metric.name] += entry.result or 0
    return counters, {m.key.metric.name: m.result for m in query["distributions"]}
