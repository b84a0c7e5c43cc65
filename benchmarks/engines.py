"""Measure what a processor makes of each engine and precision, and what `auto` chooses.

Speeds are those of the network alone, in one stream per thread, from photos in memory to logits in
memory. The engines of a model take turns. The losses are those that the packages state.

    python benchmarks/engines.py [--models default,unet] [--threads N]
"""

import argparse
import logging

from models import engines
from models.engines import Engine, EngineError, EngineName, EngineOptions, Precision, choosing
from models.engines.devices import cores
from models.packages import ModelPackage, load_package, shipped_names
from models.speed import compare_speeds, machine

SETTINGS = (
    *((EngineName.OPENVINO, p) for p in (Precision.INT8, Precision.BF16, Precision.F32)),
    *((EngineName.TENSORFLOW, p) for p in (Precision.BF16, Precision.F32)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(shipped_names()), help="separated by commas")
    parser.add_argument("--threads", type=int, default=cores(), help="default: all")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    print(f"{machine()}; {arguments.threads} threads\n")
    print("| model | engine | precision | photos/s | times f32 | loss, points of mIoU | auto |")
    print("|---|---|---|---:|---:|---:|---|")
    for name in arguments.models.split(","):
        print_model(load_package(name), arguments.threads)


def print_model(package: ModelPackage, threads: int) -> None:
    """Print the rows of a model."""
    found: dict[tuple[EngineName, Precision], Engine] = {}
    for engine, precision in SETTINGS:
        try:
            options = EngineOptions(engine, precision, threads=threads)
            found[engine, precision] = engines.load_engine(package, options)
        except EngineError as error:
            print(f"| {package.name} | {engine.value} | {precision.value} | - | - | - | {error} |")
    speeds = dict(
        zip(found, compare_speeds(list(found.values()), *package.nominal_shape), strict=True)
    )
    single = speeds[EngineName.OPENVINO, Precision.F32]
    chosen = choosing.settled(package, EngineOptions(threads=threads)).precision
    for (engine, precision), speed in speeds.items():
        loss = 0.0 if precision is Precision.F32 else package.loss(precision.value)
        shown = "unknown" if loss is None else f"{100 * loss:.2f}"
        mark = "chosen" if (engine, precision) == (EngineName.OPENVINO, chosen) else ""
        print(
            f"| {package.name} | {engine.value} | {precision.value} | {speed:.1f} | "
            f"{speed / single:.2f} | {shown} | {mark} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
