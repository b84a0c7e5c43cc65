"""Runs as processes of their own, which can be killed at a chosen moment of their life."""

import multiprocessing
import os
import random
import runpy
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from PIL import Image

from tests.faults.archives import make_archive
from tests.made_models import make_model
from transforms import storage
from transforms.output import columns, locking

ROOT = Path(__file__).resolve().parents[2]
UNIT_SIZE = 4
KILLER = b"this photo kills the process"
ALONE, WITH_ALL = "alone", "with all"
PATIENCE = 300
"""Seconds after which a run hangs."""

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["pipeline.cli", "models.engines", "tensorflow", "pandas", "transforms.segmenting.suspects"]
)
"""A run starts as a fork of a process that has imported all of it: importing TensorFlow takes far
longer than the run itself, and nothing is written meanwhile."""


@dataclass(frozen=True)
class City:
    """An archive, a model and a folder for outputs and what runs print."""

    archive: Path
    model: Path
    work: Path

    @classmethod
    def make(cls, work: Path) -> "City":
        model = make_model(work / "model", architecture="unet", width=0.05)
        return cls(make_archive(work / "archive"), model.path, work)

    def start(self, output: Path, *options: object, **how: Any) -> BaseProcess:
        """Start a run into `output`; see `start` for `how`."""
        arguments = ["run", self.archive, "--output", output, "--model", self.model]
        arguments += ["--unit-size", UNIT_SIZE, "--max-attempts", 1000, *options]
        return start(arguments, self.log(output), **how)

    def run(self, output: Path, *options: object, **how: Any) -> int:
        """Run into `output` to the end; return the exit code."""
        return finish(self.start(output, *options, **how))

    def log(self, output: Path) -> Path:
        """The file of what runs into `output` print."""
        return self.work / f"{output.name}.log"


def start(
    arguments: Sequence[object],
    log: Path,
    cold: Sequence[str] | None = None,
    clock: timedelta | None = None,
    killers: str = "",
) -> BaseProcess:
    """Start a command line of citymask in a process group of its own.

    Args:
        arguments: what stands behind `citymask`.
        log: file to which it prints.
        cold: start `python -m pipeline` anew behind these words, in place of a fork of a process
            that has imported it.
        clock: how far the clock is from the truth.
        killers: `ALONE` if the process that decodes a photo made by `killer` dies of it, `WITH_ALL`
            if all of the run does.
    """
    words = [str(argument) for argument in arguments]
    process = PROCESSES.Process(target=_become, args=(words, str(log), cold, clock, killers))
    process.start()
    return process


def finish(process: BaseProcess) -> int:
    """Wait for the end of a run; return its exit code."""
    process.join(PATIENCE)
    if process.exitcode is None:
        kill(process)
        raise TimeoutError(f"a run did not end within {PATIENCE} seconds")
    return process.exitcode


