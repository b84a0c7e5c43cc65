"""Records that flow between the steps: small and frozen, never pixels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Generic, TypeVar

from models.engines.options import Precision
from models.panoramas import OnSphere
from models.uncertainty import Uncertainty

T = TypeVar("T")
Scalar = bool | int | float | str | datetime | None


@dataclass(frozen=True)
class Capture:
    """Where, when and in which direction a photo was taken, as far as known.

    Attributes:
        latitude: WGS 84, degrees, north positive.
        longitude: WGS 84, degrees, east positive.
        captured_at: without time zone: UTC if the source has an offset, else as the camera wrote
            it.
        heading: degrees clockwise from north, 0 <= heading < 360.
    """

    latitude: float | None = None
    longitude: float | None = None
    captured_at: datetime | None = None
    heading: float | None = None

    @classmethod
    def at(
        cls,
        position: tuple[float, float] | None,
        captured_at: datetime | None,
        heading: float | None,
    ) -> "Capture":
        """A capture at a position; None: unknown."""
        latitude, longitude = position or (None, None)
        return cls(latitude, longitude, captured_at, heading)

    @property
    def position(self) -> tuple[float, float] | None:
        """Latitude and longitude; None unless both are known."""
        if self.latitude is None or self.longitude is None:
            return None
        return self.latitude, self.longitude

    def filled_from(self, other: "Capture") -> "Capture":
        """This capture, with unknown values taken from `other`; a position is taken as a whole."""
        located = self if self.position else other
        return Capture(
            located.latitude,
            located.longitude,
            self.captured_at if self.captured_at is not None else other.captured_at,
            self.heading if self.heading is not None else other.heading,
        )


UNKNOWN_CAPTURE = Capture()


@dataclass(frozen=True)
class Look:
    """Perceptual hash and sharpness of a photo, see `transforms.photos.looks`.

    Attributes:
        perceptual_hash: hexadecimal digits; hashes of similar photos differ in few bits.
        sharpness: 0 to 1.
    """

    perceptual_hash: str
    sharpness: float


@dataclass(frozen=True)
class ExtraColumn:
    """A metadata column kept unchanged: its name, Arrow type (`pyarrow.type_for_alias`), value."""

    name: str
    arrow_type: str
    value: Scalar


class Projection(str, Enum):
    """Projection of a photo; the values are those of the option and of the column."""

    AUTO = "auto"
    PERSPECTIVE = "perspective"
    EQUIRECTANGULAR = "equirectangular"


@dataclass(frozen=True)
class ImageRef:
    """Where an image is, and what is known about it before it is read.

    Attributes:
        image: name of the image, its escaped path relative to its INPUT (see `output.names`).
        uri: the file, or `shard#member`, as text.
        path: the file or shard to open.
        version: size and modification time; changes when the image changes.
        group: the group that summaries count it in.
        container: name of the shard format of `path`; empty if `path` is the image's own file.
        offset: first byte of the image's data in `path`.
        length: bytes from `offset`; None for a whole file.
        size: bytes of the file `path` when it was listed; -1 if that is unknown.
        capture: position, time and heading from a manifest or shard; they override EXIF.
        extra: further metadata columns.
        damage: the problem that the listing found with this member; it fails when read.
        trouble: why the listing could not look at it; it fails when read, for reasons of storage.
    """

    image: str
    uri: str
    path: str
    version: str
    group: str
    container: str = ""
    offset: int = 0
    length: int | None = None
    size: int = -1
    capture: Capture = UNKNOWN_CAPTURE
    extra: tuple[ExtraColumn, ...] = ()
    damage: str = ""
    trouble: str = ""

    @property
    def bytes_to_read(self) -> int:
        """Bytes that reading the image takes; -1 if that is unknown."""
        return self.size if self.length is None else self.length


@dataclass(frozen=True)
class PlannedImage:
    """An image to segment, and what planning decided about it.

    Attributes:
        ref: the image, with its name in the output folder.
        mask: path of its mask relative to the output folder.
        attempts: how often this version of the image has failed before.
        replaces: the run whose row of this image the new one replaces; empty if there is none.
        look: the photo's look, if the run has a gate.
        suspicion: 0; or 1: it was in progress when a process was killed; or 2: alone, or it is
            known to have killed one. Suspects are done last, one at a time.
    """

    ref: ImageRef
    mask: str
    attempts: int = 0
    replaces: str = ""
    look: Look | None = None
    suspicion: int = 0


@dataclass(frozen=True)
class Block(Generic[T]):
    """Many small records as one element, which makes shuffles much faster."""

    items: tuple[T, ...]


@dataclass(frozen=True)
class PassedOver:
    """A file or shard member that is not an image, and why it was skipped."""

    uri: str
    reason: str


@dataclass(frozen=True)
class SkippedImages:
    """The number of images of one group that are already done, or set aside."""

    group: str
    images: int


@dataclass(frozen=True)
class WorkUnit:
    """Images that are segmented and committed together; runs resume at whole units."""

    unit_id: str
    images: tuple[PlannedImage, ...]

    @property
    def suspicion(self) -> int:
        """The same for all of its images."""
        return self.images[0].suspicion


@dataclass(frozen=True)
class Segmented:
    """The row of one image whose mask is written.

    Attributes:
        planned: the image.
        width: displayed columns of the photo, EXIF orientation applied.
        height: displayed rows of the photo.
        capture: position, time and heading from metadata or EXIF.
        pixels: pixels per class in the order of the class ids; they add up to width x height.
        precision: of the network that made the mask, never `AUTO`.
        on_sphere: solid angles of a panorama's classes; None for a flat photo.
        uncertainty: how unsure the network is of the photo; None where that is not known.
        values: values of the outputs per photo for the row, by the names of the outputs; None if an
            output has none for this image.
    """

    planned: PlannedImage
    width: int
    height: int
    capture: Capture
    pixels: tuple[int, ...]
    precision: Precision
    on_sphere: OnSphere | None = None
    uncertainty: Uncertainty | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


class Fault(Enum):
    """What is to blame for the failure of an image: itself, storage, or anything else."""

    PHOTO = "photo"
    STORAGE = "storage"
    CIRCUMSTANCES = "circumstances"


@dataclass(frozen=True)
class Failure:
    """The row of one image that could not be segmented: in which stage and why.

    Attributes:
        planned: the image.
        stage: where it failed.
        error: type name of the error.
        message: its message.
        fault: what is to blame; only failures of photos count as attempts.
    """

    planned: PlannedImage
    stage: str
    error: str
    message: str
    fault: Fault = Fault.PHOTO


@dataclass(frozen=True)
class Aside:
    """The row of one image that is set aside, so not segmented.

    Attributes:
        planned: the image.
        reason: `columns.DUPLICATE` or `columns.BLURRED`.
        value: number of bits in which its hash differs from that of `of`, or its sharpness.
        of: the image that it duplicates, or None.
    """

    planned: PlannedImage
    reason: str
    value: float
    of: str | None = None


@dataclass(frozen=True)
class UnitResult:
    """The outcome of a work unit: each image is segmented, failed or left."""

    unit_id: str
    segmented: tuple[Segmented, ...]
    failures: tuple[Failure, ...]
    left: tuple[PlannedImage, ...] = ()
    """Images that were not processed, because the run was asked to stop."""
