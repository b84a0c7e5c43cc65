"""TIFFs of every kind against what was written into them, and against libtiff by other programs."""

import io
import itertools

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import ExifTags, Image, ImageCms

from tests.tiff_files import (
    DEFLATE,
    FLOAT,
    LZMA,
    LZW,
    NONE,
    PACKBITS,
    REDUCED,
    SIGNED,
    UNSIGNED,
    ZSTD,
    encode,
    file_of,
    image,
    tiff,
)
from transforms.photos.decoding import DEFAULT_MAX_PIXELS, DecodeError, decode_full, decode_photo

ORDERS = ["<", ">"]
RGB, PALETTE, YCBCR, CIE_LAB, ICC_LAB = 2, 3, 6, 8, 9
WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1
MIN, MAX, S_MIN, S_MAX = 280, 281, 340, 341
EXTRA_SAMPLES, COLOR_MAP, SUBSAMPLING = 338, 320, 530
ASSOCIATED, UNASSOCIATED = 1, 2
SUBFILE, ORIENTATION, XMP = 254, 274, 700


def photo(height=37, width=50) -> np.ndarray:
    """An RGB picture with all values from 0 to 255 and detail of every size."""
    random = np.random.default_rng(3)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 5), np.cos(y / 7), np.sin((x + y) / 9)], -1) * 90 + 128
    pixels = (waves + random.integers(-30, 30, waves.shape)).clip(0, 255).astype(np.uint8)
    pixels[0, 0], pixels[-1, -1] = 0, 255
    return pixels


PHOTO = photo()
GREY = PHOTO[..., 1]


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(decode_full(data, DEFAULT_MAX_PIXELS)).astype(int)


def by_libvips(data: bytes) -> np.ndarray:
    """uint8 RGB by libvips and libtiff."""
    pixels = pyvips.Image.new_from_buffer(data, "").colourspace("srgb").numpy()
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., [0, 0, 0]]


def deep(pixels: np.ndarray, bits: int, kind=UNSIGNED) -> np.ndarray:
    """8-bit values as the upper bits of deeper ones, or cut to fewer bits."""
    values = pixels.astype(object)
    values = values << (bits - 8) if bits >= 8 else values >> (8 - bits)
    if kind == SIGNED:
        values = values - (1 << (bits - 1))
    return values.astype(np.int64 if kind == SIGNED else np.uint64)


def shallow(pixels: np.ndarray, bits: int) -> np.ndarray:
    """What is left of 8-bit values that were cut to fewer bits."""
    return np.rint((pixels >> (8 - bits)) * (255 / ((1 << bits) - 1))) if bits < 8 else pixels


def same(data: bytes, expected: np.ndarray, tolerance=0) -> bool:
    expected = expected if expected.ndim == 3 else expected[..., None]
    return np.abs(decoded(data) - expected.astype(int)).max() <= tolerance


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 64])
@pytest.mark.parametrize("kind", [UNSIGNED, SIGNED])
def test_grey_of_every_depth_keeps_its_upper_bits(kind, bits, order):
    if bits == 1 and kind == SIGNED:
        pytest.skip("one bit has no sign")
    options = {"bits": bits, "kind": kind, "order": order}
    expected = shallow(GREY, bits)
    assert same(tiff(deep(GREY, bits, kind), **options), expected)
    inverted = deep(255 - GREY, bits, kind)
    assert same(tiff(inverted, photometric=WHITE_IS_ZERO, **options), expected)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bits", [16, 24, 32, 64])
@pytest.mark.parametrize(("factor", "offset"), [(1 / 255, 0), (1, 0), (257, 0), (7, -3), (1e-6, 5)])
def test_floats_are_scaled_by_the_range_of_their_values(bits, order, factor, offset):
    tolerance = {16: 2 if factor < 257 else None, 24: 2}.get(bits, 0)
    if tolerance is None or (offset == 5 and bits < 32):
        pytest.skip("beyond the range or the precision of these floats")
    values = GREY.astype(float) * factor + offset
    if offset == 5 and bits == 32:
        tolerance = 1
    assert same(tiff(values, bits=bits, kind=FLOAT, order=order), GREY, tolerance)


