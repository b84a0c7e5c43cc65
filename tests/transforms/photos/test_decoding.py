import io
import json
import struct
import tracemalloc
import zlib
from datetime import datetime
from functools import partial

import numpy as np
import pytest
import simplejpeg
from PIL import ExifTags, Image, TiffImagePlugin

from models.inputs import network_shape, resize_pixels
from transforms.flow.records import Capture
from transforms.photos.decoding import (
    DEFAULT_MAX_PIXELS,
    FORMATS,
    DecodeError,
    decode_full,
    decode_photo,
    is_image_name,
)

Ratio = TiffImagePlugin.IFDRational
ORIENTATION = ExifTags.Base.Orientation
WIDTH, HEIGHT = 48, 32
END_OF_JPEG = b"\xff\xd9"


def picture(width=WIDTH, height=HEIGHT) -> Image.Image:
    """An RGB picture whose four quarters differ, so that every turn and flip shows."""
    pixels = np.full((height, width, 3), 20, np.uint8)
    pixels[: height // 2, : width // 2] = (220, 30, 30)
    pixels[: height // 2, width // 2 :] = (30, 220, 30)
    pixels[height // 2 :, : width // 2] = (30, 30, 220)
    return Image.fromarray(pixels)


def saved(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decode(data: bytes, shape=(32, 32), max_pixels=DEFAULT_MAX_PIXELS):
    return decode_photo(data, lambda width, height: shape, max_pixels)


def capture_of(exif: Image.Exif, format="JPEG") -> Capture:
    return decode(saved(picture(), format, exif=exif)).capture


def exif_with(gps=None, details=None, base=None) -> Image.Exif:
    exif = Image.Exif()
    exif.update(base or {ExifTags.Base.Make: "a camera"})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps or {})
    exif.get_ifd(ExifTags.IFD.Exif).update(details or {})
    return exif


def difference(a, b) -> float:
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).mean())


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("PNG", {}),
        ("WEBP", {"quality": 95}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
        ("BMP", {}),
        ("GIF", {}),
        ("JPEG2000", {}),
        ("PPM", {}),
        ("TGA", {}),
        ("QOI", {}),
    ],
)
def test_photos_of_every_format_are_decoded(format, options):
    data = saved(picture(), format, **options)
    photo = decode(data, (HEIGHT, WIDTH))
    assert photo.pixels.dtype == np.uint8
    assert (photo.width, photo.height) == (WIDTH, HEIGHT)
    assert difference(photo.pixels, picture()) < 4
    assert difference(decode_full(data, DEFAULT_MAX_PIXELS), picture()) < 4


def transparent_palette() -> Image.Image:
    image = picture().quantize(8)
    image.info["transparency"] = 0
    return image


