"""The schema of a report's data: written by this room, read by the page's JavaScript.

`data.js` holds one `Report` as JSON. All `values` are in the order of `Report.measures`, rounded to
`DIGITS`; None is a value that is not defined. Pictures are named by ids, which are numbers, and
never by what a file was called.
"""

import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT: Final = 1
"""It is raised when a page of today could not read the data."""

DIGITS = 4

FOLDER = "report"
DATA = f"{FOLDER}/data.js"
PHOTOS = f"{FOLDER}/photos"

SCRIPT = "globalThis.citymaskReport = "
"""What stands before the JSON in `DATA`."""

_LESS_THAN = r"\u003c"

PHOTO_ENDING = ".jpg"
OVERLAY_ENDING = ".overlay.jpg"
MASK_ENDING = ".mask.js"
"""Of the files of a gallery photo: `PHOTOS/ID` and one of them."""

PHOTO_SIDE = 640
OVERLAY_SIDE = 240
"""Longest side of a picture, in pixels."""

COVERAGE = "coverage"
MOST = "most"
LEAST = "least"
LOW_CONFIDENCE = "low_confidence"
UNLIKE = "unlike_training"
"""Why a photo is in the gallery; the key of the measure stands behind most and least."""

POINTS: Final = "points"
HEXAGONS: Final = "hexagons"
CLASS: Final = "class"
INDICATOR: Final = "indicator"

Id = Annotated[str, Field(pattern=r"^[1-9][0-9]*$")]
Position = tuple[float, float]
"""Latitude and longitude in degrees, WGS 84."""
Colour = tuple[int, int, int]
Values = list[float | None]


class Part(BaseModel):
    """A mapping of the document, with no key but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Model(Part):
    """What the rows come from; `input` is width and height."""

    id: str
    name: str
    architecture: str
    input: tuple[int, int] | None
    training: dict[str, Any]
    metrics: dict[str, Any]


class Class(Part):
    """A class of the model."""

    key: str
    name: str
    colour: Colour


class Measure(Part):
    """What every photo has a value of; one that is no share is a ratio without an upper end."""

    key: str
    name: str
    kind: Literal["class", "indicator"]
    share: bool
    colour: Colour | None
    description: str
    source: str


class Images(Part):
    """Photos by what became of them, those with a position, and those that are unlike what the
    model knows; None if that is not known of any."""

    done: int
    failed: int
    skipped: int
    positioned: int
    unlike: int | None


class Totals(Part):
    """Of the whole archive: pixels per class, photos that show it, mean of each measure, photos by
    the precision of their masks."""

    pixels: list[int]
    images: list[int]
    values: Values
    precisions: dict[str, int]


class Distribution(Part):
    """How many photos have a value between one edge and the next."""

    edges: list[float]
    counts: list[int]


class Group(Part):
    """A group and the means over its photos."""

    name: str
    images: int
    values: Values


class Groups(Part):
    """The largest groups, and how many more there are."""

    rows: list[Group]
    left_out: int


class Extremes(Part):
    """Gallery photos with the most of a measure, highest first, and with the least."""

    most: list[Id]
    least: list[Id]


class Tiles(Part):
    """Where the background of the map comes from, and who is to be named for it."""

    url: str
    attribution: str


class Feature(Part):
    """A photo, or a hexagon of `cell` and the means over the photos in it."""

    position: Position
    cell: list[Position] | None
    name: str
    images: int
    values: Values
    photo: Id | None


class Map(Part):
    """The photos with a position; `bounds` are south, west, north, east."""

    kind: Literal["points", "hexagons"]
    resolution: int | None
    bounds: tuple[float, float, float, float]
    tiles: Tiles | None
    features: list[Feature]


class Photo(Part):
    """A photo of the gallery; `photo` says whether its picture could be made, `unlike` whether it
    is unlike those the model knows."""

    id: Id
    image: str
    group: str
    width: int
    height: int
    position: Position | None
    captured_at: str | None
    heading: float | None
    projection: str | None
    confidence: float | None
    uncertainty: float | None
    unlike: bool | None
    values: Values
    reasons: list[str]
    photo: bool


class Night(Part):
    """A run; `shares` are of the pixels of that night, per class."""

    run_id: str
    started_at: str
    seconds: float
    images: dict[str, int]
    images_per_second: float
    shares: list[float] | None
    alarms: list[str]
    interrupted: str | None


class FailureKind(Part):
    """Failures of one stage and error; `message` is that of the first example."""

    stage: str
    error: str
    message: str
    count: int
    examples: list[str]


class Settings(Part):
    """What the newest run was asked for, and with what it worked."""

    run_id: str
    options: dict[str, Any]
    versions: dict[str, Any]


class Report(Part):
    """The whole document."""

    format: Literal[1]
    created_at: str
    citymask: str
    output: str
    model: Model
    classes: list[Class]
    measures: list[Measure]
    indicators_version: str
    images: Images
    totals: Totals
    distributions: list[Distribution]
    groups: Groups
    extremes: list[Extremes]
    map: Map | None
    gallery: list[Photo]
    nights: list[Night]
    failures: list[FailureKind]
    settings: Settings | None

    def to_script(self) -> bytes:
        """The content of `data.js`: ASCII without `<`, so that no text in it ends what it is in."""
        text = json.dumps(self.model_dump(mode="json"), allow_nan=False, separators=(",", ":"))
        return f"{SCRIPT}{text.replace('<', _LESS_THAN)};\n".encode("ascii")


def mask_script(identity: str, image: str) -> bytes:
    """The content of a mask's script: it hands `image`, a `data:` URL, to the page."""
    return f"citymaskMask({json.dumps(identity)}, {json.dumps(image)});\n".encode("ascii")
