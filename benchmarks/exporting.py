"""Measure time and peak memory of exports by format and archive size.

Makes output folders of photos that all have the same mask, and times `citymask export` over them,
including start-up. Formats that read masks get a tenth of the photos.

    python benchmarks/exporting.py [--photos 20000 200000] [--format NAME ...]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.packages import load_package
from transforms.exporting import FORMATS
from transforms.output import archives, columns, names
from transforms.output.column_groups import ROW_FIELDS
from transforms.photos import mask_files

PACKAGE = load_package("default")
ROWS_PER_FILE = 1000
WIDTH, HEIGHT = 64, 48
MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--format", choices=list(FORMATS), nargs="+", default=list(FORMATS))
    arguments = parser.parse_args()
    print("| format | " + " | ".join(f"{n} photos" for n in arguments.photos) + " |")
    print("|---" * (1 + len(arguments.photos)) + "|")
    for name in arguments.format:
        measured = (measure(name, photos) for photos in arguments.photos)
        cells = [f"{seconds:.0f} s, {peak:.0f} MiB" for seconds, peak in measured]
        print(f"| `{name}` | " + " | ".join(cells) + " |", flush=True)


def measure(name: str, photos: int) -> tuple[float, float]:
    """Return seconds and peak memory in MiB of an export."""
    with tempfile.TemporaryDirectory() as folder:
        with_masks = FORMATS[name].reads_masks
        write_archive(folder, photos // 10 if with_masks else photos, with_masks)
        command = [sys.executable, "-m", "pipeline", "export", folder, "--format", name]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(command)} failed")
        return time.perf_counter() - start, usage.ru_maxrss * 1024 / MIB


def write_archive(output: str, photos: int, with_masks: bool) -> None:
    """Make an output folder: a model card, rows with positions and, if needed, masks."""
    archives.write_card(output, PACKAGE)
    random = np.random.default_rng(0)
    pixels = random.integers(0, len(PACKAGE.classes), (HEIGHT, WIDTH)).astype(np.uint8)
    first = Path(output, "mask.png")
    first.write_bytes(mask_files.encode_mask(pixels, PACKAGE.classes.palette()))
    counts = np.bincount(pixels.ravel(), minlength=len(PACKAGE.classes))
    for start in range(0, photos, ROWS_PER_FILE):
        numbers = range(start, min(photos, start + ROWS_PER_FILE))
        images = [f"{number // ROWS_PER_FILE:05}/{number:08}.jpg" for number in numbers]
        table = made_rows(output, images, counts, random)
        for mask in table[columns.MASK].to_pylist() if with_masks else ():
            Path(output, mask).parent.mkdir(parents=True, exist_ok=True)
            os.link(first, Path(output, mask))
        file = Path(output, columns.STATISTICS, f"{start:08}.parquet")
        file.parent.mkdir(exist_ok=True)
        pq.write_table(table, file)


def made_rows(
    output: str, images: list[str], counts: np.ndarray, random: np.random.Generator
) -> pa.Table:
    """Make rows of photos at random positions in a town; each photo's URI is that of its mask."""
    keys = zip(PACKAGE.classes.keys, counts.tolist(), strict=True)
    values = {
        columns.IMAGE: images,
        columns.URI: [f"{output}/{names.mask_path(columns.MASKS, image)}" for image in images],
        columns.LATITUDE: random.uniform(55.6, 55.8, len(images)),
        columns.LONGITUDE: random.uniform(13.1, 13.3, len(images)),
        columns.MASK: [names.mask_path(columns.MASKS, image) for image in images],
        columns.GROUP: [names.group_of(image) for image in images],
        columns.VERSION: ["1-1"] * len(images),
        columns.MODEL: [PACKAGE.model_id] * len(images),
        columns.RUN_ID: ["20261123T213000Z-3f2a1b"] * len(images),
        columns.WIDTH: [WIDTH] * len(images),
        columns.HEIGHT: [HEIGHT] * len(images),
    } | {columns.PIXELS_PREFIX + key: [count] * len(images) for key, count in keys}
    schema = pa.schema(
        [
            *ROW_FIELDS,
            *(pa.field(columns.PIXELS_PREFIX + key, pa.int64()) for key in PACKAGE.classes.keys),
            pa.field(columns.GROUP, pa.string()),
        ]
    )
    arrays = [
        pa.array(values.get(field.name, [None] * len(images)), field.type) for field in schema
    ]
    return pa.table(arrays, schema=schema)


if __name__ == "__main__":
    main()
