"""How much mIoU each precision of a network loses against single precision, as packages state it.

`auto` takes no precision whose loss is unknown.
"""

from collections.abc import Iterable
from typing import Any

from models.engines import EngineName, EngineOptions, Precision
from models.evaluation import Metrics, evaluate
from models.labelled_photos import LabelledPhotos
from models.packages import LOSS, ModelPackage


def measure_single(package: ModelPackage, photos: LabelledPhotos) -> Metrics:
    """Measure a package in single precision; raises what `evaluate` raises."""
    return _measure(package, photos, Precision.F32)


def losses(
    package: ModelPackage,
    photos: LabelledPhotos,
    split: str,
    single: Metrics,
    precisions: Iterable[Precision],
) -> dict[str, dict[str, Any]]:
    """Measure other precisions of a package.

    Args:
        package: the model.
        photos: labelled photos to measure on.
        split: the name of their split.
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
        miou = _measure(package, photos, precision).miou
        found[precision.value] = {
            "split": split, "images": single.images, "miou": miou, LOSS: single.miou - miou,
        }  # fmt: skip
    return found


def _measure(package: ModelPackage, photos: LabelledPhotos, precision: Precision) -> Metrics:
    return evaluate(package, photos, EngineOptions(EngineName.OPENVINO, precision))
