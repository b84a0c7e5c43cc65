"""Strips and tiles of a TIFF: from compressed bytes to samples, a few rows at a time."""

import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image

from transforms.photos import ifd, samples
from transforms.photos.formats import jpeg
from transforms.photos.pictures import SMALLEST_LIMIT, DecodeError, rows_per_band


class Tag(IntEnum):
    """Tags of TIFF 6.0 and its extensions."""

    NEW_SUBFILE = 254
    SUBFILE = 255
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTES = 279
    MIN = 280
    MAX = 281
    PLANAR = 284
    T4_OPTIONS = 292
    PREDICTOR = 317
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_BYTES = 325
    SUB_DIRECTORIES = 330
    INK_SET = 332
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    S_MIN = 340
    S_MAX = 341
    JPEG_TABLES = 347
    YCBCR_COEFFICIENTS = 529
    SUBSAMPLING = 530
    REFERENCE_BLACK_WHITE = 532


NONE, CCITT_RLE, CCITT_FAX3, CCITT_FAX4, LZW, JPEG, DEFLATE = 1, 2, 3, 4, 5, 7, 8
PACKBITS, OLD_DEFLATE, LZMA, ZSTD, WEBP = 32773, 32946, 34925, 50000, 50001
"""Compressions."""

_CCITT = (CCITT_RLE, CCITT_FAX3, CCITT_FAX4)
_WHOLE_IMAGES = (*_CCITT, JPEG, WEBP)
"""Compressions whose segments are images of their own."""

_COPIES = {LZMA: 2, WEBP: 6}
"""Copies of a segment that a decompressor needs, if more than one."""

_SUPPORTED = (NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA, ZSTD, *_WHOLE_IMAGES)

_PLANAR = 2
_HORIZONTAL, _FLOATING = 2, 3
"""Predictors."""

_UNDEFINED = 4
"""The sample format of values that are not said to be anything; they are taken as unsigned."""

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE = range(4)
CMYK, YCBCR, CIE_LAB, ICC_LAB = 5, 6, 8, 9
"""Photometric interpretations."""

_DEPTHS = {
    samples.UNSIGNED: {*range(1, 33), 64},
    samples.SIGNED: {*range(2, 33), 64},
    samples.FLOAT: {16, 24, 32, 64},
}
"""Supported bits of each kind of number."""

_ALIGNED = (8, 16, 32, 64)
_CODES = {samples.UNSIGNED: "u", samples.SIGNED: "i", samples.FLOAT: "f"}
"""Kinds of numbers as numpy's codes."""

_PIECE = 1 << 18
"""Compressed bytes that are inflated at a time."""

_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
"""Bytes with the order of their bits reversed."""

Raw = Any
"""Bytes of a decompressed segment, of any type that has a buffer."""

Rows = Callable[[int, int], np.ndarray]
"""Samples of a segment, `(rows, columns, samples)`, from a row and for a number of rows."""


