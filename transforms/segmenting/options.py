"""Options: where and how images are segmented."""

from dataclasses import dataclass

from models.engines import AUTOMATIC, EngineOptions
from models.mask_options import CLASS_IDS, MaskOptions
from models.merging import MergedClasses
from transforms.flow.records import Projection
from transforms.photos.decoding import DEFAULT_MAX_PIXELS


@dataclass(frozen=True)
class SegmentOptions:
    """Where and how images are segmented.

    Attributes:
        output: the output folder.
        run_id: the run whose rows these are.
        outputs: what is made of each photo besides its mask: names of `output.names.BESIDE`.
        max_pixels: larger photos are refused.
        projection: how photos are taken; left open, as metadata and files say.
        masks: what kind of masks there are.
        merged: optional class mapping.
        engine: how the network is run, and with how many threads.
    """

    output: str
    run_id: str
    outputs: tuple[str, ...] = ()
    max_pixels: int = DEFAULT_MAX_PIXELS
    projection: Projection = Projection.AUTO
    masks: MaskOptions = CLASS_IDS
    merged: MergedClasses | None = None
    engine: EngineOptions = AUTOMATIC
