"""Pictures: the thumbnails of a photo: the photo, the overlay and the mask."""

import base64
import logging
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import simplejpeg
from PIL import Image

from models.classes import IGNORE
from models.inputs import resize_pixels
from transforms import storage
from transforms.flow.records import ImageRef
from transforms.inputs.members import ShardError
from transforms.inputs.reading import read_image
from transforms.output.archives import Archive
from transforms.photos import decoding, mask_files
from transforms.reporting import contract

logger = logging.getLogger(__name__)

QUALITY = 80

Size = tuple[int, int]
"""Width and height, pixels."""


@dataclass(frozen=True)
class Wanted:
    """A photo of the gallery.

    Attributes:
        id: names its pictures.
        uri, version, mask, width, height: as in its row.
        ref: where the photo is; None where that is not known.
    """

    id: str
    uri: str
    version: str
    mask: str
    width: int
    height: int
    ref: ImageRef | None = None


@dataclass(frozen=True)
class Made:
    """The pictures that were made of a gallery photo.

    Attributes:
        id: of the photo.
        photo: whether there is a picture of the photo itself.
        mask: whether there is one of its mask; else the mask shows no class.
    """

    id: str
    photo: bool
    mask: bool


def make_pictures(wanted: Wanted, archive: Archive) -> tuple[Made, dict[str, bytes]]:
    """Make the pictures of a photo. A missing or changed photo loses only its own picture.

    Args:
        wanted: the photo.
        archive: what its mask belongs to.

    Returns:
        What could be made, and the files: content by path below the output folder.
    """
    base = f"{contract.PHOTOS}/{wanted.id}"
    width, height = fit((wanted.width, wanted.height), contract.PHOTO_SIDE)
    found = _read_mask(wanted, archive, (width, height))
    mask = np.full((height, width), IGNORE, np.uint8) if found is None else found
    pixels = _read_photo(wanted, (width, height))
    files = {base + contract.MASK_ENDING: _script(wanted.id, mask)}
    if pixels is not None:
        files[base + contract.PHOTO_ENDING] = _jpeg(pixels)
    files[base + contract.OVERLAY_ENDING] = _overlay(pixels, mask, archive)
    return Made(wanted.id, pixels is not None, found is not None), files


def fit(size: Size, side: int) -> Size:
    """A size scaled down so that its longer side is at most `side`; never scaled up."""
    scale = min(1.0, side / max(size))
    width, height = (max(1, round(length * scale)) for length in size)
    return width, height


def _read_photo(wanted: Wanted, size: Size) -> np.ndarray | None:
    """The photo as uint8 RGB at a size; None if it is missing or does not match its row."""
    if wanted.ref is None:
        return None
    shape = size[::-1]
    try:
        data = read_image(wanted.ref, wanted.version)
        most = max(decoding.DEFAULT_MAX_PIXELS, wanted.width * wanted.height)
        photo = decoding.decode_photo(data, lambda *_: shape, most)
    except (storage.StorageError, ShardError, decoding.DecodeError) as error:
        logger.debug("%s: no picture in the report: %s", wanted.uri, error)
        return None
    if (photo.width, photo.height) != (wanted.width, wanted.height):
        return None
    return photo.pixels


def _read_mask(wanted: Wanted, archive: Archive, size: Size) -> np.ndarray | None:
    """The mask at a size, by nearest neighbour: uint8 class ids.

    None where it is gone, damaged or not of the photo's size.
    """
    try:
        data = storage.read(f"{archive.output}/{wanted.mask}")
        values = mask_files.decode_mask(data, wanted.width, wanted.height)
    except (storage.StorageError, mask_files.MaskError) as error:
        logger.debug("%s: no mask in the report: %s", wanted.mask, error)
        return None
    return archive.class_ids(_resized(values, size))


def _script(identity: str, mask: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return contract.mask_script(identity, f"data:image/png;base64,{text}")


def _overlay(pixels: np.ndarray | None, mask: np.ndarray, archive: Archive) -> bytes:
    """A thumbnail of the photo blended with its mask; the mask's colours if there is no photo."""
    width, height = fit(mask.shape[::-1], contract.OVERLAY_SIDE)
    small = _resized(mask, (width, height))
    palette = archive.classes.palette()
    if pixels is None:
        colours = np.frombuffer(palette, np.uint8).reshape(256, 3)
        return _jpeg(colours[small])
    photo = Image.fromarray(resize_pixels(pixels, (height, width)))
    return mask_files.encode_overlay(photo, small, palette)


def _resized(mask: np.ndarray, size: Size) -> np.ndarray:
    """A mask at a size, by nearest neighbour."""
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def _jpeg(pixels: np.ndarray) -> bytes:
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=QUALITY, colorsubsampling="420"
    )
