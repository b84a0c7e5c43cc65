"""Writes TIFFs of every kind, with a few lines of its own, so that tests know what is in them."""

import struct
import zlib
from fractions import Fraction

import imagecodecs
import numpy as np

UNSIGNED, SIGNED, FLOAT = 1, 2, 3
NONE, LZW, DEFLATE, PACKBITS, LZMA, ZSTD = 1, 5, 8, 32773, 34925, 50000
REDUCED = {254: (4, [1])}

_ENCODE = {
    NONE: bytes,
    LZW: imagecodecs.lzw_encode,
    DEFLATE: zlib.compress,
    PACKBITS: imagecodecs.packbits_encode,
    LZMA: imagecodecs.lzma_encode,
    ZSTD: imagecodecs.zstd_encode,
}
_CODES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "s", 8: "h", 9: "i", 11: "f", 12: "d",
          16: "Q"}  # fmt: skip


def packed(values: np.ndarray, bits: int, kind: int, order: str) -> bytes:
    """The rows of `(h, w, samples)`, each padded to whole bytes."""
    if bits in (8, 16, 32, 64):
        return values.astype(f"{order}{'uif'[kind - 1]}{bits // 8}").tobytes()
    rows = values.reshape(len(values), -1)
    if kind == FLOAT:
        return imagecodecs.float24_encode(rows.astype("f4"), byteorder=order)
    codes = rows.astype(np.int64) & ((1 << bits) - 1)
    if bits % 8 == 0:
        octets = codes.astype("<u4").view(np.uint8).reshape(*codes.shape, 4)[..., : bits // 8]
        return (octets if order == "<" else octets[..., ::-1]).tobytes()
    places = np.arange(bits - 1, -1, -1)
    digits = (codes[..., None] >> places & 1).astype(np.uint8)
    return np.packbits(digits.reshape(len(rows), -1), axis=1).tobytes()


def predicted(values: np.ndarray, bits: int, predictor: int, kind: int, order: str) -> bytes:
    """Rows as differences: of the values (2), or of the bytes of floats sorted by weight (3)."""
    if predictor == 1:
        return packed(values, bits, kind, order)
    if predictor == 2:
        whole = values.astype(f"{'uif'[kind - 1]}{bits // 8}").view(f"u{bits // 8}")
        differences = np.diff(whole, axis=1, prepend=np.zeros_like(whole[:, :1]))
        return differences.astype(f"{order}u{bits // 8}").tobytes()
    octets = values.astype(f">f{bits // 8}").view(np.uint8).reshape(len(values), -1, bits // 8)
    row = octets.transpose(0, 2, 1).reshape(len(values), -1, values.shape[2])
    return np.diff(row, axis=1, prepend=np.zeros_like(row[:, :1])).tobytes()


def encode(data: bytes, compression: int) -> bytes:
    return bytes(_ENCODE[compression](data))


def image(
    values: np.ndarray,
    bits=8,
    kind=UNSIGNED,
    photometric=1,
    order="<",
    planar=False,
    tile=None,
    rows=None,
    compression=NONE,
    predictor=1,
    reversed_bits=False,
    tags=None,
) -> tuple[dict, list[bytes]]:
    """The tags and the strips or tiles of an image of values `(h, w)` or `(h, w, samples)`."""
    values = values.reshape(*values.shape[:2], -1)
    height, width, samples = values.shape
    down, across = tile or (rows or height, width)
    planes = np.split(values, samples, axis=2) if planar else [values]
    segments = []
    for plane in planes:
        for y in range(0, height, down):
            for x in range(0, width, across):
                part = plane[y : y + down, x : x + across]
                if tile:
                    padding = [(0, down - part.shape[0]), (0, across - part.shape[1]), (0, 0)]
                    part = np.pad(part, padding)
                data = encode(predicted(part, bits, predictor, kind, order), compression)
                segments.append(reversed_octets(data) if reversed_bits else data)
    found = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * samples), 259: (3, [compression]),
        262: (3, [photometric]), 277: (3, [samples]), 284: (3, [2 if planar else 1]),
        339: (3, [kind] * samples),
    }  # fmt: skip
    if tile:
        found |= {322: (4, [across]), 323: (4, [down])}
    else:
        found |= {278: (4, [down])}
    if predictor != 1:
        found[317] = (3, [predictor])
    if reversed_bits:
        found[266] = (3, [2])
    return found | (tags or {}), segments


def reversed_octets(data: bytes) -> bytes:
    return np.packbits(
        np.unpackbits(np.frombuffer(data, np.uint8)).reshape(-1, 8)[:, ::-1]
    ).tobytes()


def file_of(*images, order="<", big=False) -> bytes:
    """A TIFF of images, each of tags, segments, and optionally images within it."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + "HH", 8, 0) if big else b""
    body, links = bytearray(head + bytes(8 if big else 4)), len(head)
    word = "Q" if big else "I"

    def append(tags, segments, inner=()) -> tuple[int, int]:
        """Write an image; returns the position of its directory and of the link to the next."""
        tags = dict(tags)
        tiled = 322 in tags
        offsets = []
        for segment in segments:
            offsets.append(len(body))
            body.extend(segment + bytes(len(segment) % 2))
        tags.setdefault(324 if tiled else 273, (16 if big else 4, offsets))
        tags.setdefault(325 if tiled else 279, (16 if big else 4, [len(s) for s in segments]))
        if inner:
            tags[330] = (4, [append(*one)[0] for one in inner])
        entries = []
        for tag, (kind, content) in sorted(tags.items()):
            data, count = content, len(content)
            if not isinstance(content, bytes):
                code = _CODES[kind]
                if kind == 5:
                    pairs = [Fraction(value).limit_denominator(10**6) for value in content]
                    content = [part for pair in pairs for part in pair.as_integer_ratio()]
                data = struct.pack(f"{order}{len(content)}{code[0]}", *content)
            if len(data) > struct.calcsize("<" + word):
                position = len(body)
                body.extend(data + bytes(len(data) % 2))
                data = struct.pack(order + word, position)
            entries.append(
                struct.pack(order + "HH" + word, tag, kind, count)
                + data.ljust(struct.calcsize("<" + word), b"\0")
            )
        at = len(body)
        body.extend(struct.pack(order + ("Q" if big else "H"), len(entries)) + b"".join(entries))
        body.extend(bytes(8 if big else 4))
        return at, len(body) - (8 if big else 4)

    for one in images:
        at, following = append(*one)
        struct.pack_into(order + word, body, links, at)
        links = following
    return bytes(body)


def tiff(values: np.ndarray, order="<", big=False, **options) -> bytes:
    """A TIFF of one image; see `image`."""
    return file_of(image(values, order=order, **options), order=order, big=big)
