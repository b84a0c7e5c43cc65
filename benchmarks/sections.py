"""The parts of the benchmark, one table each: speed, precisions, start-up, growth, stages, GPU."""

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import arms
from benchmarks.archives import bring_to_size, make_archive
from benchmarks.arms import Arm, Bench, Measured, SkippedError
from benchmarks.comparing import agreement, differing
from benchmarks.gpu_use import GpuUse
from benchmarks.reporting import Section, Spread, Table
from models.engines import AUTOMATIC, Precision, choosing, openvino
from models.engines.devices import cores
from models.packages import load_package

START_IMAGES = 8
"""Photos of a run that measures start-up: enough for two batches, so that all code has run."""

FINISHED_IMAGES = 1000
FINISHED_REPEATS = 9
GROWTH_FACTOR = 10

NOTHING = "-"
REST = "Beam, rows and the rest"


@dataclass(frozen=True)
class Place:
    """Inputs of the parts.

    Attributes:
        bench: how arms are run.
        photos: folder of photos that archives are made of.
        folder: empty folder for archives and outputs.
    """

    bench: Bench
    photos: Path
    folder: Path

    def archive(self, images: int) -> Path:
        """Return an archive of `images` photos; it is made once."""
        archive = self.folder / f"{images} photos"
        return archive if archive.exists() else make_archive(self.photos, images, archive)

    def run(self, arm: Arm, images: int) -> Measured:
        """Run an arm into an empty folder.

        Raises:
            SkippedError: the arm cannot be run.
        """
        output = self.output(arm)
        shutil.rmtree(output, ignore_errors=True)
        measured = self.bench.run(arm, self.archive(images), output)
        say(f"{arm.title}: {measured.images} photos in {measured.seconds:.1f} s")
        if measured.images != images:
            sys.exit(f"{arm.title}: {images} photos, but {measured.images} masks in {output}")
        return measured

    def output(self, arm: Arm) -> Path:
        return self.folder / arm.module

    def masks(self, arm: Arm) -> Path:
        return self.output(arm) / arms.MASKS


def say(text: str) -> None:
    """Print progress to standard error."""
    print(text, file=sys.stderr, flush=True)


