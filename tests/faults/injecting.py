"""Faults of the machine: a full disk, a folder that cannot be written, work that is done twice."""

import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.runs import PATIENCE, PROCESSES, UNIT_SIZE, City
from transforms.flow.records import ImageRef, WorkUnit
from transforms.inputs import listing
from transforms.planning import units
from transforms.planning.deciding import plan_new
from transforms.segmenting.options import SegmentOptions
from transforms.segmenting.stream import segment_unit
from transforms.segmenting.unit import UnitSegmenter


class SmallDisk:
    """A file system of few bytes, mounted where only this object sees it.

    Raises:
        OSError: this system lets nobody mount in a name space of his own.
    """

    PAGE = 4096

    def __init__(self, folder: Path, pages: int = 4096):
        folder.mkdir(parents=True)
        self._holder = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount", "sh"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._holder.stdin.write(
            f"mount -t tmpfs -o size={pages * self.PAGE} tmpfs '{folder}' && echo mounted\n"
            "exec sleep infinity\n"
        )
        self._holder.stdin.flush()
        if self._holder.stdout.readline() != "mounted\n":
            self.close()
            raise OSError("no name space to mount in")
        self.path = Path(f"/proc/{self._holder.pid}/root{folder}")

    def leave(self, pages: int) -> None:
        """Fill the disk, but for so many pages."""
        status = os.statvfs(self.path)
        with open(self.path / "ballast", "wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, (status.f_bfree - pages) * self.PAGE)

    def empty(self) -> None:
        """Make room again."""
        (self.path / "ballast").unlink()

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()

    def __enter__(self) -> "SmallDisk":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """While it is open as a context, nothing can be made below a folder by those whom modes bind.

    Modes do not bind root; see `BOUND`.
    """
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    try:
        yield
    finally:
        for path in folders:
            path.chmod(0o755)


_WITHOUT_PRIVILEGE = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
BOUND = _WITHOUT_PRIVILEGE if os.geteuid() == 0 else ()
"""What a run is started with so that modes bind it, even as root."""


@dataclass
class Bundles:
    """Work units of a city, made ready to be segmented without a runner."""

    city: City
    _segmenters: dict[Path, UnitSegmenter] = field(default_factory=dict)

    def units(self) -> list[WorkUnit]:
        images = [
            plan_new(ref)
            for listed in listing.list_input(str(self.city.archive))
            for ref in listing.list_members(listed)
            if isinstance(ref, ImageRef)
        ]
        return list(units.make_units(images, UNIT_SIZE, "tiny"))

    def segment(self, unit: WorkUnit, output: Path) -> None:
        """Segment a unit as a worker does."""
        if output not in self._segmenters:
            from models.engines import EngineOptions, load_engine
            from models.packages import load_package

            package = load_package(str(self.city.model))
            options = SegmentOptions(str(output), run_id="run", engine=EngineOptions(threads=2))
            self._segmenters[output] = UnitSegmenter(package, load_engine(package), options)
        segment_unit(self._segmenters[output], unit, lambda name, value: None)

    def segment_at_once(self, units: Sequence[WorkUnit], output: Path, times: int = 2) -> None:
        """Segment each of the units in several threads at the same time."""
        self.segment(units[0], output)
        barrier = threading.Barrier(times)

        def work() -> None:
            for unit in units:
                barrier.wait()
                self.segment(unit, output)

        threads = [threading.Thread(target=work) for _ in range(times)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def segment_in_processes(city: City, output: Path, times: int = 2) -> list[int | None]:
    """Segment all units of a city in several processes at the same time; their exit codes."""
    barrier = PROCESSES.Barrier(times)
    processes = [
        PROCESSES.Process(target=_segment_all, args=(city, output, barrier)) for _ in range(times)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    return [process.exitcode for process in processes]


def _segment_all(city: City, output: Path, barrier: Any) -> None:
    bundles = Bundles(city)
    units = bundles.units()
    bundles.segment(units[0], output)
    for unit in units:
        barrier.wait(PATIENCE)
        bundles.segment(unit, output)
