"""Measure what a processor makes of each engine and precision, and what `auto` chooses.

Speeds are those of the network alone, in one stream per thread, from photos in memory to logits in
memory. The engines of a model take turns. The losses are those that the packages state.

    python benchmarks/engines.py [--models default,unet] [--threads N]
"""

import argparse
import logging

from models import engines
from models.engines import Engine, EngineError, EngineName, EngineOptions, Precision
from models.engines.devices import cores
from models.engines.imported import check_engine
from models.packages import ModelPackage, load_package, shipped_names
from models.speed import compare_speeds, machine

SETTINGS = (
    *((EngineName.OPENVINO, p) for p in (Precision.INT8, Precision.BF16, Precision.F32)),
    *((EngineName.TENSORFLOW, p) for p in (Precision.BF16, Precision.F32)),
    *((name, Precision.AUTO) for name in (EngineName.ONNXRUNTIME, EngineName.LITERT)),
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
    for name, precision in SETTINGS:
        if not _runs(package, name):
            continue
        try:
            engine = engines.load_engine(package, EngineOptions(name, precision, threads=threads))
            found[name, engine.precision] = engine
        except EngineError as error:
            print(f"| {package.name} | {name.value} | {precision.value} | - | - | - | {error} |")
    speeds = dict(
        zip(found, compare_speeds(list(found.values()), *package.nominal_shape), strict=True)
    )
    single = speeds.get((EngineName.OPENVINO, Precision.F32), float("nan"))
    chosen = engines.load_engine(package, EngineOptions(threads=threads))
    for (name, precision), speed in speeds.items():
        loss = 0.0 if precision is Precision.F32 else package.loss(precision.value)
        shown = "unknown" if loss is None else f"{100 * loss:.2f}"
        is_chosen = isinstance(chosen, type(found[name, precision]))
        mark = "chosen" if is_chosen and chosen.precision is precision else ""
        print(
            f"| {package.name} | {name.value} | {precision.value} | {speed:.1f} | "
            f"{speed / single:.2f} | {shown} | {mark} |",
            flush=True,
        )


def _runs(package: ModelPackage, name: EngineName) -> bool:
    """Whether an engine is one for networks such as the package's."""
    try:
        check_engine(package, name)
    except EngineError:
        return False
    return True


if __name__ == "__main__":
    main()
