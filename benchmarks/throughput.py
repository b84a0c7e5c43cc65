"""Throughput of the whole pipeline against a bare loop, and its memory at two archive sizes.

Both arms do the same work with the same engine and the same codecs: read, decode, run the network,
upsample, encode and write the masks. The bare loop knows no Beam, no work units, no rows and no
summary; it only overlaps the three stages with threads. Each arm runs in a process of its own, the
arms take turns, and the clock runs from loading the model to the last byte written.

    python benchmarks/throughput.py [--photos DIR] [--images 330] [--repeats 3]
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PIPELINE, BARE_LOOP = "pipeline", "bare loop"
BATCH_SIZE = 4
MIB = 1 << 20


def main() -> None:
    arguments = parse_arguments()
    if arguments.arm:
        print(json.dumps(run_arm(arguments.arm, arguments.archive, arguments.output)))
        return
    with tempfile.TemporaryDirectory() as folder:
        small = make_archive(arguments.photos, arguments.images, Path(folder, "small"))
        large = make_archive(arguments.photos, 3 * arguments.images, Path(folder, "large"))
        measured = defaultdict(list)
        for repeat in range(arguments.repeats):
            for arm in (PIPELINE, BARE_LOOP):
                output = Path(folder, f"{arm} {repeat}")
                measured[arm].append(measure(arm, small, output))
                print(f"{arm}: {measured[arm][-1]['images_per_second']:.2f} images/s", flush=True)
        same = same_masks(*(Path(folder, f"{arm} 0", "masks") for arm in (PIPELINE, BARE_LOOP)))
        at_large = measure(PIPELINE, large, Path(folder, "at large"))
    speeds = {
        arm: statistics.median(run["images_per_second"] for run in runs)
        for arm, runs in measured.items()
    }
    peak = statistics.median(run["peak_mib"] for run in measured[PIPELINE])
    print(f"\n{processor()}, {os.cpu_count()} cores")
    print(f"{arguments.images} photos of {arguments.photos}, median of {arguments.repeats} runs")
    for arm, speed in speeds.items():
        print(f"{arm:10} {speed:6.2f} images/s")
    print(f"ratio      {speeds[PIPELINE] / speeds[BARE_LOOP]:6.3f}")
    print(f"masks equal in both arms: {'yes' if same else 'NO'}")
    print(
        f"peak memory of the pipeline: {peak:.0f} MiB at {arguments.images} photos, "
        f"{at_large['peak_mib']:.0f} MiB at {3 * arguments.images} photos"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=ROOT / "demo" / "photos")
    parser.add_argument("--images", type=int, default=330, help="photos in the small archive")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arm", choices=(PIPELINE, BARE_LOOP), help=argparse.SUPPRESS)
    parser.add_argument("--archive", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_archive(photos: Path, images: int, archive: Path) -> Path:
    """An archive of `images` files: the photos, again and again under new names."""
    found = sorted(p for p in photos.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not found:
        sys.exit(f"{photos}: no photo; give a folder with --photos")
    archive.mkdir()
    for number in range(images):
        photo = found[number % len(found)]
        shutil.copyfile(photo, archive / f"{number:06d}{photo.suffix}")
    return archive


def measure(arm: str, archive: Path, output: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--arm", arm, "--archive", archive, "--output", output]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    finished = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(finished.stdout.splitlines()[-1])


def run_arm(arm: str, archive: Path, output: Path) -> dict[str, float]:
    import apache_beam  # noqa: F401
    import tensorflow  # noqa: F401

    start = time.perf_counter()
    (run_pipeline if arm == PIPELINE else run_bare_loop)(archive, output)
    seconds = time.perf_counter() - start
    done = len(list((output / "masks").rglob("*.png")))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"images_per_second": done / seconds, "seconds": seconds, "peak_mib": peak}


def run_pipeline(archive: Path | str, output: Path | str) -> None:
    from pipeline.beam_options import pipeline_options
    from pipeline.run import RunRequest, execute, prepared

    request = RunRequest((str(archive),), str(output), batch_size=BATCH_SIZE)
    with prepared(request, "benchmark") as (job, _):
        execute(job, pipeline_options({}))


def run_bare_loop(archive: Path, output: Path) -> None:
    from models.engines import load_engine
    from models.inputs import network_shape
    from models.packages import load_package
    from models.upsampling import logits_to_mask
    from transforms.masks import encode_mask
    from transforms.photos import DEFAULT_MAX_PIXELS, decode_photo

    package = load_package("default")
    engine = load_engine(package)
    shape_for = partial(
        network_shape, input_width=package.input_width, input_height=package.input_height
    )
    (output / "masks").mkdir(parents=True)

    def decode(path):
        return path, decode_photo(path.read_bytes(), shape_for, DEFAULT_MAX_PIXELS)

    def finish(path, photo, logits):
        mask, _ = logits_to_mask(logits, photo.height, photo.width)
        target = output / "masks" / f"{path.name}.png"
        target.write_bytes(encode_mask(mask, package.palette))

    waiting, decoding, writing = defaultdict(list), deque(), deque()

    def infer(batch):
        pixels = np.zeros((BATCH_SIZE, *batch[0][1].pixels.shape), np.uint8)
        pixels[: len(batch)] = [photo.pixels for _, photo in batch]
        for (path, photo), logits in zip(batch, engine.predict(pixels), strict=False):
            writing.append(behind.submit(finish, path, photo, logits))
        batch.clear()
        while len(writing) > 2 * BATCH_SIZE:
            writing.popleft().result()

    def take(future):
        path, photo = future.result()
        batch = waiting[photo.pixels.shape]
        batch.append((path, photo))
        if len(batch) == BATCH_SIZE:
            infer(batch)

    threads = os.cpu_count()
    with ThreadPoolExecutor(threads) as ahead, ThreadPoolExecutor(threads) as behind:
        for path in sorted(archive.iterdir()):
            decoding.append(ahead.submit(decode, path))
            if len(decoding) > 2 * BATCH_SIZE:
                take(decoding.popleft())
        while decoding:
            take(decoding.popleft())
        for batch in waiting.values():
            if batch:
                infer(batch)
        while writing:
            writing.popleft().result()


def processor() -> str:
    """The processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def same_masks(first: Path, second: Path) -> bool:
    """Whether two folders hold the same files with the same bytes."""
    names = sorted(path.name for path in first.iterdir())
    return names == sorted(path.name for path in second.iterdir()) and all(
        (first / name).read_bytes() == (second / name).read_bytes() for name in names
    )


if __name__ == "__main__":
    main()
