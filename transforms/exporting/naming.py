"""Naming: unique names of photos in an export.

No worker sees all names, so the last step looks at them, as a stream. It holds 8 bytes of each.
"""

import hashlib
from collections.abc import Iterator

import numpy as np

from transforms.exporting.format import ExportError
from transforms.exporting.json_lists import read_items, to_json
from transforms.exporting.masked import MaskedPhoto, MaskFormat

NAMES = "names"


class NamedMasks(MaskFormat):
    """A format of masks that renames photos; `name_entry` is the entry of each photo."""

    lists = (NAMES,)

    def name_entry(self, name: str, photo: MaskedPhoto) -> dict[str, list[str]]:
        """The entry that `write_mask` returns for a photo of that name."""
        return {NAMES: [to_json([name, photo.image])]}

    def names(self, parts: int) -> Iterator[tuple[str, str]]:
        """The name and the image of each photo, in order."""
        yield from read_items(self.fragments(NAMES, parts))

    def check_names(self, parts: int, what: str) -> None:
        """Check that no name is used twice.

        Args:
            parts: how many there are.
            what: why two photos may get one name, and what to do, for the message.

        Raises:
            ExportError: two photos have one name.
        """
        hashes = np.fromiter((_hash(name) for name, _ in self.names(parts)), np.uint64)
        values, counts = np.unique(hashes, return_counts=True)
        repeated = set(values[counts > 1].tolist())
        seen: dict[str, str] = {}
        for name, image in self.names(parts) if repeated else ():
            if _hash(name) in repeated and seen.setdefault(name, image) != image:
                raise ExportError(f"{seen[name]} and {image} would both be {name!r}: {what}")


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
