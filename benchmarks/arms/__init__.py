"""Arms: programs that segment the same photos, each in a separate process.

Each module of this package has a function `run(archive, output, model)`, which writes the mask of
`archive/NAME` to `output/masks/NAME.png`. Only `run` is timed, including loading the model, and not
the imports at the top of the module.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MASKS = "masks"


class SkippedError(RuntimeError):
    """An arm cannot be run here; the message says why."""


@dataclass(frozen=True)
class Arm:
    """A program to compare.

    Attributes:
        module: its module in this package.
        title: its name in tables.
        share: fraction of the photos that it processes; slow arms get fewer.
        peer: whether it needs the environment of the peers.
        alone: whether all its work is done by its own process and awaited child processes, so that
            its CPU time and memory can be measured.
        options: further arguments of its function `run`.
    """

    module: str
    title: str
    share: float = 1.0
    peer: bool = False
    alone: bool = True
    options: tuple[str, ...] = ()


CITYMASK = Arm("citymask", "citymask run")
BARE_LOOP = Arm("bare_loop", "bare loop")
STOCK_BEAM = Arm("stock_beam", "Beam, the stock way", share=0.1, peer=True)
RAY_DATA = Arm("ray_data", "Ray Data", share=0.2, peer=True, alone=False)
PYTORCH = Arm("pytorch", "PyTorch loop", share=0.05, peer=True)
STAGES = Arm("stages", "stage after stage", share=0.1)
PYTHON_LOCK = Arm("python_lock", "citymask run, and who holds Python's lock")
RESIDENT = Arm("resident", "the network alone on the GPU")

COMPARED = (CITYMASK, BARE_LOOP, STOCK_BEAM, RAY_DATA, PYTORCH)


@dataclass(frozen=True)
class Measured:
    """One run of an arm.

    Attributes:
        images: number of masks in its output.
        began: start of the measurement, in seconds since the epoch.
        seconds: time until the last byte was written.
        cpu_seconds: CPU time of the process and its awaited child processes, over all cores.
        peak_mib: peak resident memory of the process, in MiB.
        details: further results of the arm.
    """

    images: int
    began: float
    seconds: float
    cpu_seconds: float
    peak_mib: float
    details: dict

    @property
    def speed(self) -> float:
        """Images per second."""
        return self.images / self.seconds

    def beyond(self, start: "Measured") -> "Measured":
        """The difference to a run over few images, which is mostly start-up."""
        return replace(
            self,
            images=self.images - start.images,
            seconds=self.seconds - start.seconds,
            cpu_seconds=self.cpu_seconds - start.cpu_seconds,
        )


@dataclass(frozen=True)
class Bench:
    """The environment in which arms are run.

    Attributes:
        model: name or path of the model.
        peers: Python executable of the peers' environment.
    """

    model: str
    peers: Path

    def run(self, arm: Arm, archive: Path, output: Path) -> Measured:
        """Run an arm; exit if it fails and is not a peer.

        Raises:
            SkippedError: it is a peer and cannot be run.
        """
        python = self.peers if arm.peer else Path(sys.executable)
        if not python.exists():
            raise SkippedError(f"no {python}; `make bench` installs it")
        module = [python, "-m", "benchmarks.arms", arm.module]
        command = [*module, archive, output, self.model, *arm.options]
        finished = subprocess.run(
            [*map(str, command)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if arm.peer else None,
            text=True,
        )
        if finished.returncode == 0:
            return Measured(**json.loads(finished.stdout.splitlines()[-1]))
        if not arm.peer:
            sys.exit(f"{arm.title} failed with exit code {finished.returncode}")
        last = next(reversed(finished.stderr.strip().splitlines()), "no message")
        raise SkippedError(f"exit code {finished.returncode}: {last}")


def environment(**more: str) -> dict[str, str]:
    """Environment variables of the processes: the project's path, and quiet libraries."""
    found = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "RAY_USAGE_STATS_ENABLED": "0"}
    return {**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(found), **more}


def installed(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed in an environment."""
    code = (
        "import json, sys; from importlib.metadata import distributions as all; "
        "print(json.dumps({d.name: d.version for d in all() if d.name in sys.argv[1:]}))"
    )
    if not python.exists():
        return {}
    answer = subprocess.run(
        [str(python), "-c", code, *packages], stdout=subprocess.PIPE, check=True
    )
    return json.loads(answer.stdout)