GREY = np.asarray(picture().convert("L"))
MODES = {
    "1 PNG": (picture().convert("1"), "PNG", picture().convert("1")),
    "L PNG": (picture().convert("L"), "PNG", picture().convert("L")),
    "L JPEG": (picture().convert("L"), "JPEG", picture().convert("L")),
    "LA PNG": (picture().convert("LA"), "PNG", picture().convert("L")),
    "P PNG": (picture().quantize(8), "PNG", picture()),
    "P transparent PNG": (transparent_palette(), "PNG", picture()),
    "P transparent GIF": (transparent_palette(), "GIF", picture()),
    "RGBA PNG": (picture().convert("RGBA"), "PNG", picture()),
    "RGBA WebP": (picture().convert("RGBA"), "WEBP", picture()),
    "CMYK JPEG": (picture().convert("CMYK"), "JPEG", picture()),
    "CMYK TIFF": (picture().convert("CMYK"), "TIFF", picture()),
    "I;16 PNG": (Image.fromarray(GREY.astype(np.uint16) * 257), "PNG", GREY),
    "I;16 TIFF": (Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF", GREY),
    "I TIFF": (Image.fromarray(GREY.astype(np.int32) * 257), "TIFF", GREY),
    "I TIFF of 8 bits": (Image.fromarray(GREY.astype(np.int32)), "TIFF", GREY),
    "F TIFF up to 1": (Image.fromarray(GREY.astype(np.float32) / 255), "TIFF", GREY),
    "F TIFF up to 255": (Image.fromarray(GREY.astype(np.float32)), "TIFF", GREY),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_colour_mode_becomes_rgb(mode):
    image, format, expected = MODES[mode]
    data = saved(image, format)
    if not isinstance(expected, Image.Image):
        expected = Image.fromarray(expected)
    expected = np.asarray(expected.convert("RGB"))
    assert decode(data, (HEIGHT, WIDTH)).pixels.shape == (HEIGHT, WIDTH, 3)
    for pixels in (decode(data, (HEIGHT, WIDTH)).pixels, decode_full(data, DEFAULT_MAX_PIXELS)):
        assert difference(pixels, expected) < 4


def test_not_a_number_in_a_float_photo_is_black():
    values = np.full((8, 8), 0.5, np.float32)
    values[0, 0], values[0, 1] = np.nan, np.inf
    pixels = np.asarray(decode_full(saved(Image.fromarray(values), "TIFF"), DEFAULT_MAX_PIXELS))
    assert pixels[0, 0].tolist() == [0, 0, 0] and pixels[0, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(format):
    others = [Image.new("RGB", (WIDTH, HEIGHT), color) for color in ("white", "black")]
    data = saved(picture(), format, save_all=True, append_images=others)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert difference(decode(data, (HEIGHT, WIDTH)).pixels, picture()) < 8


def turned(orientation: int) -> Image.Image:
    """The picture as a camera held that way stores it; the inverse of how it is displayed."""
    method = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    return picture() if method is None else picture().transpose(method)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("PNG", {}),
        ("WEBP", {"quality": 95}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_photos_are_upright_whatever_their_orientation(format, options, orientation):
    exif = exif_with(base={ORIENTATION: orientation})
    data = saved(turned(orientation), format, exif=exif, **options)
    photo = decode(data, (HEIGHT, WIDTH))
    assert (photo.width, photo.height) == (WIDTH, HEIGHT)
    assert difference(photo.pixels, picture()) < 4
    full = decode_full(data, DEFAULT_MAX_PIXELS)
    assert full.size == (WIDTH, HEIGHT) and full.mode == "RGB"
    assert difference(full, picture()) < 4


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_impossible_orientation_counts_as_upright(orientation):
    data = saved(picture(), "PNG", exif=exif_with(base={ORIENTATION: orientation}))
    assert difference(decode(data, (HEIGHT, WIDTH)).pixels, picture()) == 0


def test_the_network_shape_is_chosen_by_the_displayed_size():
    asked = []

    def shape_for(width, height):
        asked.append((width, height))
        return network_shape(width, height, 64, 64)

    data = saved(turned(6), "JPEG", exif=exif_with(base={ORIENTATION: 6}))
    photo = decode_photo(data, shape_for, DEFAULT_MAX_PIXELS)
    assert asked == [(WIDTH, HEIGHT)]
    assert photo.pixels.shape[:2] == network_shape(WIDTH, HEIGHT, 64, 64)


def textured(width: int, height: int) -> Image.Image:
    """A picture with detail of every size."""
    random = np.random.default_rng(7)
    noises = [
        Image.fromarray(
            random.integers(0, 256, (height // size + 1, width // size + 1, 3), np.uint8)
        )
        for size in (1, 4, 30)
    ]
    fine, middle, coarse = (noise.resize((width, height)) for noise in noises)
    return Image.blend(Image.blend(fine, middle, 0.6), coarse, 0.6)


JPEGS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_rows": 2},
    "4:4:4": {"subsampling": "4:4:4"},
    "4:2:2": {"subsampling": "4:2:2"},
    "RGB": {"keep_rgb": True},
    "grey": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
}


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("size", [(403, 269), (640, 320), (97, 800)])
@pytest.mark.parametrize("scale", [1.0, 1.9, 2.1, 5.0, 20.0])
def test_jpegs_have_the_pixels_that_pillow_makes_of_them(kind, size, scale):
    options = dict(JPEGS[kind])
    image = textured(*size).convert(options.pop("mode", "RGB"))
    data = saved(image, "JPEG", **options)
    shape = (int(size[1] / scale), int(size[0] / scale))
    with Image.open(io.BytesIO(data)) as whole, Image.open(io.BytesIO(data)) as scaled:
        scaled.draft("RGB", shape[::-1])
        expected = resize_pixels(np.asarray(scaled.convert("RGB")), shape)
        assert np.abs(decode(data, shape).pixels - expected.astype(int)).max() <= 2
        full = np.asarray(decode_full(data, DEFAULT_MAX_PIXELS))
        assert np.array_equal(full, np.asarray(whole.convert("RGB")))


def test_of_several_jpegs_in_one_file_the_first_is_taken():
    white = Image.new("RGB", (WIDTH, HEIGHT), "white")
    exif = exif_with(base={ORIENTATION: 6})
    data = saved(turned(6), "MPO", save_all=True, append_images=[white], exif=exif, quality=95)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert difference(decode(data, (HEIGHT, WIDTH)).pixels, picture()) < 4
    assert difference(decode_full(data, DEFAULT_MAX_PIXELS), picture()) < 4


def test_what_only_pillow_tolerates_in_a_jpeg_is_decoded_all_the_same():
    data = saved(picture(), "JPEG", quality=95)
    padded = data[:-2] + b"\x01\x02\x03" + data[-2:]
    with pytest.raises(ValueError, match="extraneous"):
        simplejpeg.decode_jpeg(padded)
    assert np.abs(decode(padded).pixels - decode(data).pixels.astype(int)).max() <= 1
    assert decode_full(padded, DEFAULT_MAX_PIXELS) == decode_full(data, DEFAULT_MAX_PIXELS)


def test_a_large_jpeg_scaled_while_decoding_looks_the_same():
    large = picture(1600, 1200)
    photo = decode(saved(large, "JPEG", quality=95), (96, 128))
    assert (photo.width, photo.height) == (1600, 1200)
    assert difference(photo.pixels, large.resize((128, 96), Image.Resampling.BOX)) < 4


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (10_000, 20)])
def test_photos_of_extreme_shape_are_decoded(size):
    shape_for = partial(network_shape, input_width=96, input_height=64)
    for format in ("PNG", "JPEG"):
        photo = decode_photo(saved(picture(*size), format), shape_for, DEFAULT_MAX_PIXELS)
        assert (photo.width, photo.height) == size
        assert photo.pixels.shape == (*shape_for(*size), 3)


NORTH_EAST = {1: "N", 2: (59.0, 20.0, 6.0), 3: "E", 4: (18.0, 4.0, 12.0)}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_position_time_and_heading_are_read_from_exif(format):
    exif = exif_with({**NORTH_EAST, 17: 271.5}, {36867: "2024:05:17 08:09:10"})
    capture = capture_of(exif, format)
    assert capture.latitude == pytest.approx(59.335, abs=1e-6)
    assert capture.longitude == pytest.approx(18.07, abs=1e-6)
    assert capture.captured_at == datetime(2024, 5, 17, 8, 9, 10)
    assert capture.heading == 271.5


@pytest.mark.parametrize(("ref", "sign"), [("N", 1), ("S", -1), ("s", -1), ("S\0", -1), (b"S", -1)])
def test_south_and_west_are_negative(ref, sign):
    west = {b"S": b"W", "S": "W"}.get(ref, "W" if sign < 0 else "E")
    capture = capture_of(exif_with({**NORTH_EAST, 1: ref, 3: west}))
    assert capture.latitude == pytest.approx(sign * 59.335, abs=1e-6)
    assert capture.longitude == pytest.approx(sign * 18.07, abs=1e-6)


@pytest.mark.parametrize(
    "latitude",
    [
        (Ratio(1, 0), 0.0, 0.0),
        (59.0, Ratio(5, 0), 0.0),
        (91.0, 0.0, 0.0),
        59.3,
    ],
)
def test_an_impossible_position_is_unknown_and_costs_nothing_else(latitude):
    exif = exif_with({**NORTH_EAST, 2: latitude, 17: 10.0})
    capture = capture_of(exif)
    assert capture.latitude is None and capture.heading == 10


@pytest.mark.parametrize(
    ("written", "heading"), [(360.0, 0.0), (0.0, 0.0), (359.5, 359.5), (361.0, None)]
)
def test_heading_is_below_360(written, heading):
    assert capture_of(exif_with({17: written})).heading == heading
    assert capture_of(exif_with({17: Ratio(5, 0)})).heading is None


@pytest.mark.parametrize(
    ("details", "moment"),
    [
        ({36867: "2024:05:17 08:09:10", 37521: "25"}, datetime(2024, 5, 17, 8, 9, 10, 250_000)),
        ({36867: "2024:05:17 08:09:10", 37521: "1234567"}, datetime(2024, 5, 17, 8, 9, 10, 123456)),
        ({36867: "2024:05:17 08:09:10", 37521: "x"}, datetime(2024, 5, 17, 8, 9, 10)),
        ({36867: "2024:05:17 08:09:10", 36881: "+02:00"}, datetime(2024, 5, 17, 6, 9, 10)),
        ({36867: "2024:05:17 20:09:10", 36881: "-05:30"}, datetime(2024, 5, 18, 1, 39, 10)),
        ({36867: "2024:05:17 08:09:10", 36881: "here"}, datetime(2024, 5, 17, 8, 9, 10)),
        ({36868: "2023:01:02 03:04:05"}, datetime(2023, 1, 2, 3, 4, 5)),
        ({36867: "2024-05-17 08:09:10"}, datetime(2024, 5, 17, 8, 9, 10)),
        ({36867: "0000:00:00 00:00:00"}, None),
        ({36867: "0001:01:01 00:00:00", 36881: "+02:00"}, None),
        ({36867: "    :  :     :  :  "}, None),
        ({36867: "yesterday"}, None),
        ({}, None),
    ],
)
def test_capture_time_is_utc_where_the_offset_is_known(details, moment):
    assert capture_of(exif_with(details=details)).captured_at == moment


def test_a_photo_without_exif_has_no_capture():
    assert decode(saved(picture(), "JPEG")).capture == Capture()


def test_the_description_of_mapillary_fills_what_exif_lacks():
    about = {
        "MAPLatitude": 55.7,
        "MAPLongitude": 13.2,
        "MAPCaptureTime": "2017_05_18_14_01_02_345",
        "MAPCompassHeading": {"TrueHeading": -90, "MagneticHeading": 1},
    }
    exif = exif_with({17: 12.0}, base={ExifTags.Base.ImageDescription: json.dumps(about)})
    moment = datetime(2017, 5, 18, 14, 1, 2, 345_000)
    assert capture_of(exif) == Capture(55.7, 13.2, moment, 12)
    exif = exif_with(base={ExifTags.Base.ImageDescription: json.dumps(about)})
    assert capture_of(exif).heading == 270


@pytest.mark.parametrize(
    "description",
    [
        "{",
        "{}",
        "a street",
        '{"MAPCaptureTime": "2017_13_45_99_00_00_000"}',
        '{"MAPCaptureTime": 5}',
        '{"MAPCompassHeading": [1]}',
        '{"MAPCompassHeading": {"TrueHeading": "north"}, "MAPLatitude": 91}',
        '{"a":' + "[" * 60_000,
    ],
)
def test_any_other_description_says_nothing(description):
    exif = exif_with(base={ExifTags.Base.ImageDescription: description})
    assert capture_of(exif) == Capture()


def test_a_real_photo_of_mapillary_has_position_time_and_heading(shared_data):
    data = (shared_data / "street_photos" / "lund" / "01.jpg").read_bytes()
    photo = decode(data, (96, 128))
    assert photo.capture.latitude == pytest.approx(55.7, abs=0.1)
    assert photo.capture.longitude == pytest.approx(13.2, abs=0.1)
    description = json.loads(Image.open(io.BytesIO(data)).getexif()[270])
    heading = description["MAPCompassHeading"]["TrueHeading"]
    assert photo.capture.heading == pytest.approx(heading % 360, abs=0.01)
    assert photo.capture.captured_at.year == int(description["MAPCaptureTime"][:4])
    assert decode_full(data, DEFAULT_MAX_PIXELS).size == (photo.width, photo.height)


@pytest.mark.filterwarnings("ignore")
def test_damage_anywhere_in_exif_never_costs_the_photo():
    exif = exif_with(
        {**NORTH_EAST, 17: 271.5},
        {36867: "2024:05:17 08:09:10", 37521: "25", 36881: "+02:00"},
        {ORIENTATION: 6, 270: '{"MAPLatitude": 1}', 271: "Maker"},
    ).tobytes()
    random = np.random.default_rng(5)
    for _ in range(400):
        damaged = bytearray(exif)
        for position in random.integers(6, len(exif), random.integers(1, 6)):
            damaged[position] = random.integers(0, 256)
        for format in ("JPEG", "PNG"):
            photo = decode(saved(picture(), format, exif=bytes(damaged)), (HEIGHT, WIDTH))
            assert {photo.width, photo.height} == {WIDTH, HEIGHT}


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"]
)
@pytest.mark.filterwarnings("ignore")
def test_an_exif_block_of_garbage_says_nothing(exif):
    photo = decode(saved(picture(), "JPEG", quality=95, exif=exif), (HEIGHT, WIDTH))
    assert photo.capture == Capture() and difference(photo.pixels, picture()) < 4


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_claims(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = png_chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + data + png_chunk(b"IEND", b"")


def icon_of(png: bytes) -> bytes:
    return struct.pack("<HHH", 0, 1, 1) + struct.pack(
        "<BBBBHHII", 16, 16, 0, 0, 1, 24, len(png), 22
    )


@pytest.mark.parametrize("read", [decode, partial(decode_full, max_pixels=DEFAULT_MAX_PIXELS)])
def test_a_decompression_bomb_is_refused_before_memory_is_taken(read):
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="60000 x 60000 pixels .* --max-pixels"):
            read(png_that_claims(60_000, 60_000))
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_a_bomb_inside_an_icon_is_refused():
    bomb = png_that_claims(60_000, 60_000)
    with pytest.raises(DecodeError, match="not an image"):
        decode(icon_of(bomb) + bomb)


def test_the_limit_of_pixels_is_the_last_size_allowed():
    data = saved(picture(), "PNG")
    assert decode(data, max_pixels=WIDTH * HEIGHT).width == WIDTH
    with pytest.raises(DecodeError, match="48 x 32"):
        decode(data, max_pixels=WIDTH * HEIGHT - 1)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000"])
@pytest.mark.filterwarnings("ignore")
def test_a_photo_cut_short_anywhere_is_a_decode_error(format):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = saved(Image.fromarray(noise), format)
    for share in (0.01, 0.1, 0.5, 0.9):
        for read in (decode, partial(decode_full, max_pixels=DEFAULT_MAX_PIXELS)):
            with pytest.raises(DecodeError):
                read(data[: int(len(data) * share)])


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_whose_scan_is_cut_is_a_decode_error(progressive):
    data = saved(textured(64, 64), "JPEG", progressive=progressive)
    for missing in range(len(END_OF_JPEG) + 1, 300):
        for read in (decode, partial(decode_full, max_pixels=DEFAULT_MAX_PIXELS)):
            with pytest.raises(DecodeError, match="truncated"):
                read(data[:-missing])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"empty file \(0 bytes\)"),
        (b"\0" * 500, "not an image"),
        (b"this is a text named .jpg", "not an image, .* 25 bytes that start with b'this is a te'"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "not an image"),
        (b"%PDF-1.4\n", "not an image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 200, "."),
        (png_that_claims(0, 5), "."),
    ],
)
def test_what_is_no_photo_is_a_decode_error(data, message):
    with pytest.raises(DecodeError, match=message):
        decode(data)


