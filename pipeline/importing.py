"""Importing a network: reading it, trying it on a photo, and showing what it sees."""

from pathlib import Path

from PIL import Image

from models.importing import reading
from models.importing.making import PHOTO, Imported, try_out
from models.importing.settling import Wishes, settle
from models.packages import ModelPackage
from models.segmenter import Segmenter
from transforms import storage
from transforms.photos.decoding import DEFAULT_MAX_PIXELS, decode_full
from transforms.photos.mask_files import encode_overlay

OVERLAY = "overlay.jpg"
"""File of a package: a photo blended with the mask that the network gives."""


def import_network(source: str, wishes: Wishes, photo: str | None = None) -> Imported:
    """Read a network, find out what it takes and gives, and run it on a photo.

    Args:
        source: a file or folder, or a handle of a hub.
        wishes: what the user states.
        photo: a file; by default `making.PHOTO`.

    Raises:
        ModelImportError: it cannot be read, may carry code, does not run, or something cannot be
            found out.
        StorageError: the photo cannot be read.
        DecodeError: it is no photo.
    """
    image = _photo(photo)
    size = wishes.facts.input_size
    found = reading.read(source, size.value if size else None)
    return try_out(found, settle(found, wishes, Path(source).stem), image)


def show(package: ModelPackage, photo: str | None, overlay: Path) -> dict[str, float]:
    """Segment a photo, write its overlay, and return the share of each class that it shows.

    Raises what `import_network` raises for the photo, and:
        EngineError: the model does not run.
        OSError: the overlay cannot be written.
    """
    image = _photo(photo)
    found = Segmenter.load(package).segment(image)
    overlay.write_bytes(encode_overlay(image, found.mask, package.classes.palette()))
    shares = zip(package.classes.names, found.pixels, strict=True)
    return {name: pixels / found.mask.size for name, pixels in shares if pixels}


def _photo(file: str | None) -> Image.Image:
    return decode_full(storage.read(str(file or PHOTO)), DEFAULT_MAX_PIXELS)