@dataclass(frozen=True)
class Layout:
    """How the samples of an image are stored.

    Attributes:
        width, height: its size.
        order: byte order, `<` or `>`.
        bits: bits of a sample.
        kind: kind of numbers, see `transforms.photos.samples`.
        samples: samples per pixel.
        planar: whether each sample has its own segments.
        photometric: what the samples mean.
        compression, predictor: codes of the specification.
        reversed_bits: whether the bits of each byte are reversed.
        segment_width, segment_height: size of a strip or tile.
        segments: position and bytes of each.
        subsampling: columns and rows that share colour differences.
        tables: tables that JPEG segments share.
        fax: options of CCITT T.4.
    """

    width: int
    height: int
    order: str
    bits: int
    kind: int
    samples: int
    planar: bool
    photometric: int
    compression: int
    predictor: int
    reversed_bits: bool
    segment_width: int
    segment_height: int
    segments: tuple[tuple[int, int], ...]
    subsampling: tuple[int, int]
    tables: bytes
    fax: int

    @property
    def columns(self) -> int:
        """Segments side by side."""
        return -(-self.width // self.segment_width)

    @property
    def lines(self) -> int:
        """Segments one above the other."""
        return -(-self.height // self.segment_height)

    @property
    def channels(self) -> int:
        """Samples per pixel in a segment."""
        return 1 if self.planar else self.samples

    @property
    def decodes_to_rgb(self) -> bool:
        """Whether the codec makes RGB of colour differences."""
        return self.compression == WEBP or (
            self.compression == JPEG and self.photometric == YCBCR and not self.planar
        )

    @property
    def unit_bytes(self) -> int:
        """Bytes of the rows of a segment that are stored together."""
        across, down = self.subsampling
        if (across, down) != (1, 1):
            return -(-self.segment_width // across) * (across * down + 2)
        return (self.segment_width * self.channels * self.bits + 7) // 8

    def bytes_of_rows(self, rows: int) -> int:
        """Bytes of rows of a decompressed segment."""
        return -(-rows // self.subsampling[1]) * self.unit_bytes

    @property
    def working_bytes(self) -> int:
        """Memory for the segments that are decompressed at a time, in bytes."""
        if self.compression == NONE:
            return 0
        if self.compression in _WHOLE_IMAGES:
            segment = self.segment_width * self.segment_height * max(3, self.channels)
        else:
            segment = self.bytes_of_rows(self.segment_height)
        planes = min(self.samples, 4) if self.planar else 1
        return segment * self.columns * planes * _COPIES.get(self.compression, 1)


def read_layout(directory: ifd.Directory) -> Layout:
    """The layout that the tags of an image describe; raises DecodeError if they describe none."""
    number = directory.number
    width, height = number(Tag.WIDTH, 0), number(Tag.HEIGHT, 0)
    if min(width, height) < 1:
        raise DecodeError(f"damaged header: {width} x {height} pixels")
    count = number(Tag.SAMPLES, 1)
    if count < 1:
        raise DecodeError(f"damaged header: {count} samples per pixel")
    compression = number(Tag.COMPRESSION, NONE)
    if compression not in _SUPPORTED:
        raise DecodeError(f"unsupported TIFF compression {compression}")
    bits, kind = _uniform(directory, Tag.BITS, 1), _uniform(directory, Tag.SAMPLE_FORMAT, 1)
    kind = samples.UNSIGNED if kind == _UNDEFINED else kind
    if bits not in _DEPTHS.get(kind, ()):
        raise DecodeError(f"unsupported samples of {bits} bits, format {kind}")
    tiled = Tag.TILE_OFFSETS in directory
    if tiled:
        across, down = number(Tag.TILE_WIDTH, 0), number(Tag.TILE_HEIGHT, 0)
    else:
        across, down = width, min(number(Tag.ROWS_PER_STRIP, height), height)
    if min(across, down) < 1:
        raise DecodeError(f"damaged header: strips or tiles of {across} x {down} pixels")
    photometric = number(Tag.PHOTOMETRIC, RGB if count >= 3 else BLACK_IS_ZERO)
    subsampling = (1, 1)
    if photometric == YCBCR and compression not in _WHOLE_IMAGES:
        given = directory.integers(Tag.SUBSAMPLING)
        subsampling = (given[0], given[1]) if len(given) >= 2 else (2, 2)
    layout = Layout(
        width,
        height,
        directory.order,
        bits,
        kind,
        count,
        number(Tag.PLANAR, 1) == _PLANAR and count > 1,
        photometric,
        compression,
        number(Tag.PREDICTOR, 1),
        number(Tag.FILL_ORDER, 1) == 2,
        across,
        down,
        (),
        subsampling,
        directory.bytes_of(Tag.JPEG_TABLES),
        number(Tag.T4_OPTIONS, 0),
    )
    _check(layout)
    return replace(layout, segments=_segments(directory, layout, tiled))


def blocks(data: bytes, layout: Layout, used: Sequence[int]) -> Iterator[np.ndarray]:
    """The samples from the top down, a few rows at a time, `(rows, width, len(used))`.

    Args:
        data: the file.
        layout: where its samples are.
        used: indices of the samples of a pixel that are wanted.

    Raises:
        DecodeError: a strip or tile is not whole; and any error of a codec.
    """
    down = layout.subsampling[1]
    bytes_per_row = 8 * layout.width * (len(used) if layout.planar else layout.samples)
    step = -(-rows_per_band(bytes_per_row) // down) * down
    for line in range(layout.lines):
        rows = min(layout.segment_height, layout.height - line * layout.segment_height)
        planes = used if layout.planar else (0,)
        readers = [
            [_reader(data, layout, plane, line, column, rows) for column in range(layout.columns)]
            for plane in planes
        ]
        for row in range(0, rows, step):
            count = min(step, rows - row)
            whole = [
                np.concatenate([read(row, count) for read in beside], axis=1)[:, : layout.width]
                for beside in readers
            ]
            yield np.concatenate(whole, axis=2) if layout.planar else whole[0][..., list(used)]


def _uniform(directory: ifd.Directory, tag: int, default: int) -> int:
    """The value that a tag has for all samples; raises DecodeError if they differ."""
    values = set(directory.integers(tag)) or {default}
    if len(values) > 1:
        raise DecodeError(f"unsupported: samples that differ in {Tag(tag).name}, {sorted(values)}")
    return values.pop()


def _check(layout: Layout) -> None:
    """Raise DecodeError for what the specification has, but no reader reads alike."""
    across, down = layout.subsampling
    shared = (across, down) != (1, 1)
    if across not in (1, 2, 4) or down not in (1, 2, 4):
        raise DecodeError(f"damaged header: colour subsampling {across} x {down}")
    if shared and (layout.planar or layout.samples != 3 or layout.bits != 8):
        raise DecodeError("unsupported: colour subsampling of other than 3 samples of 8 bits")
    if layout.compression in _WHOLE_IMAGES:
        depths = (1,) if layout.compression in _CCITT else (8,)
        if layout.bits not in depths or layout.kind != samples.UNSIGNED:
            raise DecodeError(
                f"unsupported samples of {layout.bits} bits of TIFF compression "
                f"{layout.compression}"
            )
        return
    supported = {
        1: True,
        _HORIZONTAL: layout.bits in _ALIGNED and not shared,
        _FLOATING: layout.bits in _ALIGNED and layout.kind == samples.FLOAT,
    }
    if not supported.get(layout.predictor):
        raise DecodeError(f"unsupported TIFF predictor {layout.predictor}")


def _segments(directory: ifd.Directory, layout: Layout, tiled: bool) -> tuple[tuple[int, int], ...]:
    """Position and bytes of each segment; raises DecodeError if one is missing."""
    expected = layout.columns * layout.lines * (layout.samples if layout.planar else 1)
    offsets = directory.integers(Tag.TILE_OFFSETS if tiled else Tag.STRIP_OFFSETS)
    sizes = directory.integers(Tag.TILE_BYTES if tiled else Tag.STRIP_BYTES)
    length = len(directory.data)
    if not sizes and layout.compression == NONE:
        sizes = (layout.bytes_of_rows(layout.segment_height),) * len(offsets)
    found = min(len(offsets), len(sizes))
    if found < expected:
        raise DecodeError(f"damaged header: {found} strips or tiles, expected {expected}")
    segments = tuple(zip(offsets[:expected], sizes[:expected], strict=True))
    for number, (at, size) in enumerate(segments):
        if not 0 < at < length or size < 1:
            raise DecodeError(f"strip or tile {number} is missing")
    return segments


def _reader(data: bytes, layout: Layout, plane: int, line: int, column: int, rows: int) -> Rows:
    """Decompress a segment, of which `rows` rows are needed; raises DecodeError."""
    index = (plane * layout.lines + line) * layout.columns + column
    at, size = layout.segments[index]
    encoded = (
        data[at : at + size] if layout.compression != NONE else memoryview(data)[at : at + size]
    )
    if layout.reversed_bits and layout.compression not in (JPEG, WEBP):
        encoded = bytes(encoded).translate(_REVERSED)
    needed = min(layout.segment_width, layout.width - column * layout.segment_width)
    if layout.compression in _WHOLE_IMAGES:
        pixels = _decode_image(bytes(encoded), layout, rows, needed)
        if pixels.shape[0] < rows or pixels.shape[1] < needed:
            raise DecodeError(f"strip or tile {index} is {pixels.shape[1]} x {pixels.shape[0]}")
        return lambda row, count: pixels[row : row + count]
    raw = _decompress(encoded, layout)
    if len(raw) < layout.bytes_of_rows(rows):
        raise DecodeError(
            f"strip or tile {index} has {len(raw)} bytes, expected {layout.bytes_of_rows(rows)}"
        )
    return partial(_unpack, raw, layout)


def _decompress(encoded: bytes | memoryview, layout: Layout) -> Raw:
    """The bytes of a segment, at most those of all its rows."""
    limit = layout.bytes_of_rows(layout.segment_height)
    if layout.compression in (DEFLATE, OLD_DEFLATE):
        return _inflate(encoded, limit)
    if layout.compression == LZMA:
        return lzma.LZMADecompressor().decompress(encoded, limit)
    if layout.compression == NONE:
        return encoded
    decode: dict[int, Callable[..., Raw]] = {
        LZW: imagecodecs.lzw_decode,
        PACKBITS: imagecodecs.packbits_decode,
        ZSTD: imagecodecs.zstd_decode,
    }
    return decode[layout.compression](encoded, out=limit)


def _inflate(encoded: bytes | memoryview, limit: int) -> np.ndarray:
    """At most `limit` bytes of a deflated stream, which may go on or be cut."""
    inflated, length = np.empty(limit, np.uint8), 0
    inflater = zlib.decompressobj()
    for start in range(0, len(encoded), _PIECE):
        piece = bytes(encoded[start : start + _PIECE])
        while piece and length < limit:
            part = inflater.decompress(piece, min(limit - length, 1 << 24))
            inflated[length : length + len(part)] = np.frombuffer(part, np.uint8)
            length += len(part)
            piece = inflater.unconsumed_tail
    return inflated[:length]


def _decode_image(encoded: bytes, layout: Layout, rows: int, columns: int) -> np.ndarray:
    """The pixels of a segment that is an image, `(h, w, samples)`; raises DecodeError."""
    if layout.compression in _CCITT:
        return _decode_fax(encoded, layout, rows)
    if layout.compression == JPEG:
        pixels = _decode_jpeg(encoded, layout)
    else:
        with Image.open(BytesIO(encoded), formats=("WEBP",)) as image:
            _check_size(image.width, image.height, layout)
            pixels = np.asarray(image.convert("RGB" if layout.samples == 3 else "RGBA"))
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.shape[2] != layout.channels:
        raise DecodeError(f"a strip or tile of {pixels.shape[2]} samples per pixel")
    return pixels


def _decode_jpeg(encoded: bytes, layout: Layout) -> np.ndarray:
    frame = jpeg.read_frame(encoded)
    _check_size(frame.width, frame.height, layout)
    if frame.buffered_bytes > SMALLEST_LIMIT:
        raise DecodeError("unsupported: a large strip or tile is a JPEG of several scans")
    tables = layout.tables[2:-2] if layout.tables.startswith(jpeg.SIGNATURE[:2]) else b""
    with_tables = encoded[:2] + tables + encoded[2:]
    if not encoded.rstrip(b"\0").endswith(jpeg.END):
        raise DecodeError("a strip or tile is a JPEG without its end")
    jpeg.check_whole(with_tables, len(frame.sampling))
    spaces = {YCBCR: ("YCBCR", "RGB"), RGB: ("RGB", "RGB"), CMYK: ("CMYK", "CMYK")}
    stored, wanted = (None, None) if layout.planar else spaces.get(layout.photometric, (None, None))
    return imagecodecs.jpeg_decode(with_tables, colorspace=stored, outcolorspace=wanted)


def _decode_fax(encoded: bytes, layout: Layout, rows: int) -> np.ndarray:
    width = layout.segment_width
    if layout.compression == CCITT_RLE:
        pixels = imagecodecs.ccittrle_decode(encoded, rows, width)
    elif layout.compression == CCITT_FAX3:
        pixels = imagecodecs.ccittfax3_decode(encoded, rows, width, t4options=layout.fax)
    else:
        pixels = imagecodecs.ccittfax4_decode(encoded, rows, width)
    return pixels.reshape(-1, width, 1)


def _check_size(width: int, height: int, layout: Layout) -> None:
    """Raise DecodeError for an image in a segment that is larger than it."""
    if width > layout.segment_width or height > layout.segment_height:
        raise DecodeError(
            f"a strip or tile of {layout.segment_width} x {layout.segment_height} pixels holds "
            f"{width} x {height}"
        )


def _unpack(raw: Raw, layout: Layout, row: int, rows: int) -> np.ndarray:
    """Rows of a decompressed segment as samples `(rows, columns, samples)`."""
    down = layout.subsampling[1]
    start = row // down * layout.unit_bytes
    part = memoryview(raw)[start : start + layout.bytes_of_rows(rows)]
    if layout.subsampling != (1, 1):
        return _unshare(np.frombuffer(part, np.uint8), layout)[:rows]
    shape = (rows, layout.segment_width, layout.channels)
    if layout.predictor == _FLOATING:
        return _undo_floating(np.frombuffer(part, np.uint8), layout, shape)
    values = _numbers(part, layout, rows).reshape(shape)
    if layout.predictor == _HORIZONTAL:
        differences = values.view(f"u{values.itemsize}")
        sums = np.add.accumulate(differences, axis=1, dtype=differences.dtype)
        return sums.view(values.dtype)
    return values


def _numbers(part: memoryview, layout: Layout, rows: int) -> np.ndarray:
    """The numbers in whole rows of bytes."""
    bits, order = layout.bits, layout.order
    if bits in _ALIGNED:
        values = np.frombuffer(part, f"{order}{_CODES[layout.kind]}{bits // 8}")
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    if layout.kind == samples.FLOAT:
        return imagecodecs.float24_decode(bytes(part), byteorder="<" if order == "<" else ">")
    if bits % 8 == 0:
        octets = np.frombuffer(part, np.uint8).reshape(-1, bits // 8).astype(np.uint32)
        octets = octets if order == "<" else octets[:, ::-1]
        values = sum(octets[:, i] << np.uint32(8 * i) for i in range(bits // 8))
    else:
        dtype = next(f"u{size}" for size in (1, 2, 4) if bits <= 8 * size)
        run = layout.segment_width * layout.channels
        values = imagecodecs.packints_decode(bytes(part), dtype, bits, runlen=run)
    if layout.kind == samples.SIGNED:
        return values.astype(np.int64) - ((values >> (bits - 1)).astype(np.int64) << bits)
    return values


def _undo_floating(octets: np.ndarray, layout: Layout, shape: tuple[int, int, int]) -> np.ndarray:
    """Floats whose bytes are sorted by weight and stored as differences along the row."""
    size = layout.bits // 8
    row = octets.reshape(shape[0], -1, layout.channels)
    sums = np.add.accumulate(row, axis=1, dtype=np.uint8).reshape(shape[0], size, -1)
    values = np.ascontiguousarray(sums.transpose(0, 2, 1)).view(f">f{size}")
    return values.reshape(shape).astype(f"f{size}")


def _unshare(octets: np.ndarray, layout: Layout) -> np.ndarray:
    """Luma and colour differences of each pixel, from units of pixels that share the latter."""
    across, down = layout.subsampling
    units = octets.reshape(-1, layout.unit_bytes // (across * down + 2), across * down + 2)
    luma = units[..., :-2].reshape(*units.shape[:2], down, across).transpose(0, 2, 1, 3)
    shared = units[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
    whole = np.concatenate([luma.reshape(*shared.shape[:2], 1), shared], axis=2)
    return whole[:, : layout.segment_width]
