"""Exports of masks: each mask becomes a file and entries in JSON lists."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from transforms import storage
from transforms.exporting.format import Exported, ExportError, Format
from transforms.exporting.json_lists import items
from transforms.exporting.parts import Part, mask_schema
from transforms.flow.concurrency import map_requests
from transforms.output import columns
from transforms.output.archives import Archive
from transforms.photos.mask_files import MaskError, decode_mask

NO_COLOR = (0, 0, 0)
"""The colour that tools read as no class, so no class may have it."""


@dataclass(frozen=True)
class MaskedPhoto:
    """A photo that has a mask.

    Attributes:
        number: unique in the archive, from 0.
        image, uri, group, width, height: as in the columns.
        mask: path of the mask below the output folder.
    """

    number: int
    image: str
    uri: str
    group: str
    width: int
    height: int
    mask: str

    @property
    def path(self) -> str:
        """Path of the mask below its folder of masks."""
        return self.mask.partition("/")[2]


class MaskFormat(Format):
    """A format that writes a file per mask.

    Attributes:
        lists: names of the lists that photos have entries in.
    """

    rows_per_part = 256
    reads_masks = True
    lists: ClassVar[tuple[str, ...]] = ()

    def takes(self, photo: MaskedPhoto) -> bool:
        """Whether the format can hold the photo."""
        return True

    @abstractmethod
    def write_mask(self, photo: MaskedPhoto, mask: np.ndarray) -> Mapping[str, Sequence[str]]:
        """Write a mask in this format.

        Args:
            photo: whose mask it is.
            mask: uint8 `(height, width)`, the class ids; 255 is no class.

        Returns:
            The entries in each of `lists`, as JSON.

        Raises:
            StorageError: a file cannot be written.
        """

    def write(self, part: Part, schema: pa.Schema) -> Exported:
        """See `Format.write`."""
        photos = photos_of(part, self.archive)
        taken = [photo for photo in photos if self.takes(photo)]
        # Side by side only where that saves waiting: it holds several masks in memory.
        waits = storage.store_of(self.archive.output).costs_requests
        mapped = map_requests if waits else map
        entries = list(mapped(self._write_photo, taken))
        for name in self.lists:
            self.put_fragment(part, name, items(e for entry in entries for e in entry[name]))
        return Exported(len(taken), len(photos) - len(taken))

    def _write_photo(self, photo: MaskedPhoto) -> Mapping[str, Sequence[str]]:
        return self.write_mask(photo, read_mask(self.archive, photo))


def photos_of(part: Part, archive: Archive) -> list[MaskedPhoto]:
    """The photos of a part; raises StorageError."""
    table = part.read(archive, mask_schema())
    names = (
        columns.IMAGE, columns.URI, columns.GROUP, columns.WIDTH, columns.HEIGHT, columns.MASK
    )  # fmt: skip
    values = zip(*(table[name].to_pylist() for name in names), strict=True)
    return [MaskedPhoto(number, *row) for number, row in enumerate(values, part.first)]


def read_mask(archive: Archive, photo: MaskedPhoto) -> np.ndarray:
    """The class ids of a mask, uint8 `(height, width)`; 255 is no class.

    Raises:
        ExportError: the mask is missing, damaged, or not of the photo's size.
    """
    path = f"{archive.output}/{photo.mask}"
    try:
        values = decode_mask(storage.read(path), photo.width, photo.height)
    except (storage.StorageError, MaskError) as error:
        raise ExportError(
            f"{path}: the mask cannot be read ({error}); `citymask verify {archive.output}` finds "
            "all such masks, and the next run makes them"
        ) from error
    return archive.class_ids(values)


def class_colors(archive: Archive) -> list[tuple[int, int, int]]:
    """The colours of the classes; black is replaced by the darkest unused grey."""
    colors = [entry.color for entry in archive.classes.classes]
    greys = ((value,) * 3 for value in range(1, 256))
    free = next(grey for grey in greys if grey not in colors)
    return [free if color == NO_COLOR else color for color in colors]


def color_table(colors: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """uint8 `(256, 3)`: the colour of each class id, black for all other values."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = colors
    return table
