"""Options: where and how images are segmented."""

from dataclasses import dataclass

from models.engines import (
    AUTOMATIC,
    EngineOptions,
)
from models.merging import MergedClasses
from transforms.flow.records import Projection
from transforms.photos import decoding


@dataclass(frozen=True)
class SegmentOptions:
    """Where and how images are segmented.

    Attributes:
        output: the output folder.
        run_id: the run whose rows these are.
        overlay: whether to write a blended JPEG beside each mask.
        confidence: whether to write a confidence image beside each mask, and means into its row.
        max_pixels: larger photos are refused.
        projection: how photos are taken; left open, as metadata and files say.
        merged: what to merge the classes to besides.
        engine: how the network is run, and with how many threads.
    """

    output: str
    run_id: str
    overlay: bool = False
    confidence: bool = False
    max_pixels: int = decoding.DEFAULT_MAX_PIXELS
    projection: Projection = Projection.AUTO
    merged: MergedClasses | None = None
    engine: EngineOptions = AUTOMATIC
