"""Compare citymask with alternatives: speed, start-up, growth, and time per stage.

Photos are resized to one size and repeated under new names. Every program ("arm") segments them in
a separate process, and the arms take turns. The masks are compared. Peers run in their own
environment, which `make bench` installs; those that cannot be run are skipped with the reason.

    python benchmarks/throughput.py [--only throughput,precisions,startup,...] [--output FOLDER]
    python benchmarks/throughput.py --short

The short form runs citymask and the bare loop once. The exit code is 1 if their masks differ,
independent of speed.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# ruff: noqa: E402
from rich.console import Console

from benchmarks import arms, reporting, sections
from benchmarks.archives import bring_to_size, find_photos
from benchmarks.arms import Bench
from benchmarks.gpu_use import gpu_names
from benchmarks.reporting import Section
from models.speed import machine

THROUGHPUT, PRECISIONS, STARTUP, GROWTH, STAGES, GPU = PARTS = (
    "throughput", "precisions", "startup", "growth", "stages", "gpu",
)  # fmt: skip
IMAGES, SHORT_IMAGES = 2000, 60
LEAST_WIDTH = 120
"""Least width of lines, in characters."""

LIBRARIES = (
    "apache-beam", "tensorflow", "openvino", "keras", "numpy", "pillow", "ray", "torch",
)  # fmt: skip


def main() -> None:
    arguments = parse_arguments()
    setting = describe(arguments)
    console = Console(width=max(Console().width, LEAST_WIDTH))
    found: list[Section] = []
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        work = Path(folder)
        photos = bring_to_size(arguments.photos, *arguments.size, work / "photos")
        bench = Bench(arguments.model, arguments.peers)
        for section in run_parts(arguments, sections.Place(bench, photos, work), setting):
            found.append(section)
            section.table.show(console)
            if arguments.output:
                reporting.write(arguments.output, setting, found)
    if arguments.output:
        console.print(f"Tables, figures and chart are in {arguments.output}", highlight=False)
    sys.exit(any(section.wrong for section in found))


def run_parts(
    arguments: argparse.Namespace, place: sections.Place, setting: dict[str, Any]
) -> Iterator[Section]:
    """Run the requested parts; yield each when it is finished."""
    if THROUGHPUT in arguments.only:
        section, speeds = sections.compare(
            place, arguments.arms, arguments.images, arguments.repeats, not arguments.short
        )
        yield section
        if arguments.output:
            title = f"{setting['photos']}; {setting['machine']}"
            reporting.draw(arguments.output / reporting.CHART_FILE, speeds, title)
    if PRECISIONS in arguments.only:
        yield sections.precisions(place, arguments.images, arguments.repeats)
    if STARTUP in arguments.only:
        yield sections.start_up(place)
    if GROWTH in arguments.only:
        yield sections.growth(place, arguments.growth_images)
    if STAGES in arguments.only:
        yield sections.stages(place, arguments.images)
    if GPU in arguments.only and gpu_names():
        yield sections.gpu(place, arguments.images)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, default=ROOT / "demo" / "photos", metavar="DIR")
    parser.add_argument("--size", type=pixels, default="2048x1024", metavar="WxH", help="of photos")
    parser.add_argument("--images", type=int, help="photos for the fast arms; 2000, or 60 if short")
    parser.add_argument("--repeats", type=int, help="turns of each arm; 5, or 1 if short")
    parser.add_argument("--growth-images", type=int, default=10_000, metavar="N")
    parser.add_argument("--model", default="default", help="name or path of a model")
    parser.add_argument(
        "--arms", type=chosen_arms, help="some of " + ",".join(arm.module for arm in arms.COMPARED)
    )
    parser.add_argument("--only", type=chosen_parts, help="some of " + ",".join(PARTS))
    parser.add_argument(
        "--peers", type=Path, default=ROOT / ".venv-peers" / "bin" / "python", metavar="PYTHON",
        help="Python executable of the peers' environment",
    )  # fmt: skip
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="folder for temporary photos and masks"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="folder for tables and figures"
    )
    parser.add_argument("--short", action="store_true", help="citymask and the bare loop, once")
    arguments = parser.parse_args()
    short = arguments.short
    arguments.images = arguments.images or (SHORT_IMAGES if short else IMAGES)
    arguments.repeats = arguments.repeats or (1 if short else 5)
    arguments.only = arguments.only or ((THROUGHPUT,) if short else PARTS)
    arguments.arms = arguments.arms or (arms.COMPARED[:2] if short else arms.COMPARED)
    return arguments


def pixels(text: str) -> tuple[int, int]:
    width, height = map(int, text.split("x"))
    return width, height


def chosen_parts(text: str) -> tuple[str, ...]:
    return tuple(_chosen(text, dict(zip(PARTS, PARTS, strict=True))))


def chosen_arms(text: str) -> tuple[arms.Arm, ...]:
    """The arms of these modules, always including citymask."""
    chosen = _chosen(text, {arm.module: arm for arm in arms.COMPARED})
    return tuple(arm for arm in arms.COMPARED if arm in (arms.CITYMASK, *chosen))


def _chosen(text: str, known: dict[str, Any]) -> list[Any]:
    if unknown := [name for name in text.split(",") if name not in known]:
        raise argparse.ArgumentTypeError(
            f"found {', '.join(unknown)}; expected some of {', '.join(known)}"
        )
    return [known[name] for name in text.split(",")]


def describe(arguments: argparse.Namespace) -> dict[str, Any]:
    """Describe machine, software, model and photos of the measurement."""
    width, height = arguments.size
    ours = arms.installed(Path(sys.executable), LIBRARIES)
    peers = arms.installed(arguments.peers, LIBRARIES)
    return {
        "machine": machine(),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        "libraries": ", ".join(f"{name} {version}" for name, version in sorted(ours.items())),
        "of the peers": ", ".join(f"{name} {version}" for name, version in sorted(peers.items())),
        "model": arguments.model,
        "photos": f"{len(find_photos(arguments.photos))} photos at {width}x{height}, repeated",
    }


if __name__ == "__main__":
    main()