def test_a_value_that_is_not_finite_costs_its_pixel_only():
    values = GREY / 255
    values[0, 1:4] = np.inf, -np.inf, np.nan
    expected = GREY.copy()
    expected[0, 1:4] = 255, 0, 0
    for bits in (16, 32, 64):
        assert same(tiff(values, bits=bits, kind=FLOAT), expected, 1)
    inverted = expected.copy()
    inverted[0, 3] = 255
    data = tiff(1 - values, bits=32, kind=FLOAT, photometric=WHITE_IS_ZERO)
    assert same(data, inverted, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, 7.5])
def test_floats_that_tell_no_scale_are_refused(value):
    with pytest.raises(DecodeError, match="no finite value|scale is unknown"):
        decoded(tiff(np.full((4, 4), value), bits=32, kind=FLOAT))


def test_a_declared_range_is_the_scale():
    values = GREY.astype(float) / 255 * 30 - 10
    declared = {S_MIN: (11, [-10.0]), S_MAX: (11, [20.0])}
    assert same(tiff(values[5:20], bits=32, kind=FLOAT, tags=declared), GREY[5:20])
    twelve_bits = {MIN: (3, [0]), MAX: (3, [4095])}
    assert same(tiff(deep(GREY, 12), bits=16, tags=twelve_bits), GREY)
    statistics = {MIN: (3, [3]), MAX: (3, [50_000])}
    assert same(tiff(deep(GREY // 2, 16), bits=16, tags=statistics), GREY // 2)


@pytest.mark.parametrize("bits", [8, 16, 31])
def test_small_integers_in_large_ones_are_of_the_depth_that_they_fill(bits):
    kind, stored = (SIGNED, 32) if bits == 31 else (UNSIGNED, 32)
    assert same(tiff(deep(GREY, bits), bits=stored, kind=kind), GREY)
    if bits < 31:
        assert same(tiff(deep(GREY, bits), bits=32, kind=SIGNED), GREY)


LAYOUTS = list(itertools.product(ORDERS, [False, True], [None, (16, 16), (32, 16)]))


@pytest.mark.parametrize("predictor", [1, 2, 3])
@pytest.mark.parametrize("compression", [NONE, LZW, DEFLATE, PACKBITS, LZMA, ZSTD])
@pytest.mark.parametrize(
    ("bits", "kind"), [(8, UNSIGNED), (16, UNSIGNED), (32, FLOAT), (16, FLOAT)]
)
def test_colours_of_every_layout(bits, kind, compression, predictor):
    if predictor == 3 and kind != FLOAT:
        pytest.skip("this predictor is for floats")
    values = PHOTO / 255 if kind == FLOAT else deep(PHOTO, bits)
    options = {"bits": bits, "kind": kind, "predictor": predictor, "compression": compression}
    for order, planar, tile in LAYOUTS:
        rows = None if tile else 7
        for big, reversed_bits in ((False, False), (True, True)):
            data = tiff(
                values, order, big, planar=planar, tile=tile, rows=rows, photometric=RGB,
                reversed_bits=reversed_bits, **options,
            )  # fmt: skip
            assert same(data, PHOTO, kind == FLOAT), (order, planar, tile, big)


OTHERS = {
    "grey 8": (GREY, {}),
    "grey 8 inverted": (GREY, {"photometric": WHITE_IS_ZERO}),
    "grey 16": (deep(GREY, 16), {"bits": 16}),
    "grey 4": (deep(GREY, 4), {"bits": 4}),
    "RGB 8 planar": (PHOTO, {"photometric": RGB, "planar": True, "rows": 5}),
    "RGB 8 tiles": (PHOTO, {"photometric": RGB, "tile": (16, 32), "compression": LZW}),
    "RGB 16 planar": (deep(PHOTO, 16), {"photometric": RGB, "bits": 16, "planar": True}),
    "RGB 16 predictor": (
        deep(PHOTO, 16),
        {"photometric": RGB, "bits": 16, "predictor": 2, "compression": DEFLATE},
    ),
    "RGBA 16": (
        np.dstack([deep(PHOTO, 16), deep(GREY, 16)]),
        {"photometric": RGB, "bits": 16, "tags": {EXTRA_SAMPLES: (3, [UNASSOCIATED])}},
    ),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", OTHERS)
def test_libvips_reads_the_same(kind, order):
    values, options = OTHERS[kind]
    data = tiff(values, order=order, **options)
    assert same(data, by_libvips(data), 1 if "16" in kind else 0)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f2", "f4"])
def test_files_of_another_writer(dtype):
    values = (PHOTO / 255).astype(dtype) if dtype[0] == "f" else deep(PHOTO, 8 * int(dtype[1]))
    for options in ({}, {"planarconfig": "separate", "tile": (16, 16)}, {"byteorder": ">"}):
        buffer = io.BytesIO()
        stored = values.astype(dtype)
        if "planarconfig" in options:
            stored = np.moveaxis(stored, -1, 0)
        tifffile.imwrite(buffer, stored, photometric="rgb", **options)
        assert same(buffer.getvalue(), PHOTO, 1)


def saved(picture: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "TIFF", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "LA"])
@pytest.mark.parametrize(
    "compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4", "group3"]
)
def test_pillow_reads_the_same(mode, compression):
    if (compression.startswith("group") and mode != "1") or (
        compression == "jpeg" and mode not in ("L", "RGB", "CMYK")
    ):
        pytest.skip("not a combination")
    picture = Image.fromarray(PHOTO).convert(mode)
    data = saved(picture, compression=compression)
    with Image.open(io.BytesIO(data)) as other:
        assert same(data, np.asarray(other.convert("RGB")), 1)


@pytest.mark.parametrize("bits", [8, 16])
def test_colours_multiplied_by_alpha_are_divided_by_it(bits):
    alpha = np.tile(np.linspace(100, 255, PHOTO.shape[1]).astype(np.uint8), (len(PHOTO), 1))
    for pixels, photometric in ((PHOTO, RGB), (GREY[..., None], BLACK_IS_ZERO)):
        shown = pixels.astype(int) * alpha[..., None] // 255
        values = deep(np.dstack([shown, alpha]), bits)
        data = tiff(
            values, bits=bits, photometric=photometric, tags={EXTRA_SAMPLES: (3, [ASSOCIATED])}
        )
        assert same(data, pixels, 3)
    apart = deep(np.dstack([PHOTO, alpha]), bits)
    for tags in ({EXTRA_SAMPLES: (3, [UNASSOCIATED])}, {EXTRA_SAMPLES: (3, [0])}, {}):
        assert same(tiff(apart, bits=bits, photometric=RGB, tags=tags), PHOTO)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("scale", [257, 1])
def test_palettes_have_entries_of_16_bits_and_often_of_8(bits, scale):
    colors = np.random.default_rng(0).integers(0, 256, (1 << bits, 3))
    colors[-1] = 255
    index = np.random.default_rng(1).integers(0, 1 << bits, (20, 30))
    index[0, 0] = (1 << bits) - 1
    data = tiff(
        index, bits=bits, photometric=PALETTE,
        tags={COLOR_MAP: (3, [int(value) for value in colors.T.ravel() * scale])},
    )  # fmt: skip
    assert same(data, colors[index])


@pytest.mark.parametrize("shared", [(1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (4, 1), (1, 2)])
@pytest.mark.parametrize("compression", [NONE, LZW])
def test_colour_differences_that_pixels_share(shared, compression):
    across, down = shared
    values = np.asarray(Image.fromarray(PHOTO).convert("YCbCr"), int)
    height, width = (
        -(-size // step) * step for size, step in zip(GREY.shape, (down, across), strict=True)
    )
    padding = ((0, height - len(GREY)), (0, width - GREY.shape[1]), (0, 0))
    units = np.pad(values, padding, "edge")
    units = units.reshape(height // down, down, width // across, across, 3)
    differences = units[..., 1:].mean(axis=(1, 3)).round().astype(np.uint8)
    luma = units[..., 0].transpose(0, 2, 1, 3).reshape(*differences.shape[:2], -1)
    stored = np.concatenate([luma, differences], 2).astype(np.uint8).tobytes()
    tags, _ = image(
        PHOTO, photometric=YCBCR, compression=compression, tags={SUBSAMPLING: (3, list(shared))}
    )
    data = file_of((tags, [encode(stored, compression)]))
    whole = differences.repeat(down, 0).repeat(across, 1)[: len(GREY), : GREY.shape[1]]
    expected = np.dstack([values[..., 0], whole]).astype(np.uint8)
    assert same(data, np.asarray(Image.fromarray(expected, "YCbCr").convert("RGB")), 2)


def test_lab_of_8_and_16_bits_of_both_kinds():
    profiles = map(ImageCms.createProfile, ("sRGB", "LAB"))
    transform = ImageCms.buildTransform(*profiles, "RGB", "LAB")
    lab = ImageCms.applyTransform(Image.fromarray(PHOTO), transform)
    lightness, a, b = np.moveaxis(np.asarray(lab).astype(int), -1, 0)
    a, b = (((channel + 128) % 256) - 128 for channel in (a, b))
    assert same(saved(lab), PHOTO, 10)
    kinds = {
        (CIE_LAB, 16): (lightness * 257, a * 256 & 0xFFFF, b * 256 & 0xFFFF),
        (ICC_LAB, 8): (lightness, a + 128, b + 128),
        (ICC_LAB, 16): (lightness * 256, (a + 128) * 256, (b + 128) * 256),
    }
    for (photometric, bits), channels in kinds.items():
        data = tiff(np.dstack(channels), bits=bits, photometric=photometric)
        assert np.abs(decoded(data) - decoded(saved(lab))).max() <= 1


def test_further_samples_of_many_bands_are_left_out():
    bands = np.dstack([PHOTO, *[GREY] * 97])
    for planar in (False, True):
        assert same(tiff(bands, photometric=RGB, planar=planar), PHOTO)
    assert same(tiff(bands[..., ::-1], photometric=BLACK_IS_ZERO), GREY)


class TestWhichImage:
    SMALL = photo(8, 10)

    def test_a_smaller_copy_before_the_photo_is_passed_over(self):
        small = image(self.SMALL, photometric=RGB, tags=REDUCED)
        assert same(file_of(small, image(PHOTO, photometric=RGB)), PHOTO)
        old = image(self.SMALL, photometric=RGB, tags={255: (3, [2])})
        assert same(file_of(old, image(PHOTO, photometric=RGB)), PHOTO)

    @pytest.mark.parametrize(("order", "big"), [("<", False), (">", True)])
    def test_the_photo_may_be_within_its_smaller_copy(self, order, big):
        options = {"order": order, "photometric": RGB}
        small = image(self.SMALL, tags={**REDUCED, ORIENTATION: (3, [3])}, **options)
        data = file_of((*small, [image(PHOTO, **options)]), order=order, big=big)
        assert same(data, PHOTO[::-1, ::-1])

    def test_a_mask_is_no_photo(self):
        mask = image(GREY > 9, bits=1, photometric=4, tags={SUBFILE: (4, [4])})
        assert same(file_of(mask, image(PHOTO, photometric=RGB)), PHOTO)

    def test_of_several_pages_the_first_is_taken(self):
        pages = [image(pixels, photometric=RGB) for pixels in (self.SMALL, PHOTO)]
        assert same(file_of(*pages), self.SMALL)

    def test_of_smaller_copies_alone_the_largest_is_taken(self):
        pages = [image(p, photometric=RGB, tags=REDUCED) for p in (self.SMALL, PHOTO, self.SMALL)]
        assert same(file_of(*pages), PHOTO)


@pytest.mark.parametrize("compression", [NONE, LZW, DEFLATE, PACKBITS, LZMA, ZSTD])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_a_strip_or_tile_cut_short_is_a_decode_error(compression, tile):
    tags, segments = image(PHOTO, photometric=RGB, compression=compression, tile=tile)
    data = file_of((tags, [*segments[:-1], segments[-1][: len(segments[-1]) // 8]]))
    with pytest.raises(DecodeError):
        decoded(data)
    sizes = {325 if tile else 279: (4, [*map(len, segments[:-1]), 0])}
    with pytest.raises(DecodeError, match="missing"):
        decoded(file_of((tags | sizes, segments)))


def test_a_jpeg_strip_cut_short_is_a_decode_error():
    data = bytearray(saved(Image.fromarray(photo(200, 300)), compression="jpeg"))
    end = data.rindex(b"\xff\xd9")
    data[end - 200 : end] = bytes(100) + b"\xff\xd9" * 50
    with pytest.raises(DecodeError):
        decoded(bytes(data))


REFUSED = {
    "CFA": ({"photometric": 32803}, {}, "photometric interpretation 32803"),
    "mask": ({"photometric": 4}, {}, "photometric interpretation 4"),
    "mixed depths": ({}, {258: (3, [5, 6, 5])}, "samples that differ in BITS"),
    "complex": ({}, {339: (3, [6] * 3)}, "format 6"),
    "no depth": ({}, {258: (3, [0])}, "0 bits"),
    "compression": ({}, {259: (3, [34712])}, "compression 34712"),
    "old JPEG": ({}, {259: (3, [6])}, "compression 6"),
    "predictor": ({}, {317: (3, [34892])}, "predictor 34892"),
    "inks": ({"photometric": 5}, {332: (3, [2])}, "inks|too few"),
    "too few samples": ({"photometric": 5}, {}, "too few"),
    "palette": ({"photometric": 3}, {}, "palette"),
    "no strips": ({}, {273: (4, [])}, "0 strips"),
    "strips of nothing": ({}, {278: (4, [0])}, "0 pixels"),
    "outside": ({}, {273: (4, [1 << 30])}, "missing"),
    "no width": ({}, {256: (4, [0])}, "0 x 37"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_the_tags_do_not_describe_surely_is_refused(kind):
    options, tags, message = REFUSED[kind]
    found, segments = image(PHOTO, **{"photometric": RGB, **options})
    with pytest.raises(DecodeError, match=message):
        decoded(file_of((found | tags, segments)))


@pytest.mark.filterwarnings("ignore")
def test_damage_anywhere_is_never_more_than_a_decode_error():
    random = np.random.default_rng(8)
    files = [
        tiff(deep(PHOTO, 16), bits=16, photometric=RGB, tile=(16, 16), compression=LZW),
        tiff(GREY / 255, bits=32, kind=FLOAT, predictor=3, compression=DEFLATE),
        saved(Image.fromarray(PHOTO), compression="jpeg"),
    ]
    for data in files:
        for _ in range(150):
            damaged = bytearray(data)
            for position in random.integers(0, len(data), 3):
                damaged[position] = random.integers(0, 256)
            for position in random.integers(len(data) - 150, len(data), 2):
                damaged[position] = random.integers(0, 256)
            try:
                found = decode_photo(bytes(damaged), lambda *_: (32, 32), 1 << 22)
            except DecodeError:
                continue
            assert found.pixels.shape == (32, 32, 3)


class TestMetadata:
    @pytest.mark.parametrize(
        "value", [(3, [6]), (4, [6]), (1, [6]), (9, [6]), (5, [6]), (11, [6.0]), (12, [6.0]),
                  (2, b"6\0"), (16, [6]), (3, [6, 0])]
    )  # fmt: skip
    @pytest.mark.parametrize("big", [False, True])
    def test_the_orientation_counts_whatever_its_type(self, value, big):
        data = tiff(PHOTO, photometric=RGB, big=big, tags={ORIENTATION: value})
        assert same(data, np.rot90(PHOTO, -1))

    @pytest.mark.parametrize(
        "value", [(3, [0]), (3, [9]), (9, [-6]), (11, [6.5]), (11, [float("nan")]), (2, b"up\0")]
    )
    def test_an_orientation_out_of_range_counts_as_upright(self, value):
        assert same(tiff(PHOTO, photometric=RGB, tags={ORIENTATION: value}), PHOTO)

    @pytest.mark.parametrize(
        "value",
        [(3, [5]), (1, b"<x/>"), (2, b"<x/>\0"), (4, [1] * 50), (7, b"\xff" * 9), (12, [1.0])],
    )
    def test_an_xmp_tag_of_any_type_costs_nothing(self, value):
        data = tiff(PHOTO, photometric=RGB, tags={XMP: value, ORIENTATION: (3, [3])})
        assert same(data, PHOTO[::-1, ::-1])

    @pytest.mark.parametrize("pointer", [ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo])
    @pytest.mark.parametrize(
        "value", [(9, [-1]), (4, [1 << 31]), (4, [3]), (2, b"x\0"), (3, [8, 9])]
    )
    def test_a_damaged_pointer_costs_its_block(self, pointer, value):
        data = tiff(PHOTO, photometric=RGB, tags={pointer: value, ORIENTATION: (3, [3])})
        assert same(data, PHOTO[::-1, ::-1])
