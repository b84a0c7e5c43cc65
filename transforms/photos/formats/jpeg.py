"""JPEG: decoded by libjpeg-turbo, scaled down while decoding.

Sources: ITU-T T.81, annex B; the Exif and XMP segments of EXIF 2.32 and XMP part 3.
"""

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO

import numpy as np
import simplejpeg
from PIL import JpegImagePlugin

from models.inputs import resize_pixels
from transforms.photos import ifd, metadata
from transforms.photos.formats.pillow import rgb_bands
from transforms.photos.pictures import DecodeError, Picture, assembled

SIGNATURE = b"\xff\xd8\xff"
END = b"\xff\xd9"

_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_SCAN, _END = 0xDA, 0xD9
_ALONE = {0x01, *range(0xD0, 0xD9)}
"""Markers without a segment."""

_APP0, _APP1, _APP2, _APP14, _APP15, _COMMENT = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_PICTURES = b"MPF\0"
"""Begin of the segment that lists several pictures, CIPA DC-007, section 5."""

_ENTRIES = 0xB002
_ENTRY = "4xII4x"
"""Tag of the list, and its entries: length and position of each picture."""

_SCALES = (8, 4, 2, 1)
_COEFFICIENTS = 64
"""Of a block."""
_COEFFICIENT_BYTES = 2
_CMYK = 4


@dataclass(frozen=True)
class Frame:
    """What the header of a JPEG says.

    Attributes:
        width, height: its size.
        sampling: the horizontal and vertical sampling factor of each component, by its number.
        progressive: whether its coefficients come in several scans.
        scan: position of the first scan.
        whole_scan: whether that scan holds all components.
        exif, xmp: blocks of metadata; empty without.
        pictures: where the list of several pictures starts and ends; empty without.
    """

    width: int
    height: int
    sampling: dict[int, tuple[int, int]]
    progressive: bool
    scan: int
    whole_scan: bool
    exif: bytes = field(default=b"", repr=False)
    xmp: bytes = field(default=b"", repr=False)
    pictures: tuple[int, int] = (0, 0)

    @property
    def buffered_bytes(self) -> int:
        """Memory that libjpeg takes for coefficients: of several scans it keeps all."""
        if self.whole_scan and not self.progressive:
            return 0
        widest = max(across * down for across, down in self.sampling.values())
        per_pixel = sum(across * down for across, down in self.sampling.values()) / widest
        return int(self.width * self.height * per_pixel * _COEFFICIENT_BYTES)


def read_frame(data: bytes) -> Frame:
    """Read the segments up to the first scan; raises DecodeError."""
    exif, xmp, pictures, size = b"", b"", (0, 0), (0, 0)
    sampling: dict[int, tuple[int, int]] = {}
    progressive = False
    for marker, start, end in _segments(data):
        segment = data[start:end]
        if marker == _APP1 and segment.startswith(_EXIF):
            exif += segment[len(_EXIF) :] if exif else segment
        elif marker == _APP1 and segment.startswith(_XMP):
            xmp = segment[len(_XMP) :]
        elif marker == _APP2 and segment.startswith(_PICTURES):
            pictures = (start + len(_PICTURES), end)
        elif marker in _FRAMES and len(segment) >= 6:
            height, width, count = struct.unpack_from(">HHB", segment, 1)
            size, progressive = (width, height), marker in _PROGRESSIVE
            sampling = {
                number: (max(1, factors >> 4), max(1, factors & 15))
                for number, factors, _ in struct.iter_unpack("3B", segment[6 : 6 + 3 * count])
            }
        elif marker == _SCAN:
            if not sampling:
                break
            whole = segment[:1] == bytes([len(sampling)])
            return Frame(*size, sampling, progressive, start, whole, exif, xmp, pictures)
    raise DecodeError("damaged header: a JPEG without a picture")


