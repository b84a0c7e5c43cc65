"""PNG: the chunks that Pillow needs for the pixels, and the metadata in others.

Source: PNG specification, 3rd edition. A damaged or oversized chunk that does not concern the
pixels costs that chunk; so does a missing end. Of an animation the still picture is read. gAMA,
cHRM, iCCP and sBIT do not change the values, which are taken as sRGB.
"""

import struct
import zlib
from collections.abc import Iterator

from transforms.photos import metadata
from transforms.photos.formats.pillow import PillowPicture, open_image
from transforms.photos.metadata import XMP_LIMIT

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_FORMATS = ("PNG",)
_DATA, _END = b"IDAT", b"IEND"
_EXIF = b"eXIf"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_XMP = b"XML:com.adobe.xmp"
_RAW_EXIF = (b"Raw profile type exif", b"Raw profile type APP1")
"""Keywords of EXIF as hexadecimal digits in a text, as ImageMagick writes it."""

_ANCILLARY = 0x20
"""Bit of a chunk's first letter: the picture can be displayed without it."""


def open_png(data: bytes) -> PillowPicture:
    """Open a PNG; raises DecodeError, and errors of a damaged header."""
    kept, exif, xmp = [SIGNATURE], b"", b""
    for kind, content, sound in _chunks(data):
        if kind == _END:
            break
        if not kind[0] & _ANCILLARY:
            kept.append(_chunk(kind, content, sound))
        elif kind == _EXIF and sound:
            exif = content
        elif kind in _TEXTS and sound:
            keyword, text = _text(kind, content)
            xmp = text if keyword == _XMP else xmp
            exif = exif or (_from_digits(text) if keyword in _RAW_EXIF else b"")
    kept.append(_chunk(_END, b"", True))
    image = open_image(b"".join(kept), _FORMATS)
    return PillowPicture(*image.size, metadata.from_blocks(exif, xmp), image)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Kind, content and whether the checksum is right, of each chunk.

    The checksum of image data that ends with the file is not missed: the data has its own.
    """
    position = len(SIGNATURE)
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        content, written = data[position + 8 : end], data[end : end + 4]
        cut = len(written) < 4 and kind == _DATA
        checksum = zlib.crc32(content, zlib.crc32(kind)).to_bytes(4, "big")
        yield kind, content, cut or written == checksum
        position = end + 4


def _chunk(kind: bytes, content: bytes, sound: bool) -> bytes:
    """A chunk; one that is not sound has a wrong checksum, for which the decoder refuses it."""
    checksum = zlib.crc32(content, zlib.crc32(kind)) ^ (not sound)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _text(kind: bytes, content: bytes) -> tuple[bytes, bytes]:
    """The keyword and the text of a chunk; the text is empty if it is too large or damaged."""
    keyword, _, text = content.partition(b"\0")
    if kind == b"zTXt":
        return keyword, _inflated(text[1:])
    if kind == b"iTXt":
        compressed, (_, _, text) = text[:1] == b"\1", (text[2:].partition(b"\0"))
        text = text.partition(b"\0")[2]
        return keyword, _inflated(text) if compressed else text
    return keyword, text


def _inflated(text: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        inflated = inflater.decompress(text, XMP_LIMIT)
    except zlib.error:
        return b""
    return inflated if inflater.eof else b""


def _from_digits(text: bytes) -> bytes:
    """The bytes in a profile: a name, their number, and hexadecimal digits."""
    try:
        return bytes.fromhex("".join(text.decode("latin-1").split()[2:]))
    except ValueError:
        return b""
