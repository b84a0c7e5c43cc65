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
        run_id: the run, as stored in the rows.
        outputs: further outputs per photo, names of `output.names.BESIDE`.
        max_pixels: larger photos are refused.
        projection: projection of the photos; `AUTO` takes it from metadata and files.
        masks: the kind of masks.
        merged: optional class mapping.
        engine: how the network is run, and with how many threads.
        durable: whether masks and rows survive a power cut once a unit is committed.
        locked: whether the run holds the lock of the output folder; then it writes only as long as
            no other run has taken the folder over.
        folders: folders that must stay what they are during the run, see `fencing.check_folders`.
    """

    output: str
    run_id: str
    outputs: tuple[str, ...] = ()
    max_pixels: int = DEFAULT_MAX_PIXELS
    projection: Projection = Projection.AUTO
    masks: MaskOptions = CLASS_IDS
    merged: MergedClasses | None = None
    engine: EngineOptions = AUTOMATIC
    durable: bool = True
    locked: bool = False
    folders: tuple[tuple[str, str], ...] = ()

    @property
    def owner(self) -> str:
        """Who holds the lock, see `output.fencing.check`; empty if nobody does."""
        return self.run_id if self.locked else ""
