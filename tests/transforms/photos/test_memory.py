"""Memory: what a small file may take, and that large photos take turns."""

import struct
import threading
import zlib
from functools import partial
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from tests.peak_memory import peak_memory
from tests.tiff_files import DEFLATE, FLOAT, LZW, file_of, image
from transforms.photos.decoding import DecodeError, decode_full, decode_photo, decode_pixels
from transforms.photos.memory import Memory
from transforms.photos.pictures import BYTES_PER_PIXEL

MEBIBYTE = 1 << 20
MAX_PIXELS = 16_000_000
SIDE = 4000
OTHER_MEMORY = 80 * MEBIBYTE
"""For bands of rows and for what libraries keep."""


def deflated(length: int) -> bytes:
    packer = zlib.compressobj(9)
    parts = [
        packer.compress(bytes(min(MEBIBYTE, length - at))) for at in range(0, length, MEBIBYTE)
    ]
    return b"".join(parts) + packer.flush()


def tiff_that_claims(width, height, bits=8, samples=3, kind=1, tile=None, planar=False, data=None):
    """A small TIFF of one repeated strip or tile."""
    tags, _ = image(
        np.zeros((1, 1, samples), np.uint8),
        bits=bits,
        kind=kind,
        photometric=2 if samples >= 3 else 1,
        planar=planar,
        compression=DEFLATE,
    )
    down, across = tile or (height, width)
    size = down * across * bits // 8 * (1 if planar else samples)
    count = -(-height // down) * -(-width // across) * (samples if planar else 1)
    data = data or deflated(size)
    tags |= {256: (4, [width]), 257: (4, [height])}
    tags |= {322: (4, [across]), 323: (4, [down])} if tile else {278: (4, [height])}
    tags[324 if tile else 273] = (4, [8] * count)
    tags[325 if tile else 279] = (4, [len(data)] * count)
    return file_of((tags, [data]))


def png_of(width: int, height: int, bits: int, color: int) -> bytes:
    samples = {0: 1, 2: 3, 6: 4}[color]
    rows = deflated(height * (1 + width * samples * bits // 8))
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    )


def saved(format: str, mode="RGB", side=SIDE, **options) -> bytes:
    buffer = BytesIO()
    Image.new(mode, (side, side)).save(buffer, format, **options)
    return buffer.getvalue()


def a_large_jpeg_in_a_small_tile() -> bytes:
    tags, _ = image(np.zeros((64, 64, 3), np.uint8), photometric=6, tile=(64, 64))
    return file_of((tags | {259: (3, [7])}, [saved("JPEG")]))


def a_tile_of_lzw() -> bytes:
    data = tiff_that_claims(
        64, 64, samples=1, tile=(20_000, 20_000), data=imagecodecs.lzw_encode(bytes(MEBIBYTE))
    )
    return data.replace(
        struct.pack("<HHII", 259, 3, 1, DEFLATE), struct.pack("<HHII", 259, 3, 1, LZW)
    )


def without_size_in_avif() -> bytes:
    data, size = saved("AVIF", speed=10), struct.pack(">II", SIDE, SIDE)
    assert size in data
    return data.replace(size, struct.pack(">II", 64, 64))


BOMBS = {
    "a tile far larger than the TIFF": lambda: tiff_that_claims(
        64, 64, tile=(20_000, 20_000), data=deflated(MEBIBYTE)
    ),
    "a tile of LZW": a_tile_of_lzw,
    "floats of 64 bits": lambda: tiff_that_claims(SIDE, SIDE, 64, 1, FLOAT, tile=(512, 512)),
    "one strip of floats": lambda: tiff_that_claims(SIDE, SIDE, 32, 1, FLOAT),
    "one strip of 16 bits": lambda: tiff_that_claims(SIDE, SIDE, 16, 3),
    "planes of 16 bits": lambda: tiff_that_claims(SIDE, SIDE, 16, 3, planar=True),
    "thousands of samples": lambda: tiff_that_claims(100, 100, samples=9000),
    "tens of thousands of samples": lambda: tiff_that_claims(
        SIDE, SIDE, samples=60_000, data=deflated(MEBIBYTE)
    ),
    "a large JPEG in a small tile": a_large_jpeg_in_a_small_tile,
    "RGB PNG": lambda: png_of(SIDE, SIDE, 8, 2),
    "RGBA PNG of 16 bits": lambda: png_of(SIDE, SIDE, 16, 6),
    "JPEG": lambda: saved("JPEG"),
    "progressive JPEG": lambda: saved("JPEG", progressive=True, subsampling=0),
    "CMYK JPEG": lambda: saved("JPEG", "CMYK"),
    "lossy WebP": lambda: saved("WEBP", side=2600),
    "lossless WebP": lambda: saved("WEBP", side=2600, lossless=True),
    "large WebP": lambda: saved("WEBP"),
    "AVIF": lambda: saved("AVIF", side=3000, speed=10),
    "AVIF of another size": without_size_in_avif,
    "JPEG 2000 of one tile": lambda: saved("JPEG2000", side=2000),
    "large JPEG 2000 of one tile": lambda: saved("JPEG2000"),
    "JPEG 2000 of tiles": lambda: saved("JPEG2000", tile_size=(512, 512)),
    "GIF": lambda: saved("GIF", "P"),
    "TGA": lambda: saved("TGA", compression="tga_rle"),
    "PCX": lambda: saved("PCX"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_file_takes_no_more_memory_than_the_limit(kind):
    data = BOMBS[kind]()
    for read in (decode_pixels, partial(decode_photo, shape_for=lambda *_: (64, 64))):
        message = ""
        with peak_memory() as peak:
            try:
                read(data, max_pixels=MAX_PIXELS)
            except DecodeError as error:
                message = str(error)
        assert all(taken < BYTES_PER_PIXEL * MAX_PIXELS + OTHER_MEMORY for taken in peak)
        assert not message or "--max-pixels" in message or "holds 4000 x 4000" in message


def test_what_takes_too_much_memory_is_refused_with_its_bytes():
    with pytest.raises(DecodeError, match=r"take \d+ bytes to decode.* --max-pixels"):
        decode_full(BOMBS["a tile far larger than the TIFF"](), MAX_PIXELS)


def test_the_size_in_the_codestream_of_a_jpeg_2000_counts():
    data = saved("JPEG2000", side=64, no_jp2=False)
    size = struct.pack(">II", 64, 64)
    codestream = data.index(b"\xff\x4f\xff\x51")
    at = data.index(size, codestream)
    larger = data[:at] + struct.pack(">II", 60_000, 60_000) + data[at + 8 :]
    with pytest.raises(DecodeError, match="64 x 64 pixels that are 60000 x 60000"):
        decode_full(larger, MAX_PIXELS)
    hidden = struct.pack(">I4s", 60, b"free") + data[codestream : codestream + 52]
    with pytest.raises(DecodeError):
        decode_full(larger[:32] + hidden + larger[32:], MAX_PIXELS)


class TestMemory:
    def test_what_fits_together_goes_on_together(self):
        memory, both = Memory(10), threading.Barrier(2, timeout=5)

        def work():
            with memory.reserved(5):
                both.wait()

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        assert not both.broken

    @pytest.mark.parametrize("size", [6, 10, 1000])
    def test_what_does_not_fit_waits(self, size):
        memory, inside, most = Memory(10), [], []

        def work():
            for _ in range(20):
                with memory.reserved(size):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        assert len(most) == 80 and set(most) == {1}

    def test_an_error_frees_what_was_reserved(self):
        memory = Memory(10)
        with pytest.raises(ValueError, match="x"), memory.reserved(10):
            raise ValueError("x")
        with memory.reserved(10):
            pass
