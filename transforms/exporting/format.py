"""Format: the interface of an export format.

Parts of the archive are written side by side, by any worker and perhaps twice, so what a part
becomes depends on nothing else. What has to be one file is left as fragments, which the last step
puts together.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, ClassVar

import pyarrow as pa

from models.indicators import Indicators
from transforms import storage
from transforms.exporting.parts import Part
from transforms.output.archives import Archive

FRAGMENTS = ".fragments"
"""Folder of fragments that the last step joins and then removes."""


class ExportError(Exception):
    """An archive cannot be exported in a format; the message says why and what to do."""


@dataclass(frozen=True)
class Exported:
    """How many photos were exported or left out.

    Attributes:
        photos: those that the export holds.
        left_out: those that its format has no place for, or no geometry.
    """

    photos: int = 0
    left_out: int = 0


@dataclass(frozen=True)
class Format(ABC):
    """The export of an archive in a format.

    Attributes:
        archive: what is exported.
        indicators: what to derive for its classes.
        resolution: of H3 cells.
        folder: where to write, below the output folder.
        rows_per_part: rows that are exported at a time.
        needs_position: whether it takes photos with a position only.
        reads_masks: whether it reads masks.
        left_out: what becomes of the photos that it has no place for, and why.
    """

    archive: Archive
    indicators: Indicators
    resolution: int
    folder: str
    rows_per_part: ClassVar[int] = 10_000
    needs_position: ClassVar[bool] = False
    reads_masks: ClassVar[bool] = False
    left_out: ClassVar[str] = "left out: they have no position"

    def note(self) -> str:
        """A one-line notice about this export; raises ExportError if it is impossible."""
        return ""

    @abstractmethod
    def write(self, part: Part, schema: pa.Schema) -> Exported:
        """Write a part of the rows.

        Args:
            part: which rows.
            schema: of all rows of the archive.

        Raises:
            ExportError: a mask is missing or damaged.
            StorageError: something cannot be read or written.
        """

    def finish(self, parts: int) -> None:
        """Write what depends on all parts, after they are written.

        Raises:
            ExportError: it turns out that the export cannot be.
            StorageError: something cannot be read or written.
        """
        return

    def put(self, name: str, data: bytes) -> None:
        """Write a file of the export."""
        storage.write(self.archive.output, f"{self.folder}/{name}", data)

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """The same for a file too large for memory."""
        return storage.writing(self.archive.output, f"{self.folder}/{name}")

    def put_fragment(self, part: Part, kind: str, data: bytes) -> None:
        """Write a fragment of a part for the last step."""
        self.put(_fragment(part.number, kind), data)

    def fragments(self, kind: str, parts: int) -> Iterator[BinaryIO]:
        """The fragments of a kind, in the order of the parts, each open until the next is read."""
        for number in range(parts):
            name = _fragment(number, kind)
            with storage.open_file(f"{self.archive.output}/{self.folder}/{name}") as file:
                yield file

    def remove_fragments(self) -> None:
        """Remove the fragments; call it last."""
        storage.remove(self.archive.output, f"{self.folder}/{FRAGMENTS}")


def _fragment(number: int, kind: str) -> str:
    return f"{FRAGMENTS}/{number:06}.{kind}"
