"""Decoding: from encoded bytes to pixels at the displayed size, and the EXIF metadata."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from models.panoramas import closed_shape
from models.segmenter import NetworkInput
from transforms.flow.records import UNKNOWN_CAPTURE, Capture, Projection
from transforms.photos.exif import read_capture
from transforms.photos.formats import jpeg, jpeg2000, pillow, png, tiff, webp
from transforms.photos.memory import reserved
from transforms.photos.metadata import SWAPS_AXES
from transforms.photos.pictures import BYTES_PER_PIXEL, SMALLEST_LIMIT, DecodeError, Picture
from transforms.photos.projections import recognise

DEFAULT_MAX_PIXELS = 250_000_000
"""Larger photos are refused before any memory is allocated for them."""

UNDECODABLE_EXTENSIONS = {".heic", ".heif", ".hif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw"}
"""Photos that cannot be decoded; listed nevertheless, so that they are reported as failed."""

# The limit is max_pixels, checked on the header; Pillow's own limit would refuse large photos.
Image.MAX_IMAGE_PIXELS = None
Image.init()
FORMATS = (
    *("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "JPEG2000", "GIF", "BMP", "DIB", "PPM", "TGA", "QOI"),
    *("PSD", "SGI", "SUN", "PCX"),
)
"""Pillow's names of the formats of photos. Its other formats are of icons, textures, faxes and
films, need an external program, or have no size in the header by which memory could be limited."""

EXTENSIONS = UNDECODABLE_EXTENSIONS | {
    extension
    for extension, name in Image.registered_extensions().items()
    if name in (*FORMATS, "MPO")
}

_UPRIGHT_OF: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}
"""How pixels of each EXIF orientation are turned, without a copy."""


@dataclass(frozen=True, eq=False)
class Photo(NetworkInput):
    """A decoded photo at the network's input size; `width` and `height` are as displayed.

    Attributes:
        capture: position, time and heading from EXIF.
        contradiction: why it is not a panorama although it is claimed to be one; else empty.
        further: other photos in the same file, which are passed over.
    """

    capture: Capture = UNKNOWN_CAPTURE
    contradiction: str = ""
    further: int = 0


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
        data: an encoded image of any format in `FORMATS`; of several pictures, the first is used.
        shape_for: the network input shape `(h, w)` for a displayed `(width, height)`.
        max_pixels: larger photos are refused before pixels are allocated, and so are those that
            take more than `BYTES_PER_PIXEL` times as many bytes to decode.
        claim: its claimed projection.

    Raises:
        DecodeError: not an image, damaged, of an unsupported codec, or too large.
    """
    picture = _open(data, max_pixels)
    orientation = picture.metadata.orientation
    turned = orientation in SWAPS_AXES
    width, height = picture.width, picture.height
    if turned:
        width, height = height, width
    shape = shape_for(width, height)
    recognised = recognise(claim, picture.metadata.xmp, width, height)
    panorama = recognised.panorama
    if panorama and panorama.is_closed:
        shape = closed_shape(shape)
    stored_shape = shape[::-1] if turned else shape
    with reserved(picture.working_bytes):
        pixels = _read(lambda: picture.resized(stored_shape))
    return Photo(
        np.ascontiguousarray(_UPRIGHT_OF[orientation](pixels)),
        width,
        height,
        panorama,
        read_capture(picture.metadata.exif, picture.metadata.xmp),
        recognised.contradiction,
        picture.further,
    )


def decode_full(data: bytes, max_pixels: int) -> Image.Image:
    """Decode a photo to RGB at its displayed size; raises what `decode_photo` raises."""
    return Image.fromarray(decode_pixels(data, max_pixels))


def decode_pixels(data: bytes, max_pixels: int) -> np.ndarray:
    """Like `decode_full`, in less memory.

    Returns:
        uint8 RGB of shape `(height, width, 3)`, which may be a view that is not contiguous.
    """
    picture = _open(data, max_pixels)
    return _UPRIGHT_OF[picture.metadata.orientation](_read(picture.full))


def capture_of(data: bytes) -> Capture:
    """The capture in the EXIF tags of an encoded photo of any size.

    Raises:
        DecodeError: it is no image.
    """
    metadata = _opened(data).metadata
    return read_capture(metadata.exif, metadata.xmp)


def _open(data: bytes, max_pixels: int) -> Picture:
    """Open a photo that is within the limits; raises DecodeError."""
    picture = _opened(data)
    width, height = picture.width, picture.height
    if min(width, height) < 1:
        raise DecodeError(f"damaged header: {width} x {height} pixels")
    if width * height > max_pixels:
        raise DecodeError(
            f"{width} x {height} pixels are more than the limit of {max_pixels}; "
            "raise --max-pixels if the photo is genuine"
        )
    limit = max(BYTES_PER_PIXEL * max_pixels, SMALLEST_LIMIT)
    if picture.working_bytes > limit:
        raise DecodeError(
            f"{width} x {height} pixels that take {picture.working_bytes} bytes to decode, more "
            f"than the limit of {limit}, {BYTES_PER_PIXEL} per pixel of --max-pixels; "
            "raise it if the photo is genuine"
        )
    return picture


def _opened(data: bytes) -> Picture:
    """Open a photo by the reader of its format; raises DecodeError."""
    if not data:
        raise DecodeError("empty file (0 bytes)")
    try:
        if data.startswith(jpeg.SIGNATURE):
            return jpeg.open_jpeg(data)
        if data.startswith(png.SIGNATURE):
            return png.open_png(data)
        if data.startswith(tiff.SIGNATURES):
            return tiff.open_tiff(data)
        if webp.is_webp(data):
            return webp.open_webp(data)
        if jpeg2000.is_jpeg2000(data):
            return jpeg2000.open_jpeg2000(data)
        return pillow.open_any(data, FORMATS)
    except DecodeError:
        raise
    except Exception as error:  # Readers raise many types on damaged headers.
        raise DecodeError(f"damaged header: {_reason(error)}") from error


def _read(pixels: Callable[[], np.ndarray]) -> np.ndarray:
    """Read the pixels of a photo; raises DecodeError."""
    try:
        return pixels()
    except DecodeError:
        raise
    except Exception as error:  # OSError, SyntaxError, struct.error, ...
        raise DecodeError(f"damaged or unsupported image data: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]
