"""How much mIoU each precision of a network loses against single precision, as packages state it.

`auto` takes no precision whose loss is unknown.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from models.engines import EngineName, EngineOptions, Precision
from models.evaluation import Metrics, evaluate
from models.packages import LOSS, ModelPackage


def measure_single(package: ModelPackage, data_dir: str | Path, split: str) -> Metrics:
    """Measure a package in single precision; raises what `evaluate` raises."""
    return _measure(package, data_dir, split, Precision.F32)


def losses(
    package: ModelPackage,
    data_dir: str | Path,
    split: str,
    single: Metrics,
    precisions: Iterable[Precision],
) -> dict[str, dict[str, Any]]:
    """Measure other precisions of a package.

    Args:
        package: the model.
        data_dir: labelled photos in the CamVid folder layout.
        split: the photos to measure on.
        single: the metrics of single precision on them.
        precisions: what to measure.

    Returns:
        What `ModelDescription.precisions` holds.

    Raises:
        ValueError: see `evaluate`.
        EngineError: OpenVINO does not run here, or not in one of the precisions.
    """
    found = {}
    for precision in precisions:
        miou = _measure(package, data_dir, split, precision).miou
        found[precision.value] = {
            "split": split, "images": single.images, "miou": miou, LOSS: single.miou - miou,
        }  # fmt: skip
    return found


def _measure(
    package: ModelPackage, data_dir: str | Path, split: str, precision: Precision
) -> Metrics:
    return evaluate(package, data_dir, split, EngineOptions(EngineName.OPENVINO, precision))
