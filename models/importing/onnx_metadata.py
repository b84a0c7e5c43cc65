"""What exporters write into the metadata of an ONNX file.

The keys `model_author`, `model_license` and `Image.*` are those of the ONNX standard
(https://github.com/onnx/onnx/blob/main/docs/MetadataProps.md); `names`, `imgsz` and `license` are
those of Ultralytics. `mean`, `std` and `color` have no standard; the usual names are taken.
"""

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from models.graphs import Channels
from models.importing.sources import Fact

T = TypeVar("T")

SOURCE = "the metadata of the ONNX file"

MAX_CHARACTERS = 1 << 18
"""Longest text that is parsed."""

NAME = ("model_name", "name")
ARCHITECTURE = ("architecture", "model_type")
LICENCE = ("model_license", "license", "licence")
CLASS_NAMES = ("names", "classes", "class_names", "labels")
INPUT_SIZE = ("imgsz",)
MEAN = ("mean", "image_mean", "mean_values")
STD = ("std", "image_std", "scale_values")
CHANNELS = ("Image.BitmapPixelFormat", "color_format", "channel_order", "color_space")
PIXEL_RANGE = "Image.NominalPixelRange"

_RANGES = {
    "nominalrange_0_255": (0.0, 1 / 255),
    "normalized_0_1": (0.0, 1.0),
    "normalized_1_1": (0.5, 0.5),
}
"""Mean and std of photos scaled to 0..1, by the range that a network takes."""


def facts(metadata: Mapping[str, str]) -> dict[str, Fact[Any]]:
    """The fields of `Facts` that metadata states."""
    found: dict[str, Any] = {
        "name": _first(metadata, NAME),
        "architecture": _first(metadata, ARCHITECTURE),
        "licence": _first(metadata, LICENCE),
        "class_names": _names(_value(_first(metadata, CLASS_NAMES))),
        "input_size": _size(_value(_first(metadata, INPUT_SIZE))),
        "channels": _channels(_first(metadata, CHANNELS)),
    }
    statistics = _statistics(metadata)
    if statistics:
        found["mean"], found["std"] = statistics
    return {key: Fact(value, SOURCE) for key, value in found.items() if value}


def _first(metadata: Mapping[str, str], keys: Sequence[str]) -> str:
    """The first of these entries that is there and short enough; else an empty text."""
    texts = (metadata.get(key, "").strip() for key in keys)
    return next((text for text in texts if 0 < len(text) <= MAX_CHARACTERS), "")


def _value(text: str) -> Any:
    """What a text in JSON or Python's notation stands for; None if it is neither."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return None


def _names(value: Any) -> tuple[str, ...] | None:
    """Names from a list, or from a dictionary by class ids that are 0, 1, 2 and so on."""
    if isinstance(value, dict):
        by_id = {str(key): name for key, name in value.items()}
        value = [by_id.get(str(number)) for number in range(len(by_id))]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return None
    return tuple(value)


def _size(value: Any) -> tuple[int, int] | None:
    """Width and height from Ultralytics' height and width."""
    if not isinstance(value, list) or len(value) != 2 or not all(type(v) is int for v in value):
        return None
    return value[1], value[0]


def _channels(text: str) -> Channels | None:
    order = text.upper()[:3]
    return Channels(order) if order in Channels.__members__ else None


def _statistics(metadata: Mapping[str, str]) -> tuple[Sequence[float], Sequence[float]] | None:
    """Mean and std of photos scaled to 0..1; both have to be stated, or a range."""
    mean, std = (_numbers(_value(_first(metadata, keys))) for keys in (MEAN, STD))
    if mean and std and min(std) > 0:
        scale = 255 if max(*mean, *std) > 2 else 1  # Else they are of photos in 0..255.
        return tuple(v / scale for v in mean), tuple(v / scale for v in std)
    found = _RANGES.get(metadata.get(PIXEL_RANGE, "").lower())
    return ((found[0],) * 3, (found[1],) * 3) if found else None


def _numbers(value: Any) -> tuple[float, ...] | None:
    """Three finite numbers, from a list of them or a single one."""
    values = value if isinstance(value, list | tuple) else [value] * 3
    if len(values) != 3 or not all(type(v) in (int, float) and abs(v) < 1e6 for v in values):
        return None
    return tuple(map(float, values))
