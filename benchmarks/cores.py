"""Measure how long a photo holds Python's lock (GIL), and what follows for machines of many cores.

`citymask run` segments many photos and few; the difference is what a photo costs: CPU time, and the
part of it during which a thread holds the lock. The table is calculated from these two: each core
computes without the lock, then waits for it behind the others, as in the machine repair model.

    python benchmarks/cores.py [--images N] [--model NAME_OR_PATH] [--photos DIR] [--size WxH]
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# ruff: noqa: E402
from rich.console import Console

from benchmarks import arms
from benchmarks.archives import bring_to_size
from benchmarks.arms import Bench
from benchmarks.reporting import Table
from benchmarks.sections import START_IMAGES, Place
from models.speed import machine
from pipeline.runs.sharing import CORES_OF_A_PROCESS

CORES = (2, 4, 8, 16, 32, 64)
LOCK, NO_LOCK = "with_lock", "without_lock"


@dataclass(frozen=True)
class Cost:
    """What a photo costs, in milliseconds of CPU time.

    Attributes:
        total: of all threads.
        lock: of threads that hold Python's lock.
    """

    total: float
    lock: float

    def speed(self, cores: int) -> float:
        """Photos per second of one process, by mean value analysis of the repair model."""
        waiting = speed = 0.0
        for busy in range(1, cores + 1):
            with_lock = self.lock * (1 + waiting)
            speed = busy / (self.total - self.lock + with_lock)
            waiting = speed * with_lock
        return 1e3 * speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=ROOT / "demo" / "photos", metavar="DIR")
    parser.add_argument("--size", default="2048x1024", metavar="WxH", help="of photos")
    parser.add_argument("--images", type=int, default=1000, metavar="N")
    parser.add_argument("--model", default="default", help="name or path of a model")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        width, height = map(int, arguments.size.split("x"))
        photos = bring_to_size(arguments.photos, width, height, work / "photos")
        place = Place(Bench(arguments.model, Path()), photos, work)
        place.run(arms.PYTHON_LOCK, START_IMAGES)  # Fills the caches of converted code.
        cost = measure(place, arguments.images)
    print(
        f"{machine()}; {arguments.images} photos of {arguments.size}, model {arguments.model}: "
        f"{cost.total:.1f} ms of CPU time a photo, {cost.lock:.2f} ms of it with Python's lock"
    )
    table(cost).show(Console())


def measure(place: Place, images: int) -> Cost:
    start, full = (place.run(arms.PYTHON_LOCK, number) for number in (START_IMAGES, images))
    ticks = {name: full.details[name] - start.details[name] for name in (LOCK, NO_LOCK)}
    running = full.beyond(start)
    total = 1e3 * running.cpu_seconds / running.images
    return Cost(total, total * ticks[LOCK] / sum(ticks.values()))


def table(cost: Cost) -> Table:
    """Speeds of one process, and of as many as `citymask run` starts, by number of cores."""
    rows = []
    for cores in CORES:
        processes = -(-cores // CORES_OF_A_PROCESS)
        one, several = cost.speed(cores), processes * cost.speed(cores // processes)
        most = 1e3 * cores / cost.total
        rows.append(
            [
                str(cores), f"{one:.0f}", f"{one / most:.0%}",
                str(processes), f"{several:.0f}", f"{several / most:.0%}",
            ]
        )  # fmt: skip
    return Table(
        "Images per second by the number of cores",
        ["cores", "one process", "cores busy", "processes", "together", "cores busy"],
        rows,
        [f"One process is never faster than {1e3 / cost.lock:.0f} images/s: the lock is taken."],
    )


if __name__ == "__main__":
    main()