@dataclass
class Turns:
    """Results of an arm.

    Attributes:
        arm: the arm.
        runs: runs over the archive.
        starts: runs over few photos; empty if start-up is not measured.
        equal: shares of pixels equal to those of the stock way.
        skipped: the reason if it was not run.
    """

    arm: Arm
    runs: list[Measured] = field(default_factory=list)
    starts: list[Measured] = field(default_factory=list)
    equal: list[float] = field(default_factory=list)
    skipped: str = ""

    @property
    def running(self) -> list[Measured]:
        """The runs without their start-up."""
        if not self.starts:
            return []
        middle = sorted(self.starts, key=lambda run: run.seconds)[len(self.starts) // 2]
        return [run.beyond(middle) for run in self.runs]

    def cells(self, citymask: "Turns") -> list[str]:
        """The row of the table."""
        if self.skipped:
            return [self.arm.title, f"skipped: {self.skipped}", *[NOTHING] * 7]
        speed, times = _speed(self.runs), _times(citymask.runs, self.runs)
        cells = [self.arm.title, str(self.runs[0].images), speed.text(1), times.text(3)]
        if self.running:
            times = _times(citymask.running, self.running)
            cells += [f"{_speed(self.running).median:.1f}", f"{times.median:.3f}"]
        else:
            cells += [NOTHING, NOTHING]
        busy, peak = self._cores_busy(), statistics.median(run.peak_mib for run in self.runs)
        cells.append(f"{busy.median:.1%}" if busy and self.arm.alone else NOTHING)
        cells.append(f"{peak:.0f}" if self.arm.alone else NOTHING)
        cells.append(f"{min(self.equal):.2%}" if self.equal else NOTHING)
        return cells

    def data(self, citymask: "Turns") -> dict[str, Any]:
        """The row and the runs as JSON values."""
        if self.skipped:
            return {"skipped": self.skipped}
        found = {
            "runs": [asdict(run) for run in self.runs],
            "starts": [asdict(run) for run in self.starts],
            "images_per_second": asdict(_speed(self.runs)),
            "citymask_is_times_as_fast": asdict(_times(citymask.runs, self.runs)),
            "pixels_equal_to_stock_beam": min(self.equal, default=None),
        }
        if busy := self._cores_busy():
            found["running"] = {
                "images_per_second": asdict(_speed(self.running)),
                "citymask_is_times_as_fast": asdict(_times(citymask.running, self.running)),
                "cores_busy": asdict(busy) if self.arm.alone else None,
            }
        return found

    def _cores_busy(self) -> Spread | None:
        return Spread.of([_busy(run) for run in self.running]) if self.running else None


def compare(
    place: Place, compared: Sequence[Arm], images: int, repeats: int, with_starts: bool
) -> tuple[Section, dict[str, Spread]]:
    """Run the arms in turns; return the section, and images per second by the arms' titles.

    Args:
        place: inputs and folders.
        compared: `citymask run`, then the arms to compare it with.
        images: photos for the fastest arms.
        repeats: turns of each arm.
        with_starts: whether to run each arm over few photos as well, to measure its start-up.
    """
    turns = {arm: Turns(arm) for arm in compared}
    wrong: list[str] = []
    say("warm-up run, which fills the caches of compiled and converted code")
    place.run(arms.CITYMASK, START_IMAGES)
    for repeat in range(repeats):
        say(f"turn {repeat + 1} of {repeats}")
        for arm, of_arm in turns.items():
            if of_arm.skipped:
                continue
            try:
                if with_starts:
                    of_arm.starts.append(place.run(arm, START_IMAGES))
                of_arm.runs.append(place.run(arm, max(1, round(images * arm.share))))
            except SkippedError as error:
                of_arm.skipped = str(error)
                say(f"{arm.title}: skipped: {error}")
        done = [arm for arm, of_arm in turns.items() if not of_arm.skipped]
        if arms.BARE_LOOP in done:
            wrong += differing(place.masks(arms.CITYMASK), place.masks(arms.BARE_LOOP))
        if arms.STOCK_BEAM in done:
            for arm in done:
                share = agreement(place.masks(arm), place.masks(arms.STOCK_BEAM))
                turns[arm].equal.append(share)
    citymask = turns[arms.CITYMASK]
    table = Table(
        f"Images per second, median of {repeats} interleaved turns",
        [
            "", "photos", "images/s", "citymask is times as fast",
            "running: images/s", "citymask is times as fast", "cores busy", "peak MiB",
            "equal pixels",
        ],
        [of_arm.cells(citymask) for of_arm in turns.values()],
        [
            "Time is measured from after the imports to the last byte written, including loading "
            f"the model. *Running* is the difference to a run over {START_IMAGES} photos, which "
            "excludes start-up, as in a large archive. *Times* are ratios within a turn. *Equal "
            "pixels* compares with the stock way, which computes in float32.",
            _verdict(turns.get(arms.BARE_LOOP), citymask, wrong),
        ],
    )  # fmt: skip
    data = {arm.title: of_arm.data(citymask) for arm, of_arm in turns.items()}
    speeds = {arm.title: _speed(found.runs) for arm, found in turns.items() if not found.skipped}
    return Section("throughput", table, data, wrong), speeds


def precisions(place: Place, images: int, repeats: int) -> Section:
    """Run citymask in each precision in turns with what `auto` chooses."""
    openvino.check_installed()
    package = load_package(place.bench.model)
    tried = [Precision.AUTO, *filter(openvino.runs_in, openvino.PRECISIONS)]
    if not package.network_in(Precision.INT8.value):
        tried.remove(Precision.INT8)
    options = {p: ("--precision", p.value, "--engine", "openvino") for p in tried}
    runs: dict[Precision, list[Measured]] = defaultdict(list)
    for turn in range(repeats + 1):
        for precision in tried:
            arm = replace(arms.CITYMASK, title=precision.value, options=options[precision])
            measured = place.run(arm, images if turn else START_IMAGES)
            if turn:
                runs[precision].append(measured)
    automatic, chosen = runs[Precision.AUTO], choosing.settled(package, AUTOMATIC).precision
    table = Table(
        f"citymask run by precision, median of {repeats} interleaved turns",
        ["precision", "images/s", "auto is times as fast", "CPU ms a photo"],
        [
            [
                precision.value,
                _speed(found).text(1),
                _times(automatic, found).text(3),
                f"{statistics.median(1000 * run.cpu_seconds / run.images for run in found):.1f}",
            ]
            for precision, found in runs.items()
        ],
        [f"{images} photos. What auto chose: {chosen.value}."],
    )
    return Section("precisions", table, {p.value: [asdict(r) for r in runs[p]] for p in runs})


def start_up(place: Place) -> Section:
    """Time `citymask run` over a finished archive, compared with the import of Beam."""
    folder = place.folder / "finished"
    folder.mkdir()
    # Finished photos are not read, so their size does not matter.
    small = bring_to_size(place.photos, 96, 64, folder / "small photos")
    archive = make_archive(small, FINISHED_IMAGES, folder / "archive")
    place.bench.run(arms.CITYMASK, archive, folder / "output")
    command = ["-m", "pipeline", "run", str(archive), "--output", str(folder / "output"), "-q"]
    programs = {
        "python -c 'import apache_beam'": ["-c", "import apache_beam"],
        f"citymask run, {FINISHED_IMAGES} photos, nothing new": [*command],
    }
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(FINISHED_REPEATS):
        for name, program in programs.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *program], env=arms.environment(), check=True)
            seconds[name].append(time.perf_counter() - start)
    more = Spread.of([run - bare for bare, run in zip(*seconds.values(), strict=True)])
    rows = [[name, Spread.of(found).text(2)] for name, found in seconds.items()]
    table = Table(
        f"Start-up, median of {FINISHED_REPEATS}",
        ["", "seconds"],
        [*rows, ["difference", more.text(2)]],
    )
    return Section("start_up", table, {"seconds": seconds, "difference": asdict(more)})


