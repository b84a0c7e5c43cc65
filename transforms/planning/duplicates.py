"""Duplicates: finds photos that look like another one nearby."""

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from transforms.flow.records import Aside, Capture, Look, PlannedImage
from transforms.output import columns

MOST_BITS = 32
"""Bits of 256 in which the hashes of duplicates may differ."""

METRES = 20.0
"""Distance up to which photos with positions are compared."""

TILE_DEGREES = 0.01
"""Side of the tiles within which they are compared: about a kilometre."""

METRES_PER_DEGREE = 6_371_000 * math.pi / 180

BEFORE = 5
"""Kept photos before it that a photo without a position is compared with."""

TILE = "tile"
FOLDER = "folder"
"""Places within which photos are compared, in this order: properties of `Candidate`."""


@dataclass(frozen=True)
class Candidate:
    """A photo to decide about, or one with results to compare with.

    Attributes:
        image: its name.
        look: what it looks like.
        capture: where it was taken.
        planned: the photo to decide about; None if it has results.
    """

    image: str
    look: Look
    capture: Capture
    planned: PlannedImage | None = None

    @property
    def position(self) -> tuple[float, float] | None:
        """Latitude and longitude; None unless both are known."""
        return self.capture.position

    @property
    def folder(self) -> str:
        """The folder or shard that it is in."""
        return f"folder {self.image.rpartition('/')[0]}"

    @property
    def tile(self) -> str:
        """The tile that it was taken in; without a position one of its own."""
        if self.position is None:
            return f"image {self.image}"
        row, column = _cell(self.position, TILE_DEGREES)
        return f"tile {row} {column}"


class Before:
    """The last photos kept in a folder."""

    def __init__(self) -> None:
        self._kept: deque[Candidate] = deque(maxlen=BEFORE)

    def add(self, candidate: Candidate) -> None:
        """Keep a photo."""
        self._kept.append(candidate)

    def near(self, candidate: Candidate) -> Iterator[Candidate]:
        """The photos to compare with; two with positions were compared in their tile."""
        for other in self._kept:
            if candidate.position is None or other.position is None:
                yield other


class Around:
    """The photos kept in a tile, by place, starting with those that have results."""

    def __init__(self, done: Iterable[Candidate] = ()):
        self._cells: dict[tuple[int, int], dict[str, Candidate]] = defaultdict(dict)
        for candidate in done:
            self.add(candidate)

    def add(self, candidate: Candidate) -> None:
        """Keep a photo."""
        self._cells[_cell(_place(candidate), METRES)][candidate.image] = candidate

    def near(self, candidate: Candidate) -> Iterator[Candidate]:
        """The photos to compare with."""
        place = _place(candidate)
        row, column = _cell(place, METRES)
        for below, right in product((-1, 0, 1), repeat=2):
            for other in self._cells.get((row + below, column + right), {}).values():
                if math.dist(place, _place(other)) <= METRES:
                    yield other


def find_duplicates(
    todo: Iterable[Candidate], done: Iterable[Candidate], place: str
) -> Iterator[Aside]:
    """The duplicates among the photos of one tile or folder.

    Args:
        todo: photos to decide about, in any order.
        done: photos with results; one that is also in `todo` is ignored.
        place: `TILE` or `FOLDER`.
    """
    known = {candidate.image: candidate for candidate in done}
    candidates = known | {candidate.image: candidate for candidate in todo}
    still_done = (candidate for candidate in candidates.values() if candidate.planned is None)
    kept = Around(still_done) if place == TILE else Before()
    for _, candidate in sorted(candidates.items()):
        if candidate.planned:
            near = ((_bits(candidate, other), other.image) for other in kept.near(candidate))
            bits, of = min(near, default=(MOST_BITS + 1, ""))
            if bits <= MOST_BITS:
                yield Aside(candidate.planned, columns.DUPLICATE, bits, of)
                continue
        kept.add(candidate)


def _bits(a: Candidate, b: Candidate) -> int:
    """In how many bits their hashes differ."""
    return (int(a.look.perceptual_hash, 16) ^ int(b.look.perceptual_hash, 16)).bit_count()


def _place(candidate: Candidate) -> tuple[float, float]:
    """Metres to the north and the east, in the plane of the tile; without a position 0."""
    latitude, longitude = candidate.position or (0.0, 0.0)
    row, _ = _cell((latitude, longitude), TILE_DEGREES)
    east = longitude * math.cos(math.radians(row * TILE_DEGREES))
    return latitude * METRES_PER_DEGREE, east * METRES_PER_DEGREE


def _cell(point: tuple[float, float], size: float) -> tuple[int, int]:
    return math.floor(point[0] / size), math.floor(point[1] / size)
