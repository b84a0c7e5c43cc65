"""Listing and planning a large archive of which nearly everything is done: seconds and memory.

Makes an archive of empty image files and the rows of all but one in a thousand of them, then lists
and plans it as a nightly run does, in a process of its own.

    python benchmarks/planning.py [--images 1000000] [--rows-per-file 128]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from models.classes import CAMVID
from transforms import DropDone, ListImages, columns, names, rows
from transforms.planning import TODO

MODEL = "default@0123456789ab"
FILES_PER_FOLDER = 1000
NEW_ONE_IN = 1000
MODIFIED_NS = 1_790_000_000_000_000_000
MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--rows-per-file", type=int, default=128)
    parser.add_argument("--plan", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plan:
        print(json.dumps(plan(*arguments.plan)))
        return
    with tempfile.TemporaryDirectory() as folder:
        archive, output = Path(folder, "archive"), Path(folder, "out")
        made = list(make_archive(archive, arguments.images))
        write_rows(output, archive, made, arguments.rows_per_file)
        command = [sys.executable, __file__, "--plan", str(archive), str(output)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    print(
        f"{arguments.images} images, {found['todo']} of them new, {os.cpu_count()} cores: "
        f"{found['seconds']:.1f} s, peak {found['peak_mib']:.0f} MiB"
    )


def make_archive(archive: Path, images: int) -> Iterator[str]:
    """Make empty image files of one modification time; yield their relative paths."""
    for number in range(images):
        folder = archive / f"{number // FILES_PER_FOLDER:05}"
        if number % FILES_PER_FOLDER == 0:
            folder.mkdir(parents=True)
        path = folder / f"{number % FILES_PER_FOLDER:04}.jpg"
        path.touch()
        os.utime(path, ns=(MODIFIED_NS, MODIFIED_NS))
        yield f"{folder.name}/{path.name}"


def write_rows(output: Path, archive: Path, images: list[str], rows_per_file: int) -> None:
    """Write the rows of all images but the last of each `NEW_ONE_IN`."""
    folder = output / columns.STATISTICS
    folder.mkdir(parents=True)
    done = [image for n, image in enumerate(images) if n % NEW_ONE_IN != NEW_ONE_IN - 1]
    pixels = [pa.field(columns.PIXELS_PREFIX + key, pa.int64()) for key in CAMVID.keys]
    schema = pa.schema([*rows.ROW_FIELDS, *pixels, pa.field(columns.GROUP, pa.string())])
    for number, start in enumerate(range(0, len(done), rows_per_file)):
        part = done[start : start + rows_per_file]
        values = {
            columns.IMAGE: part,
            columns.URI: [f"{archive}/{image}" for image in part],
            columns.MASK: [names.mask_path(columns.MASKS, image) for image in part],
            columns.GROUP: [names.group_of(image) for image in part],
            columns.VERSION: [f"0-{MODIFIED_NS}"] * len(part),
            columns.MODEL: [MODEL] * len(part),
            columns.RUN_ID: ["run"] * len(part),
            columns.WIDTH: [1] * len(part),
            columns.HEIGHT: [1] * len(part),
        }
        arrays = [
            pa.array(values.get(field.name, [None] * len(part)), field.type) for field in schema
        ]
        pq.write_table(pa.table(arrays, schema=schema), folder / f"{number:08}.parquet")


def plan(archive: str, output: str) -> dict[str, float]:
    """List and plan; the number of images to do, seconds and peak memory."""
    start = time.perf_counter()
    pipeline = beam.Pipeline(runner=FnApiRunner())
    refs = pipeline | beam.Create([archive]) | ListImages(output)
    todo = (refs | DropDone(output, MODEL))[TODO]
    _ = todo | beam.Map(lambda _: beam.metrics.Metrics.counter("benchmark", "todo").inc())
    result = pipeline.run()
    result.wait_until_finish()
    query = beam.metrics.MetricsFilter().with_namespace("benchmark")
    (counter,) = result.metrics().query(query)["counters"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    return {
        "todo": counter.result, "seconds": time.perf_counter() - start, "peak_mib": peak
    }  # fmt: skip


if __name__ == "__main__":
    main()
