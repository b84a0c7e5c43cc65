"""Measure time and memory of listing and planning a large, almost finished archive.

Makes an archive of empty image files and the rows of all but one in a thousand of them, then times
`citymask run --dry-run` over it, including start-up.

    python benchmarks/planning.py [--images 1000000] [--rows-per-file 128]
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from models.classes import CAMVID
from models.packages import load_package
from transforms.output import columns, names
from transforms.output.column_groups import ROW_FIELDS

MODEL = load_package("default").model_id
FILES_PER_FOLDER = 1000
NEW_ONE_IN = 1000
MODIFIED_NS = 1_790_000_000_000_000_000
MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--rows-per-file", type=int, default=128)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive, output = Path(folder, "archive"), Path(folder, "out")
        made = list(make_archive(archive, arguments.images))
        write_rows(output, archive, made, arguments.rows_per_file)
        seconds, peak = plan(archive, output)
    print(
        f"{arguments.images} images, one in {NEW_ONE_IN} of them new, {os.cpu_count()} cores: "
        f"{seconds:.1f} s, peak {peak:.0f} MiB"
    )


def make_archive(archive: Path, images: int) -> Iterator[str]:
    """Make empty image files with the same modification time; yield their relative paths."""
    for number in range(images):
        folder = archive / f"{number // FILES_PER_FOLDER:05}"
        if number % FILES_PER_FOLDER == 0:
            folder.mkdir(parents=True)
        path = folder / f"{number % FILES_PER_FOLDER:04}.jpg"
        path.touch()
        os.utime(path, ns=(MODIFIED_NS, MODIFIED_NS))
        yield f"{folder.name}/{path.name}"


def write_rows(output: Path, archive: Path, images: list[str], rows_per_file: int) -> None:
    """Write the rows of all images except the last of each `NEW_ONE_IN`."""
    folder = output / columns.STATISTICS
    folder.mkdir(parents=True)
    done = [image for n, image in enumerate(images) if n % NEW_ONE_IN != NEW_ONE_IN - 1]
    pixels = [pa.field(columns.PIXELS_PREFIX + key, pa.int64()) for key in CAMVID.keys]
    schema = pa.schema([*ROW_FIELDS, *pixels, pa.field(columns.GROUP, pa.string())])
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


def plan(archive: Path, output: Path) -> tuple[float, float]:
    """Return seconds and peak memory in MiB of a dry run: start-up, listing and planning."""
    command = [sys.executable, "-m", "pipeline", "run", str(archive), "--output", str(output)]
    start = time.perf_counter()
    subprocess.run([*command, "--dry-run"], check=True)
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / MIB


if __name__ == "__main__":
    main()