def kill(process: BaseProcess) -> None:
    """Kill a run and all that it started, with SIGKILL."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # It may not have had its group yet.
    process.join()


def verify(output: Path, log: Path) -> int:
    """The exit code of `citymask verify`."""
    return finish(start(["verify", output], log))


def _become(
    words: list[str],
    log: str,
    cold: Sequence[str] | None,
    clock: timedelta | None,
    killers: str,
) -> None:
    os.setsid()
    opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    if cold is not None:
        command = [*cold, sys.executable, "-m", "pipeline", *words]
        os.chdir(ROOT)
        os.execvp(command[0], command)
    if clock:
        _set_clock(clock)
    if killers:
        _die_of_photos(killers)
    sys.argv = ["citymask", *words]
    from pipeline.cli import main

    main()


def killer(photo: bytes) -> bytes:
    """A photo that kills; a run that is started without `killers` can decode it.

    It is a BMP: these are decoded by Pillow, where the process is killed.
    """
    data = BytesIO()
    Image.open(BytesIO(photo)).save(data, "BMP")
    return data.getvalue() + KILLER


def _die_of_photos(killers: str) -> None:
    """Let this process, and all that it starts, die of photos that kill."""
    folder = str(ROOT / "tests" / "faults" / "killing")
    sys.path.insert(0, folder)
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, str(ROOT)])
    os.environ["KILLER"] = KILLER.decode()
    if killers == WITH_ALL:
        os.environ["KILLED_WITH_ALL"] = "1"
    runpy.run_path(f"{folder}/sitecustomize.py")


def _set_clock(shift: timedelta) -> None:
    """Let this process take the time for another; the kernel's times of files stay true."""
    from pipeline.runs import record

    class Shifted(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + shift

    true_time = time.time
    time.time = lambda: true_time() + shift.total_seconds()
    record.datetime = locking.datetime = Shifted


@dataclass(frozen=True)
class Moment:
    """A moment in the life of a run, seen from outside.

    Attributes:
        name: what happens then.
        path: the file or folder below OUT in which something changes.
        most: up to so many changes there are waited for.
    """

    name: str
    path: str
    most: int = 1

    def watch(self, output: Path, random: random.Random) -> Callable[[], bool]:
        """A function that says whether the moment has come since this call."""
        before = _files(output / self.path)
        number = random.randint(1, self.most)

        def has_come() -> bool:
            now = _files(output / self.path)
            return sum(now.get(path) != before.get(path) for path in {*now, *before}) >= number

        return has_come


LOCKED = Moment("the lock is taken", locking.LOCK)
WRITING = Moment("a file is half written", storage.UNFINISHED)
MASKS = Moment("masks are written", columns.MASKS, 2 * UNIT_SIZE)
ROWS = Moment("rows are committed or replaced", columns.STATISTICS, 4)
FAILURES = Moment("a failure is committed", columns.FAILURES)
REMOVED = Moment("removed.csv is written", columns.REMOVED_CSV)
SUMMARY = Moment("summary.json is written", columns.SUMMARY_JSON)
TABLE = Moment("summary.csv is written", columns.SUMMARY_CSV)
RECORD = Moment("the run record is written", columns.RUNS)
MOMENTS = (LOCKED, WRITING, MASKS, ROWS, FAILURES, REMOVED, SUMMARY, TABLE, RECORD)


def kill_at(process: BaseProcess, moment: Moment, output: Path, random: random.Random) -> bool:
    """Kill a run into `output` at a moment; whether it came before the run ended."""
    came = stand_still_at(process, moment.watch(output, random))
    kill(process)
    return came


def kill_after(process: BaseProcess, seconds: float) -> bool:
    """Kill a run after a time; whether it was still alive."""
    process.join(seconds)
    kill(process)
    return process.exitcode == -signal.SIGKILL


def stand_still_at(process: BaseProcess, has_come: Callable[[], bool]) -> bool:
    """Let a run go on in short steps until it stands still at a moment; whether it does.

    So no moment is over before it is seen, however brief it is and however busy the machine.
    """
    deadline = time.monotonic() + PATIENCE
    with suppress(ProcessLookupError):  # It has ended.
        while time.monotonic() < deadline:
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(0.001)
            if process.exitcode is None and has_come():
                return True
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(0.001)
        kill(process)
        raise TimeoutError(f"a run did not end within {PATIENCE} seconds")
    return False


def go_on(process: BaseProcess) -> None:
    """Let a run that stands still go on."""
    os.kill(process.pid, signal.SIGCONT)


def _files(path: Path) -> dict[str, tuple[int, int, int]]:
    """A file or the files of a folder, with what tells that they were written anew."""
    found = {}
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                found[os.path.join(folder, name)] = _identity(os.path.join(folder, name))
    with suppress(FileNotFoundError):
        if not path.is_dir():
            found[str(path)] = _identity(path)
    return found


def _identity(path: str | Path) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_ino, status.st_mtime_ns, status.st_size
