"""Measure the report of a large archive: build time, memory and page size.

Makes rows of photos along the streets of several cities, in files like those of `citymask compact`,
and times `citymask report` over them, including start-up. There are no photos or masks, so the
gallery shows neither. With Chromium and Playwright, the time until the page is interactive is
measured as well.

    python benchmarks/report.py [--images 1000000] [--output DIR]
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

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# ruff: noqa: E402
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.packages import ModelPackage, load_package
from transforms.output import archives, columns, names
from transforms.output.column_groups import ROW_FIELDS
from transforms.output.compacting import DEFAULT_LIMITS
from transforms.reporting import contract

CITIES = {
    "Lund": (55.704, 13.193),
    "Trier": (49.757, 6.641),
    "Stuttgart": (48.778, 9.180),
    "Rome": (41.893, 12.483),
    "Singapore": (1.290, 103.852),
}
CITY_KM = 6.0
"""Standard deviation of the distance of streets from the centre of their city."""

PHOTOS_PER_STREET = 250
METRES_BETWEEN_PHOTOS = 8.0
METRES_PER_DEGREE = 111_320.0
WIDTH, HEIGHT = 2048, 1024
RARE = 0.6
"""Probability that one of the rarer classes is absent from a photo."""

MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path, help="Folder to keep the archive and its report in.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        output = arguments.output or Path(folder)
        write_archive(output, arguments.images)
        seconds, peak = build_report(output)
        data, page = sizes(output / contract.FOLDER)
        print(
            f"{arguments.images} photos, {os.cpu_count()} cores: built in {seconds:.1f} s, "
            f"peak {peak:.0f} MiB; the page has {page:.2f} MB, of which data.js {data:.2f} MB"
        )
        print(seconds_to_interactive(output / contract.FOLDER))


def write_archive(output: Path, images: int) -> None:
    """Write the rows of an archive, and the card of their model."""
    package = load_package("default")
    archives.write_card(str(output), package)
    (output / columns.STATISTICS).mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, images, DEFAULT_LIMITS.rows_per_file)):
        count = min(DEFAULT_LIMITS.rows_per_file, images - start)
        table = pa.concat_tables(streets(package, start, count))
        pq.write_table(table, output / columns.STATISTICS / f"merged-{number:04}.parquet")


def streets(package: ModelPackage, start: int, count: int) -> Iterator[pa.Table]:
    """Yield rows of `count` photos from number `start`, one table per street."""
    for first in range(start, start + count, PHOTOS_PER_STREET):
        number = first // PHOTOS_PER_STREET
        photos = min(PHOTOS_PER_STREET, start + count - first)
        yield street(package, number, photos, np.random.default_rng(number))


def street(package: ModelPackage, number: int, photos: int, random: np.random.Generator):
    """Make rows of photos along one street, with gradual turns and changes of class shares."""
    city = list(CITIES)[number % len(CITIES)]
    group = f"{city} street {number // len(CITIES):05}"
    images = [f"{city}/{group}/{n:04}.jpg" for n in range(photos)]
    headings = (random.uniform(0, 360) + random.normal(0, 2, photos).cumsum()) % 360
    latitudes, longitudes = _walk(CITIES[city], headings, random)
    pixels = _pixels(len(package.classes), photos, random)
    values = {
        columns.IMAGE: images,
        columns.URI: [f"/archive/{image}" for image in images],
        columns.VERSION: ["0-0"] * photos,
        columns.WIDTH: [WIDTH] * photos,
        columns.HEIGHT: [HEIGHT] * photos,
        columns.LATITUDE: latitudes,
        columns.LONGITUDE: longitudes,
        columns.CAPTURED_AT: np.datetime64("2026-06-01T08:00", "us")
        + np.arange(photos) * np.timedelta64(1, "s"),
        columns.HEADING: headings,
        columns.MASK: [names.mask_path(columns.MASKS, image) for image in images],
        columns.MODEL: [package.model_id] * photos,
        columns.RUN_ID: ["20260601T210000Z-000000"] * photos,
    }
    counted = [pa.field(columns.PIXELS_PREFIX + key, pa.int64()) for key in package.classes.keys]
    values |= {field.name: pixels[:, c] for c, field in enumerate(counted)}
    values[columns.GROUP] = [group] * photos
    schema = pa.schema([*ROW_FIELDS, *counted, pa.field(columns.GROUP, pa.string())])
    return pa.table(
        {name: pa.array(values[name], schema.field(name).type) for name in schema.names}
    )


def _walk(
    middle: tuple[float, float], headings: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of consecutive photos, in degrees."""
    begin = random.normal(0, CITY_KM * 1000, 2)
    north = begin[0] + (np.cos(np.radians(headings)) * METRES_BETWEEN_PHOTOS).cumsum()
    east = begin[1] + (np.sin(np.radians(headings)) * METRES_BETWEEN_PHOTOS).cumsum()
    latitudes = middle[0] + north / METRES_PER_DEGREE
    return latitudes, middle[1] + east / METRES_PER_DEGREE / np.cos(np.radians(middle[0]))


def _pixels(classes: int, photos: int, random: np.random.Generator) -> np.ndarray:
    """Pixels per class, int64 `(photos, classes)`, whose sums are those of a photo."""
    usual = random.dirichlet(np.linspace(4, 0.3, classes))
    shares = random.gamma(usual * 40 + 1e-3, size=(photos, classes)) + 1e-9
    rare = np.arange(classes) >= classes // 2
    shares *= ~(rare & (random.uniform(size=shares.shape) < RARE))
    pixels = np.floor(shares / shares.sum(axis=1, keepdims=True) * WIDTH * HEIGHT).astype(np.int64)
    pixels[:, 0] += WIDTH * HEIGHT - pixels.sum(axis=1)
    return pixels


def build_report(output: Path) -> tuple[float, float]:
    """Return seconds and peak memory in MiB of the command, including start-up."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pipeline", "report", str(output)], check=True)
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / MIB


def sizes(report: Path) -> tuple[float, float]:
    """Return megabytes of the data, and of the whole page without its photos."""
    photos = report / Path(contract.PHOTOS).name
    found = {path: path.stat().st_size / 1e6 for path in report.rglob("*") if path.is_file()}
    page = sum(size for path, size in found.items() if photos not in path.parents)
    return found[report / Path(contract.DATA).name], page


def seconds_to_interactive(report: Path) -> str:
    """Return a line with the time until the page is interactive."""
    try:
        from benchmarks import interactive
    except ImportError as error:
        return f"not timed in a browser: {error}"
    if not interactive.CHROMIUM:
        return "not timed in a browser: there is no Chromium"
    with interactive.open_browser() as browser:
        measured = interactive.measure(browser, report)
    return f"can be used after {measured.seconds:.2f} s"


if __name__ == "__main__":
    main()