@dataclass(frozen=True, eq=False)
class JpegPicture(Picture):
    """A JPEG, or the first of several in one file."""

    data: bytes
    frame: Frame

    @property
    def working_bytes(self) -> int:
        pixel = 4 + 3 if len(self.frame.sampling) == _CMYK else 3
        return self.frame.buffered_bytes + pixel * self.width * self.height

    def bands(self) -> Iterator[np.ndarray]:
        yield self.full()

    def full(self) -> np.ndarray:
        return self._decode(1)

    def resized(self, shape: tuple[int, int]) -> np.ndarray:
        ratio = min(self.width // shape[1], self.height // shape[0])
        scale = next((scale for scale in _SCALES if scale <= ratio), 1)
        return resize_pixels(self._decode(scale), shape)

    def _decode(self, scale: int) -> np.ndarray:
        """The pixels scaled down by one of `_SCALES`, uint8 RGB."""
        decode = partial(
            simplejpeg.decode_jpeg,
            min_height=-(-self.height // scale),
            min_width=-(-self.width // scale),
        )
        inks = len(self.frame.sampling) == _CMYK
        if not inks:
            with suppress(ValueError):  # Unusual, damaged, or without its end.
                return decode(self.data)
        data = essential(self.data)
        if lacks_only_its_end(data, self.frame):
            data += END
            try:
                check_whole(data, len(self.frame.sampling))
            except ValueError as error:
                raise DecodeError(f"truncated JPEG: {error}") from error
            if not inks:
                return decode(data)
        with JpegImagePlugin.JpegImageFile(BytesIO(data)) as image:
            image.draft("RGB", (self.width // scale, self.height // scale))
            return assembled(rgb_bands(image), *image.size)


def open_jpeg(data: bytes) -> JpegPicture:
    """Open a JPEG; raises DecodeError."""
    frame = read_frame(data)
    blocks = metadata.from_blocks(frame.exif, frame.xmp)
    further = _further_photos(data, frame)
    return JpegPicture(frame.width, frame.height, blocks, data, frame, further=further)


def _further_photos(data: bytes, first: Frame) -> int:
    """Pictures besides the first that are as large; others are smaller copies, depths and the like.

    The list of pictures may be damaged: what it does not name surely is none.
    """
    start, end = first.pictures
    try:
        header = ifd.read_header(data[start:end])
        entries = ifd.read_directory(data[start:end], header, header.first).bytes_of(_ENTRIES)
    except ifd.TagError:
        return 0
    size = struct.calcsize(_ENTRY)
    further = 0
    for length, at in struct.iter_unpack(
        header.order + _ENTRY, entries[size : len(entries) // size * size]
    ):
        with suppress(DecodeError):
            frame = read_frame(data[start + at : start + at + length])
            further += (frame.width, frame.height) == (first.width, first.height)
    return further


def essential(data: bytes) -> bytes:
    """The file without the segments that do not concern its pixels."""
    kept, position = [data[:2]], 2
    for marker, _, end in _segments(data):
        if marker == _SCAN:
            return b"".join(kept) + data[position:]
        needless = marker == _COMMENT or (_APP0 < marker <= _APP15 and marker != _APP14)
        kept.append(b"" if needless else data[position:end])
        position = end
    return data


def lacks_only_its_end(data: bytes, frame: Frame) -> bool:
    """Whether there is no end marker and every scan that the picture needs has begun.

    Only decoding shows whether the last scan is whole.
    """
    # Of each coefficient of each component, the lower bits that are still missing; -1: all.
    missing = {number: [-1] * _COEFFICIENTS for number in frame.sampling}
    for marker, start, end in _segments(data):
        if marker == _END:
            return False
        if marker == _SCAN and end - start >= 6:
            count = data[start]
            first, last, bits = data[end - 3 : end]
            for number in {*data[start + 1 : start + 1 + 2 * count : 2]} & missing.keys():
                for coefficient in range(first, min(last + 1, _COEFFICIENTS)):
                    missing[number][coefficient] = bits & 15
    return not any(any(of) for of in missing.values())


def check_whole(data: bytes, components: int) -> None:
    """Raise ValueError if libjpeg decodes a JPEG of so many components with a warning only."""
    space = "CMYK" if components == _CMYK else "RGB"
    simplejpeg.decode_jpeg(data, colorspace=space, min_height=1, min_width=1)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The marker of each segment of the first picture, and where its content starts and ends.

    The data of a scan is skipped. It ends after the end marker, or where the file ends.
    """
    position = 2
    while True:
        position = data.find(b"\xff", position)
        if not 0 <= position < len(data) - 1:
            return
        marker = data[position + 1]
        if marker in (0, 0xFF) or marker in _ALONE:
            position += 1 if marker == 0xFF else 2
            continue
        start = position + 2
        if marker == _END:
            yield marker, start, start
            return
        if start + 2 > len(data):
            return
        (length,) = struct.unpack_from(">H", data, start)
        end = start + length
        if length < 2 or end > len(data):
            return
        yield marker, start + 2, end
        position = end
