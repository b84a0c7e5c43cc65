"""Measure the cost of reading and writing gs://: requests and bytes per image, effect of latency.

The same photos are segmented from a local folder, from a Cloud Storage server on the loopback, and
from that server with a delay before every response. The arms take turns, each run in a separate
process; time is measured from loading the model to the last byte written. Prints a Markdown table.

    python benchmarks/cloud_storage.py [--photos DIR] [--images 330] [--repeats 3] [--delay-ms 50]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# ruff: noqa: E402
from benchmarks.archives import make_archive
from benchmarks.arms import citymask
from models.speed import machine
from tests.faulty_proxy import FaultyProxy
from tests.gcs_server import GcsServer

BUCKET = "town"
LOCAL, AT_ONCE, LATE = "local folder", "gs://, no delay", "gs://, delayed"
KINDS = ("read", "write", "list", "look")


def main() -> None:
    arguments = parse_arguments()
    if arguments.arm:
        print(json.dumps(run_arm(*arguments.arm)))
        return
    speeds: dict[str, list[float]] = defaultdict(list)
    requests: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as folder, GcsServer() as server:
        archive = make_archive(arguments.photos, arguments.images, Path(folder, "photos"))
        for path in archive.iterdir():
            server.put(BUCKET, f"photos/{path.name}", path.read_bytes(), "image/jpeg")
        # A first run fills the caches of compiled and converted code.
        few = make_archive(arguments.photos, 1, Path(folder, "few"))
        measure(str(few), f"{folder}/before", server.url)
        for repeat in range(arguments.repeats):
            for arm in (LOCAL, AT_ONCE, LATE):
                delay = arguments.delay_ms / 1000 if arm == LATE else 0.0
                with FaultyProxy(server.url, delay=delay) as proxy:
                    server.requests.clear()
                    output = f"gs://{BUCKET}/{repeat}-{delay}"
                    where = (archive, f"{folder}/{repeat}") if arm == LOCAL else (
                        f"gs://{BUCKET}/photos", output
                    )  # fmt: skip
                    seconds = measure(*map(str, where), proxy.url)
                    requests[arm] = dict(server.requests)
                speeds[arm].append(arguments.images / seconds)
                print(f"{arm}: {speeds[arm][-1]:.2f} images/s", flush=True)
        read = sum(map(len, server.files(BUCKET, "photos/").values()))
        written = sum(map(len, server.files(BUCKET, f"0-{delay}/").values()))
    print(f"\n{machine()}; delay: {arguments.delay_ms:g} ms")
    print(f"{arguments.images} photos of {arguments.photos}, median of {arguments.repeats} runs\n")
    print(f"| | images/s | relative to the local folder | {' | '.join(KINDS)} |")
    print("|---|" + "---|" * (2 + len(KINDS)))
    medians = {arm: statistics.median(of_arm) for arm, of_arm in speeds.items()}
    for arm, speed in medians.items():
        counts = (f"{requests[arm].get(kind, 0) / arguments.images:.3f}" for kind in KINDS)
        print(f"| {arm} | {speed:.1f} | {speed / medians[LOCAL]:.2f} | {' | '.join(counts)} |")
    print(f"\ndelayed to no delay: {medians[LATE] / medians[AT_ONCE]:.3f}")
    print(f"bytes per image: {read / arguments.images:.0f} read, ", end="")
    print(f"{written / arguments.images:.0f} written")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=ROOT / "demo" / "photos")
    parser.add_argument("--images", type=int, default=330)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--delay-ms", type=float, default=50.0)
    parser.add_argument("--arm", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(archive: str, output: str, server: str) -> float:
    """Run citymask in a new process; return the seconds."""
    command = [sys.executable, __file__, "--arm", archive, output]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "STORAGE_EMULATOR_HOST": server}
    finished = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(finished.stdout.splitlines()[-1])


def run_arm(archive: str, output: str) -> float:
    start = time.perf_counter()
    citymask.run(archive, output, "default")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