@pytest.mark.filterwarnings("ignore")
def test_damage_anywhere_in_a_file_is_never_more_than_a_decode_error():
    random = np.random.default_rng(6)
    for format in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"):
        data = saved(picture(), format)
        for _ in range(60):
            damaged = bytearray(data)
            for position in random.integers(0, len(data), 3):
                damaged[position] = random.integers(0, 256)
            try:
                photo = decode(bytes(damaged), max_pixels=1 << 22)
            except DecodeError:
                continue
            assert photo.pixels.shape == (32, 32, 3)


@pytest.mark.parametrize(
    "name", ["a.jpg", "A.JPEG", "b.Png", "c.tif", "c.TIFF", "d.webp", "e.bmp", "f.gif", "g.heic"]
)
def test_names_of_photos_are_known_in_any_case(name):
    assert is_image_name(name)


@pytest.mark.parametrize(
    "name", ["Thumbs.db", "a.txt", "a.jpg.xmp", "jpg", "a", "a.eps", "a.pdf", "a.ico", "a.json"]
)
def test_names_of_other_files_are_not(name):
    assert not is_image_name(name)


def test_no_format_that_runs_another_program_is_opened():
    assert not {"EPS", "WMF", "PDF", "MPEG"} & set(FORMATS)
    assert {"JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"} <= set(FORMATS)