def growth(place: Place, images: int) -> Section:
    """Measure time and memory for an archive and one of ten times its size."""
    few = images // GROWTH_FACTOR
    small = [place.run(arms.CITYMASK, few)]
    large = place.run(arms.CITYMASK, images)
    small.append(place.run(arms.CITYMASK, few))
    seconds = statistics.mean(run.seconds for run in small)
    peak = statistics.mean(run.peak_mib for run in small)
    time_ratio, peak_ratio = large.seconds / seconds, large.peak_mib / peak
    table = Table(
        "Growth: citymask run over archives of two sizes",
        ["photos", "seconds", "images/s", "peak MiB"],
        [
            [str(few), f"{seconds:.1f}", f"{few / seconds:.1f}", f"{peak:.0f}"],
            [str(images), f"{large.seconds:.1f}", f"{large.speed:.1f}", f"{large.peak_mib:.0f}"],
            ["ratio", f"{time_ratio:.2f}", f"{large.speed * seconds / few:.2f}",
             f"{peak_ratio:.3f}"],
        ],
        ["The small archive is run before and after the large one; its values are means."],
    )  # fmt: skip
    data = {
        "small": [asdict(run) for run in small],
        "large": asdict(large),
        "seconds_ratio": time_ratio,
        "peak_ratio": peak_ratio,
    }
    return Section("growth", table, data)


