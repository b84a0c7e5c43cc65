"""Decoding: from encoded bytes to pixels at the displayed size, and the EXIF metadata."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageOps

from models.inputs import resize, resize_pixels
from models.panoramas import closed_shape
from models.segmenter import NetworkInput
from transforms.flow.records import UNKNOWN_CAPTURE, Capture, Projection
from transforms.photos.exif import read_capture
from transforms.photos.projections import recognise

DEFAULT_MAX_PIXELS = 250_000_000
"""Larger photos are refused before any memory is allocated for them."""

UNSUPPORTED_FORMATS = {
    *("EPS", "PDF", "MPEG", "WMF", "FITS", "GRIB", "HDF5", "BUFR", "STUB", "PCD"),
    *("ICO", "ICNS", "CUR", "IPTC"),
}
"""Formats that Pillow opens but that are not photos, need an external program, or hold an image
whose size is not in the file's header."""

UNDECODABLE_EXTENSIONS = {".heic", ".heif", ".hif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw"}
"""Photos that Pillow cannot decode; listed nevertheless, so that they are reported as failed."""

# The limit is max_pixels, checked on the header; Pillow's own limit would refuse large photos.
Image.MAX_IMAGE_PIXELS = None
Image.init()
FORMATS = tuple(name for name in Image.ID if name not in UNSUPPORTED_FORMATS)
EXTENSIONS = UNDECODABLE_EXTENSIONS | {
    extension for extension, name in Image.registered_extensions().items() if name in FORMATS
}

_JPEG_FORMATS = ("JPEG", "MPO")
"""Pillow's names for a JPEG, and for a file of several JPEGs, of which the first is the photo."""

_JPEG_MODES = ("RGB", "L")

_UPRIGHT = 1
_SWAPS_AXES = (5, 6, 7, 8)
"""EXIF orientations that rotate a photo by 90 degrees."""


class DecodeError(Exception):
    """A photo cannot be decoded; the message says what was found."""


@dataclass(frozen=True, eq=False)
class Photo(NetworkInput):
    """A decoded photo at the network's input size; `width` and `height` are as displayed.

    Attributes:
        capture: position, time and heading from EXIF.
        contradiction: why it is not a panorama although it is claimed to be one; else empty.
    """

    capture: Capture = UNKNOWN_CAPTURE
    contradiction: str = ""


def is_image_name(name: str) -> bool:
    """Whether a file name has the extension of an image, in upper or lower case."""
    dot = name.rfind(".")
    return dot >= 0 and name[dot:].lower() in EXTENSIONS


def decode_photo(
    data: bytes,
    shape_for: Callable[[int, int], tuple[int, int]],
    max_pixels: int,
    claim: Projection = Projection.AUTO,
) -> Photo:
    """Decode a photo directly to its network input; JPEGs are scaled down while decoding.

    Args:
        data: an encoded image of any format in `FORMATS`; of an animation, the first frame is used.
        shape_for: the network input shape `(h, w)` for a displayed `(width, height)`.
        max_pixels: larger photos are refused before pixels are allocated.
        claim: its claimed projection.

    Raises:
        DecodeError: not an image, damaged, of an unsupported codec, or too large.
    """
    with _open(data, max_pixels) as image:
        exif = _exif(image)
        orientation = _orientation(image, exif)
        turned = orientation in _SWAPS_AXES
        width, height = image.size[::-1] if turned else image.size
        shape = shape_for(width, height)
        xmp = _xmp(image)
        recognised = recognise(claim, xmp, width, height)
        panorama = recognised.panorama
        if panorama and panorama.is_closed:
            shape = closed_shape(shape)
        stored_shape = shape[::-1] if turned else shape
        image.draft("RGB", stored_shape[::-1])
        decoded = _decode_jpeg(data, image)
        if decoded is None:
            pixels = resize(_load(image), stored_shape)
        else:
            pixels = resize_pixels(decoded, stored_shape)
        return Photo(
            _upright(pixels, orientation),
            width,
            height,
            panorama,
            read_capture(exif, xmp),
            recognised.contradiction,
        )


def decode_full(data: bytes, max_pixels: int) -> Image.Image:
    """Decode a photo to RGB at its displayed size; raises what `decode_photo` raises."""
    with _open(data, max_pixels) as image:
        orientation = _orientation(image, _exif(image))
        decoded = _decode_jpeg(data, image)
        pixels = np.asarray(_load(image)) if decoded is None else decoded
        return Image.fromarray(_upright(pixels, orientation))


def capture_of(data: bytes) -> Capture:
    """The capture in the EXIF tags of an encoded photo; raises DecodeError if it is no image."""
    with _open(data, DEFAULT_MAX_PIXELS) as image:
        return read_capture(_exif(image), _xmp(image))


def _open(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise DecodeError("empty file (0 bytes)")
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError:
        raise DecodeError(
            f"not an image, or of an unsupported codec: {len(data)} bytes that start with "
            f"{data[:12]!r}"
        ) from None
    except Exception as error:  # Pillow's plugins raise many types on damaged headers.
        raise DecodeError(f"damaged header: {_reason(error)}") from error
    width, height = image.size
    if min(width, height) < 1:
        raise DecodeError(f"damaged header: {width} x {height} pixels")
    if width * height > max_pixels:
        image.close()
        raise DecodeError(
            f"{width} x {height} pixels are more than the limit of {max_pixels}; "
            "raise --max-pixels if the photo is genuine"
        )
    return image


def _decode_jpeg(data: bytes, image: Image.Image) -> np.ndarray | None:
    """The pixels of a JPEG as uint8 RGB `(h, w, 3)`, at the size set by `Image.draft`.

    They equal Pillow's but are decoded faster. None for other formats, and for unusual or damaged
    files, which are left to Pillow.
    """
    if image.format in _JPEG_FORMATS and image.mode in _JPEG_MODES:
        with suppress(ValueError):
            return simplejpeg.decode_jpeg(data, min_height=image.height, min_width=image.width)
    return None


def _load(image: Image.Image) -> Image.Image:
    """The pixels as 8-bit RGB; deeper grey values keep their upper bits; alpha is dropped."""
    try:
        image.load()
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        elif image.mode == "I":
            values = np.asarray(image).clip(0, 65535)
            image = Image.fromarray((values >> (8 if values.max() > 255 else 0)).astype(np.uint8))
        elif image.mode == "F":
            values = np.nan_to_num(np.asarray(image))
            scale = 255 if values.max() <= 1 else 1
            image = Image.fromarray((values * scale).clip(0, 255).astype(np.uint8))
        return image.convert("RGB")
    except Exception as error:  # OSError, SyntaxError, struct.error, ...
        raise DecodeError(f"damaged or unsupported image data: {_reason(error)}") from error


def _exif(image: Image.Image) -> Image.Exif:
    try:
        exif = image.getexif()
        exif.get_ifd(ExifTags.IFD.GPSInfo)
        exif.get_ifd(ExifTags.IFD.Exif)
        return exif
    except Exception:  # With a damaged EXIF block, only the metadata is lost.
        return Image.Exif()


def _xmp(image: Image.Image) -> bytes:
    packet = image.info.get("xmp", b"")
    return packet.encode() if isinstance(packet, str) else packet


def _orientation(image: Image.Image, exif: Image.Exif) -> int:
    """The EXIF orientation that is still to be applied; Pillow applies that of TIFF itself."""
    orientation = exif.get(ExifTags.Base.Orientation)
    if image.format == "TIFF" or not isinstance(orientation, int):
        return _UPRIGHT
    return orientation


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation == _UPRIGHT:
        return pixels
    image = Image.fromarray(pixels)
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]
