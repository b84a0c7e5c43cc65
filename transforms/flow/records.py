"""What flows between the steps: small frozen records, never pixels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Generic, TypeVar

from models.panoramas import OnSphere

T = TypeVar("T")
Scalar = bool | int | float | str | datetime | None


@dataclass(frozen=True)
class Capture:
    """Where, when and in which direction a photo was taken, as far as known.

    Attributes:
        latitude: WGS 84, degrees, north positive.
        longitude: WGS 84, degrees, east positive.
        captured_at: without time zone: UTC where the source names its offset, else as the camera
            wrote it.
        heading: degrees clockwise from north, 0 <= heading < 360.
    """

    latitude: float | None = None
    longitude: float | None = None
    captured_at: datetime | None = None
    heading: float | None = None

    @property
    def position(self) -> tuple[float, float] | None:
        """Latitude and longitude; None unless both are known."""
        if self.latitude is None or self.longitude is None:
            return None
        return self.latitude, self.longitude

    def filled_from(self, other: "Capture") -> "Capture":
        """This capture, with what is unknown taken from `other`; a position is taken whole."""
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
    """What a photo looks like, see `transforms.photos.looks`.

    Attributes:
        perceptual_hash: hexadecimal digits; photos that look alike differ in few bits.
        sharpness: 0 to 1.
    """

    perceptual_hash: str
    sharpness: float


@dataclass(frozen=True)
class ExtraColumn:
    """A metadata column kept as it is: its name, Arrow type (`pyarrow.type_for_alias`), value."""

    name: str
    arrow_type: str
    value: Scalar


class Projection(str, Enum):
    """How a photo is to be taken; its values are those of the option and of the column."""

    AUTO = "auto"
    PERSPECTIVE = "perspective"
    EQUIRECTANGULAR = "equirectangular"


@dataclass(frozen=True)
class ImageRef:
    """Where one image is and what is known of it before it is read.

    Attributes:
        image: name of the image, its escaped path relative to its INPUT (see `output.names`).
        uri: the file, or `shard#member`, as text.
        path: the file or shard to open.
        version: changes when the image changes: size and modification time.
        group: what summaries are grouped by.
        container: name of the shard format of `path`; empty if `path` is the image's own file.
        offset: first byte of the image's data in `path`.
        length: bytes from `offset`; None for a whole file.
        capture: position, time and heading from a manifest or shard; they override EXIF.
        extra: further metadata columns.
        damage: what the listing found wrong with this member; such an image fails when read.
    """

    image: str
    uri: str
    path: str
    version: str
    group: str
    container: str = ""
    offset: int = 0
    length: int | None = None
    capture: Capture = UNKNOWN_CAPTURE
    extra: tuple[ExtraColumn, ...] = ()
    damage: str = ""


@dataclass(frozen=True)
class PlannedImage:
    """One image to segment, and what planning decided about it.

    Attributes:
        ref: the image, under the name that it has in the output folder.
        mask: path of its mask relative to the output folder.
        attempts: how often this version of the image has failed before.
        replaces: the run whose row of this image the new one replaces; empty if there is none.
        look: what the photo looks like, if the run has a gate.
    """

    ref: ImageRef
    mask: str
    attempts: int = 0
    replaces: str = ""
    look: Look | None = None


@dataclass(frozen=True)
class Block(Generic[T]):
    """Many small records as one element: they cross a shuffle in a fraction of the time."""

    items: tuple[T, ...]


@dataclass(frozen=True)
class PassedOver:
    """A file or shard member that is not an image, and why it was passed over."""

    uri: str
    reason: str


@dataclass(frozen=True)
class SkippedImages:
    """So many images of one group are done already, or set aside."""

    group: str
    images: int


@dataclass(frozen=True)
class WorkUnit:
    """Images that are segmented and committed together: the grain of work and of resume."""

    unit_id: str
    images: tuple[PlannedImage, ...]


@dataclass(frozen=True)
class Segmented:
    """The row of one image whose mask is in place.

    Attributes:
        planned: the image.
        width: displayed columns of the photo, EXIF orientation applied.
        height: displayed rows of the photo.
        capture: position, time and heading from metadata or EXIF.
        pixels: pixels per class in the order of the class ids; they add up to width x height.
        on_sphere: what a panorama's mask covers of the sphere; None for a flat photo.
        values: values for the row of outputs per photo, by the names of the outputs; None where an
            output has none for this image.
    """

    planned: PlannedImage
    width: int
    height: int
    capture: Capture
    pixels: tuple[int, ...]
    on_sphere: OnSphere | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """The row of one image that could not be done: in which stage and why."""

    planned: PlannedImage
    stage: str
    error: str
    message: str


@dataclass(frozen=True)
class Aside:
    """The row of one image that is not segmented, because it is not worth it.

    Attributes:
        planned: the image.
        reason: `columns.DUPLICATE` or `columns.BLURRED`.
        value: bits in which its hash differs from that of the other image, or its sharpness.
        of: the image that it duplicates, or None.
    """

    planned: PlannedImage
    reason: str
    value: float
    of: str | None = None


@dataclass(frozen=True)
class UnitResult:
    """What became of the images of a work unit; every one of them is in one of the three."""

    unit_id: str
    segmented: tuple[Segmented, ...]
    failures: tuple[Failure, ...]
    left: tuple[PlannedImage, ...] = ()
    """Images that were not processed, because the run was asked to stop."""
