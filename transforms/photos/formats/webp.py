"""WebP: the chunks that hold the pixels, and the metadata in others.

Source: the WebP container specification (RFC 9649). A damaged chunk of metadata costs that chunk.
"""

import struct

from transforms.photos import metadata
from transforms.photos.formats.pillow import PillowPicture, open_image

_FORMATS = ("WEBP",)
_HEADER = struct.Struct("<4sI4s")
_EXIF, _XMP = b"EXIF", b"XMP "
_PIXELS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
_FLAGS_OF_METADATA = 0x20 | 0x08 | 0x04
"""Flags of VP8X: colour profile, EXIF and XMP."""

_CODEC_BYTES_PER_PIXEL = 9
"""Two canvases of 4 bytes per pixel and further copies, as measured."""


def is_webp(data: bytes) -> bool:
    """Whether the file starts like a WebP."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def open_webp(data: bytes) -> PillowPicture:
    """Open a WebP; raises DecodeError, and errors of a damaged header."""
    kept, found, position = [], {_EXIF: b"", _XMP: b""}, _HEADER.size
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        content = data[position + 8 : position + 8 + length]
        if kind in found and len(content) == length:
            found[kind] = found[kind] or content
        elif kind in _PIXELS:
            if kind == b"VP8X" and content:
                content = bytes([content[0] & ~_FLAGS_OF_METADATA]) + content[1:]
            kept.append(struct.pack("<4sI", kind, length) + content + bytes(length % 2))
        position += 8 + length + length % 2
    body = b"".join(kept)
    image = open_image(_HEADER.pack(b"RIFF", 4 + len(body), b"WEBP") + body, _FORMATS)
    blocks = metadata.from_blocks(found[_EXIF], found[_XMP])
    codec_bytes = _CODEC_BYTES_PER_PIXEL * image.width * image.height
    return PillowPicture(*image.size, blocks, image, codec_bytes)
