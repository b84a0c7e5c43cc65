"""Damage that costs no pixel: metadata that is broken or too large, and ends that are missing."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from tests.tiff_files import file_of
from transforms.photos.decoding import (
    DEFAULT_MAX_PIXELS,
    DecodeError,
    capture_of,
    decode_full,
    decode_photo,
)

ORIENTATION, DESCRIPTION, XMP_TAG = 274, 270, 700
EXIF, GPS = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo
END = b"\xff\xd9"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">%s</x:xmpmeta>'
TURNED = {ORIENTATION: (3, [6])}
TIME = b"2021:03:04 10:20:30\0"


def picture(height=60, width=90) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 2 % 256, y * 3 % 256, (x * y) % 256], -1).astype(np.uint8)


PICTURE = picture()


def saved(format: str, pixels=PICTURE, mode="RGB", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(decode_full(data, DEFAULT_MAX_PIXELS)).astype(int)


def upright(data: bytes) -> np.ndarray:
    return np.rot90(decoded(data))


def block(tags: dict, order="<") -> bytes:
    """An EXIF block of these tags."""
    return b"Exif\0\0" + file_of(({273: (4, []), 279: (4, [])} | tags, []), order=order)


def with_time(**tags) -> bytes:
    inner = ({36867: (2, TIME), 273: (4, []), 279: (4, [])}, [])
    data = file_of(({273: (4, []), 279: (4, [])} | tags.get("tags", {}), [], [inner]))
    at = data.rindex(struct.pack("<HH", 330, 4))
    return b"Exif\0\0" + data[:at] + struct.pack("<H", EXIF) + data[at + 2 :]


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg_with(*segments: bytes) -> bytes:
    data = saved("JPEG", quality=95)
    return data[:2] + b"".join(segments) + data[2:]


def chunk(kind: bytes, content: bytes, checksum=None) -> bytes:
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_with(*chunks: bytes) -> bytes:
    data = saved("PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def webp_with(*chunks: tuple[bytes, bytes]) -> bytes:
    data = saved("WEBP", lossless=True)
    height, width = PICTURE.shape[:2]
    extended = struct.pack("<I", 0x0C) + (width - 1).to_bytes(3, "little")
    extended += (height - 1).to_bytes(3, "little")
    body = b"WEBP"
    for kind, content in ((b"VP8X", extended), *chunks):
        body += struct.pack("<4sI", kind, len(content)) + content + bytes(len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body + data[12:])) + body + data[12:]


JPEG_LIKE = saved("JPEG", quality=95)

CARRIERS = {
    "JPEG": lambda exif: jpeg_with(segment(0xE1, exif)),
    "PNG": lambda exif: png_with(chunk(b"eXIf", exif[6:])),
    "PNG text": lambda exif: png_with(
        chunk(
            b"zTXt",
            b"Raw profile type exif\0\0"
            + zlib.compress(b"\nexif\n%8d\n%s\n" % (len(exif), exif.hex().encode())),
        )
    ),
    "WebP": lambda exif: webp_with((b"EXIF", exif[6:])),
}
BASES = {"JPEG": JPEG_LIKE, "PNG": saved("PNG"), "WebP": saved("WEBP", lossless=True)}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("order", "<>")
class TestExif:
    @pytest.mark.parametrize(
        "value",
        [(3, [6]), (4, [6]), (1, [6]), (5, [6]), (9, [6]), (11, [6.0]), (2, b"6\0"), (3, [6, 6])],
    )
    def test_the_orientation_counts_whatever_its_type(self, carrier, order, value):
        data = CARRIERS[carrier](block({ORIENTATION: value}, order))
        assert np.array_equal(upright(data), decoded(BASES[carrier.split()[0]]))

    @pytest.mark.parametrize("value", [(3, [0]), (3, [77]), (9, [-6]), (5, [6.5]), (2, b"up\0")])
    def test_an_orientation_out_of_range_counts_as_upright(self, carrier, order, value):
        data = CARRIERS[carrier](block({ORIENTATION: value}, order))
        assert np.array_equal(decoded(data), decoded(BASES[carrier.split()[0]]))

    @pytest.mark.parametrize("pointer", [EXIF, GPS])
    @pytest.mark.parametrize(
        "value", [(9, [-1]), (4, [0xFFFFFFF0]), (4, [0]), (2, b"gps\0"), (11, [1e30]), (4, [1, 2])]
    )
    def test_it_is_kept_beside_a_damaged_block(self, carrier, order, pointer, value):
        data = CARRIERS[carrier](block({pointer: value, **TURNED}, order))
        assert np.array_equal(upright(data), decoded(BASES[carrier.split()[0]]))
        assert decode_photo(data, lambda *_: (8, 8), DEFAULT_MAX_PIXELS).capture.position is None

    @pytest.mark.parametrize("kind", [0, 99, 2, 5])
    def test_it_is_kept_behind_a_damaged_tag(self, carrier, order, kind):
        exif = bytearray(block({DESCRIPTION: (2, b"a street in a city\0"), **TURNED}, order))
        at = exif.index(struct.pack(order + "HH", DESCRIPTION, 2))
        struct.pack_into(order + "HII", exif, at + 2, kind, 1 << 20, 1 << 30)
        assert np.array_equal(
            upright(CARRIERS[carrier](bytes(exif))), decoded(BASES[carrier.split()[0]])
        )


def test_a_damaged_tag_costs_that_tag_only():
    exif = bytearray(with_time(tags={DESCRIPTION: (2, b"a street in a city\0")}))
    struct.pack_into("<II", exif, exif.index(struct.pack("<HH", DESCRIPTION, 2)) + 4, 99, 1 << 30)
    assert capture_of(jpeg_with(segment(0xE1, bytes(exif)))).captured_at.year == 2021


@pytest.mark.parametrize("carrier", CARRIERS)
def test_damage_anywhere_in_exif_costs_no_pixel(carrier):
    exif = with_time(tags={DESCRIPTION: (2, b"a street in a city\0"), **TURNED})
    random = np.random.default_rng(2)
    whole = decoded(BASES[carrier.split()[0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(100):
            damaged = bytearray(exif)
            for position in random.integers(6, len(exif), 4):
                damaged[position] = random.integers(0, 256)
            photo = decode_photo(
                CARRIERS[carrier](bytes(damaged)), lambda *_: (8, 8), DEFAULT_MAX_PIXELS
            )
            assert photo.width * photo.height == whole.shape[0] * whole.shape[1]


@pytest.mark.parametrize(
    "content",
    [
        XMP % (b" " * 1_200_000),
        XMP % (b" " * 70_000_000),
        b"\xff\xfe not XML",
        b"",
    ],
)
def test_xmp_of_any_size_costs_no_pixel(content):
    text = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(content, 1)
    plain = b"XML:com.adobe.xmp\0\0\0\0\0" + content
    for one in (chunk(b"iTXt", text), chunk(b"iTXt", plain), chunk(b"zTXt", b"c\0\0" + text[22:])):
        assert np.array_equal(decoded(png_with(one)), PICTURE)
    assert np.array_equal(decoded(webp_with((b"XMP ", content))), PICTURE)
    part = b"http://ns.adobe.com/xap/1.0/\0" + content[:60_000]
    assert np.array_equal(decoded(jpeg_with(segment(0xE1, part))), decoded(JPEG_LIKE))


@pytest.mark.parametrize(
    "damaged",
    [
        chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(1_500_000))),
        chunk(b"iCCP", b"icc\0\0no deflated data"),
        chunk(b"iCCP", b""),
        chunk(b"tEXt", b"Comment\0a street", checksum=1),
        chunk(b"eXIf", b"II*\0", checksum=1),
        chunk(b"zTXt", b"Comment\0\0no deflated data"),
        chunk(b"zTXt", b""),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1"),
        chunk(b"tEXt", b"Raw profile type exif\0no digits"),
        chunk(b"pHYs", b"\1"),
        chunk(b"gAMA", b""),
        chunk(b"cHRM", b"1"),
        chunk(b"tRNS", b""),
        chunk(b"sBIT", b"\5\6\5"),
        chunk(b"tIME", b"x", checksum=9),
        chunk(b"acTL", struct.pack(">II", 5, 0)),
        *[chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(900_000))) * 90],
    ],
)
def test_a_damaged_or_large_chunk_of_a_png_costs_that_chunk(damaged):
    turned = chunk(b"eXIf", block(TURNED)[6:])
    for data in (png_with(damaged, turned), png_with(turned, damaged)):
        assert np.array_equal(upright(data), PICTURE)


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"PLTE"])
def test_a_damaged_chunk_of_pixels_is_a_decode_error(kind):
    data = bytearray(saved("PNG", mode="P"))
    data[data.index(kind) + 6] ^= 1
    with pytest.raises(DecodeError):
        decoded(bytes(data))


@pytest.mark.parametrize("interlace", [False, True])
def test_a_png_without_its_end_is_whole(interlace):
    data = saved("PNG")
    assert data[-8:-4] == b"IEND"
    for missing in (*range(1, 17),):
        assert np.array_equal(decoded(data[:-missing]), PICTURE)
    for missing in (40, 200, len(data) // 2):
        with pytest.raises(DecodeError):
            decoded(data[:-missing])


def test_of_a_png_of_16_bits_the_upper_bits_are_kept():
    def png(pixels: np.ndarray, color: int) -> bytes:
        height, width = pixels.shape[:2]
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
        header = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
        parts = ((b"IHDR", header), (b"sBIT", b"\x0c" * {0: 1, 2: 3, 4: 2, 6: 4}[color]),
                 (b"gAMA", struct.pack(">I", 100_000)), (b"IDAT", zlib.compress(rows)),
                 (b"IEND", b""))  # fmt: skip
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)

    deep = PICTURE.astype(int) * 256 + 77
    grey, alpha = deep[..., :1], np.full_like(deep[..., :1], 9000)
    assert np.array_equal(decoded(png(deep, 2)), PICTURE)
    assert np.array_equal(decoded(png(np.dstack([deep, alpha]), 6)), PICTURE)
    for data in (png(grey, 0), png(np.dstack([grey, alpha]), 4)):
        assert np.array_equal(decoded(data), PICTURE[..., [0, 0, 0]])


JPEGS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "grey": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
    "progressive CMYK": {"mode": "CMYK", "progressive": True},
}


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_without_its_end_is_whole_as_long_as_its_scans_are(kind):
    data = saved("JPEG", quality=90, **JPEGS[kind])
    whole = decoded(data)
    for missing in (1, 2):
        assert np.array_equal(decoded(data[:-missing]), whole)
        photo = decode_photo(data[:-missing], lambda *_: (8, 9), DEFAULT_MAX_PIXELS)
        assert (photo.width, photo.height) == (90, 60)
    for missing in (*range(3, 60), len(data) // 3, len(data) // 2):
        with pytest.raises(DecodeError):
            decoded(data[:-missing])


@pytest.mark.parametrize("kind", ["progressive", "progressive CMYK"])
def test_a_jpeg_that_lacks_its_last_scan_is_a_decode_error(kind):
    data = saved("JPEG", quality=90, **JPEGS[kind])
    scan = data.rindex(b"\xff\xda")
    tables = data.rindex(b"\xff\xc4")
    for cut in (scan, tables) if tables < scan else (scan,):
        for end in (b"", b"\xff"):
            with pytest.raises(DecodeError):
                decoded(data[:cut] + end)


@pytest.mark.parametrize(
    "damaged",
    [
        segment(0xE2, b"ICC_PROFILE\0"),
        segment(0xE2, b"ICC_PROFILE\0\1"),
        segment(0xE2, b"MPF\0broken"),
        segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff"),
        segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\x02\0"),
        segment(0xED, b"Photoshop 3.0\x008BIM"),
        segment(0xE0, b"JFIF\0"),
        segment(0xEE, b"Adobe"),
        segment(0xFE, b"\xff\xff"),
        segment(0xE1, b"Exif\0\0"),
        segment(0xE1, b"Exif"),
        b"\xff" * 7,
    ],
)
def test_a_damaged_segment_of_a_jpeg_costs_that_segment(damaged):
    turned = segment(0xE1, block(TURNED))
    for data in (jpeg_with(damaged, turned), jpeg_with(turned, damaged)):
        assert np.array_equal(upright(data), decoded(JPEG_LIKE))
        assert np.array_equal(upright(data[:-2]), decoded(JPEG_LIKE))


def test_a_damaged_chunk_of_a_webp_costs_that_chunk():
    data = webp_with((b"EXIF", block(TURNED)[6:]), (b"ICCP", b"x"), (b"ABCD", b"x" * 9))
    assert np.array_equal(upright(data), PICTURE)
    behind = data + b"EXIF" + struct.pack("<I", 5000) + b"cut short"
    assert np.array_equal(upright(behind), PICTURE)
    for missing in (20, len(data) // 2):
        with pytest.raises(DecodeError):
            decoded(data[:-missing])