def stages(place: Place, images: int) -> Section:
    """Measure the CPU time per image of each stage, and of Beam and the rest."""
    alone = place.run(arms.STAGES, max(4 * START_IMAGES, round(images * arms.STAGES.share)))
    start = place.run(arms.CITYMASK, START_IMAGES)
    full = place.run(arms.CITYMASK, images)
    record = json.loads(next(place.output(arms.CITYMASK).glob("runs/*.json")).read_text())
    running = full.beyond(start)
    cpu: dict[str, float] = alone.details["cpu_ms"]
    total = 1e3 * running.cpu_seconds / running.images
    in_run = {name: 1e3 * record["stages"][name]["seconds"] / images for name in cpu}
    parts = {**cpu, REST: total - sum(cpu.values())}
    rows = [
        [name, f"{ms:.2f}", f"{ms / total:.1%}", f"{in_run[name]:.2f}" if name in cpu else NOTHING]
        for name, ms in parts.items()
    ]
    rows.append(["sum", f"{total:.2f}", f"{1:.1%}", NOTHING])
    table = Table(
        "Where the time of an image goes",
        ["stage", "CPU ms", "share", "ms in the run"],
        rows,
        [
            "*CPU ms*: CPU time of each stage in a sequential program. The sum is that of "
            "`citymask run` without start-up; the remainder is Beam, rows, summary, threads and "
            "memory. *ms in the run*: time of the stage by the run record, including waits for a "
            "core.",
            f"{total:.1f} ms of CPU time on {cores()} cores bound the speed to "
            f"{1e3 * cores() / total:.1f} images/s; it was {running.speed:.1f} with "
            f"{_busy(running):.1%} of the cores busy. Start-up takes {start.cpu_seconds:.1f} s "
            f"of CPU time, {START_IMAGES} images included.",
        ],
    )
    data = {"cpu_ms": parts, "in_run_ms": in_run, "running": asdict(running),
            "start": asdict(start)}  # fmt: skip
    return Section("stages", table, data)


def gpu(place: Place, images: int) -> Section:
    """Measure end-to-end speed and utilization on a GPU, and the speed of the network alone."""
    start = place.run(arms.CITYMASK, START_IMAGES)
    with GpuUse() as use:
        full = place.run(arms.CITYMASK, images)
    running = full.beyond(start)
    # Without start-up, during which the GPU is idle.
    busy = use.share(full.began + start.seconds, full.began + full.seconds)
    resident = place.output(arms.RESIDENT)
    alone = place.bench.run(arms.RESIDENT, place.photos, resident).details["images_per_second"]
    table = Table(
        f"On a GPU: {use.name}",
        ["", "value"],
        [
            ["citymask run, images/s", f"{full.speed:.1f}"],
            ["running, images/s", f"{running.speed:.1f}"],
            ["GPU busy while running", f"{busy:.1%}"],
            ["network alone on data in the GPU, images/s", f"{alone:.1f}"],
            ["running to network alone", f"{running.speed / alone:.3f}"],
        ],
    )
    data = {"gpu": use.name, "run": asdict(full), "running": asdict(running), "busy": busy,
            "network_alone": alone}  # fmt: skip
    return Section("gpu", table, data)


def _busy(run: Measured) -> float:
    """Utilization of the cores by a run, 0 to 1."""
    return run.cpu_seconds / run.seconds / cores()


def _speed(runs: Sequence[Measured]) -> Spread:
    return Spread.of([run.speed for run in runs])


def _times(citymask: Sequence[Measured], others: Sequence[Measured]) -> Spread:
    """Ratios of citymask's speed to that of another arm, by turn."""
    return Spread.of([a.speed / b.speed for a, b in zip(citymask, others, strict=True)])


def _verdict(bare_loop: Turns | None, citymask: Turns, different: Sequence[str]) -> str:
    if not bare_loop:
        return "The bare loop was not run."
    ratio = f"citymask run to bare loop: {_times(citymask.runs, bare_loop.runs).median:.3f}"
    if different:
        return f"{ratio}; MASKS DIFFER: {', '.join(sorted(set(different))[:3])}"
    return f"{ratio}; their masks are equal, byte for byte."
