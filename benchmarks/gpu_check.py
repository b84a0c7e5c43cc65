"""Check what a GPU does with citymask, and say what could not be checked here, and why.

Of each engine that runs on GPUs (TensorFlow, JAX): agreement with the CPU, speed end to end and how
busy the GPU is, the network alone on data in the GPU's memory, two streams against one, and a batch
that does not fit. Then, whether decoding JPEGs on the CPU keeps up. Without a GPU the same runs on
the CPU with less work: that shows that the checks work, and says nothing about a GPU.

    python benchmarks/gpu_check.py [--engines tensorflow,jax] [--images N] [--seconds S]
        [--photos DIR] [--size WxH] [--model NAME_OR_PATH] [--output FILE.json]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# ruff: noqa: E402
from benchmarks import decoders
from benchmarks.archives import bring_to_size, make_archive
from benchmarks.gpu_measures import NETWORK_ALONE, Row
from benchmarks.gpu_use import GpuUse, gpu_names

ENGINES = ("tensorflow", "jax")
NEEDED = {"tensorflow": ("keras", "tensorflow"), "jax": ("keras", "jax")}
"""What each engine imports."""

ON_GPU = {"start": 128, "images": 12_800, "seconds": 10.0}
ON_CPU = {"start": 4, "images": 16, "seconds": 0.5}
"""Default sizes. On a GPU they are whole work units, so that the run whose time is that of starting
compiles for all batch sizes of the other one."""

RUN = "citymask run"
NO_GPU = "no NVIDIA GPU: nvidia-smi names none"


@dataclass(frozen=True)
class Check:
    """What to check, and with what.

    Attributes:
        model: name or path of a model.
        photos: folder of JPEGs.
        start: photos of a run whose time is that of starting.
        images: photos of a run beyond these.
        seconds: of each measurement of speed.
        work: folder for archives and masks.
    """

    model: str
    photos: Path
    start: int
    images: int
    seconds: float
    work: Path

    def rows(self, engines: Sequence[str]) -> Iterator[Row]:
        """Yield all measurements, each when it is finished."""
        alone: dict[str, float] = {}
        for engine in engines:
            missing = [name for name in NEEDED[engine] if not find_spec(name)]
            if missing:
                yield Row("all", engine, None, "", f"not installed: {', '.join(missing)}")
                continue
            for row in self._measured("speeds", engine):
                if row.check == NETWORK_ALONE and row.value:
                    alone[engine] = row.value
                yield row
            yield from self._measured("memory", engine)
            yield from self._end_to_end(engine, alone.get(engine))
        for row in decoders.rows(sorted(self.photos.iterdir()), self.model, self.seconds):
            yield row
            for engine, speed in alone.items() if row.value else ():
                check = f"{row.check} to {NETWORK_ALONE}"
                yield Row(
                    check, engine, row.value / speed, "ratio", "below 1: decoding bounds a run"
                )

    def _measured(self, kind: str, engine: str) -> Iterator[Row]:
        """Yield what `gpu_measures` prints, and if it fails, why."""
        arguments = [kind, engine, self.model, str(self.photos), str(self.seconds)]
        command = [sys.executable, "-m", "benchmarks.gpu_measures", *arguments]
        with (
            tempfile.TemporaryFile("w+") as said,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=said, text=True, env=_environment(engine)
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("{"):
                    yield Row(**json.loads(line))
            if process.wait():
                said.seek(0)
                yield Row(kind, engine, None, "", _reason(process.returncode, said.read()))

    def _end_to_end(self, engine: str, alone: float | None) -> Iterator[Row]:
        """Time `citymask run` beyond its start, and how busy the GPU is meanwhile."""
        row = partial(Row, engine=engine)
        if not find_spec("apache_beam"):
            yield row(RUN, value=None, unit="images/s", note="not installed: apache_beam")
            return
        try:
            start, _ = self._run(engine, self.start)
            with GpuUse() if gpu_names() else nullcontext() as use:
                full, began = self._run(engine, self.start + self.images)
        except RuntimeError as error:
            yield row(RUN, value=None, unit="images/s", note=str(error))
            return
        speed = self.images / max(full - start, 1e-9)
        yield row(RUN, value=speed, unit="images/s", note=f"after a start of {start:.1f} s")
        busy = use.share(began + start, began + full) if use else None
        yield row("GPU busy meanwhile", value=busy, unit="share", note="" if use else NO_GPU)
        ratio = speed / alone if alone else None
        reason = "" if alone else f"no speed of the {NETWORK_ALONE}"
        yield row(f"{RUN} to {NETWORK_ALONE}", value=ratio, unit="ratio", note=reason)

    def _run(self, engine: str, images: int) -> tuple[float, float]:
        """Run citymask; return the seconds and when it began. Raises RuntimeError if it fails."""
        archive = make_archive(self.photos, images, self.work / f"{engine}-{images}")
        line = ["run", archive, "--output", f"{archive}-out", "--model", self.model, "--quiet"]
        command = [sys.executable, "-m", "pipeline", *map(str, line), "--engine", engine]
        began, start = time.time(), time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=_environment(engine))
        seconds = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(_reason(done.returncode, done.stderr))
        return seconds, began


def main() -> None:
    arguments = parse_arguments()
    found = []
    print(f"GPU: {', '.join(gpu_names()) or 'none, so this is the CPU'}\n")
    print("| check | engine | value | unit | note |\n| --- | --- | ---: | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        photos = bring_to_size(arguments.photos, *arguments.size, work / "photos")
        sizes = arguments.start, arguments.images, arguments.seconds
        check = Check(arguments.model, photos, *sizes, work)
        for row in check.rows(arguments.engines):
            found.append(row)
            value = "not run" if row.value is None else f"{row.value:.4g}"
            cells = row.check, row.engine, value, row.unit, row.note
            print(f"| {' | '.join(cells)} |", flush=True)
    if arguments.output:
        document = {"gpus": gpu_names(), "cores": os.cpu_count(), "rows": list(map(asdict, found))}
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        print(f"\n{arguments.output} has the same as JSON")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", default=",".join(ENGINES), help="separated by commas")
    parser.add_argument("--images", type=int, help="photos of a run; 12800, or 16 without a GPU")
    parser.add_argument("--seconds", type=float, help="of each speed; 10, or 0.5 without a GPU")
    parser.add_argument("--photos", type=Path, default=ROOT / "demo" / "photos", metavar="DIR")
    parser.add_argument("--size", default="2048x1024", metavar="WxH", help="of photos")
    parser.add_argument("--model", default="default", help="name or path of a model")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    arguments = parser.parse_args()
    defaults = ON_GPU if gpu_names() else ON_CPU
    arguments.start = defaults["start"]
    arguments.images = arguments.images or defaults["images"]
    arguments.seconds = arguments.seconds or defaults["seconds"]
    arguments.size = tuple(map(int, arguments.size.split("x")))
    arguments.engines = arguments.engines.split(",")
    if unknown := set(arguments.engines) - set(ENGINES):
        parser.error(f"found {', '.join(unknown)}; expected some of {', '.join(ENGINES)}")
    return arguments


def _environment(engine: str) -> dict[str, str]:
    paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(paths)}
    return {**os.environ, **quiet, "KERAS_BACKEND": engine}


def _reason(code: int, said: str) -> str:
    last = next(reversed(said.strip().splitlines()), "no message")
    return f"exit code {code}: {last}"


if __name__ == "__main__":
    main()
