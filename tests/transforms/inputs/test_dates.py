from datetime import date, datetime

import pytest
from PIL import ExifTags, Image

from transforms.flow.records import UNKNOWN_CAPTURE, Capture, ImageRef
from transforms.inputs.dates import CAPTURE, DateRange, arrival_date, capture_date

DAY = date(2021, 3, 4)


def ref_to(path, version="", capture=UNKNOWN_CAPTURE) -> ImageRef:
    return ImageRef("a.jpg", str(path), str(path), version, "", capture=capture)


def photo(path, taken=b"2021:03:04 10:20:30") -> ImageRef:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken.decode("latin-1")
    Image.new("L", (8, 8)).save(path, "JPEG", exif=exif)
    return ref_to(path)


def test_a_photo_above_every_limit_of_pixels_tells_its_day(tmp_path):
    ref = photo(tmp_path / "a.jpg")
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = b"\xff\xff\xff\xff"  # 65,535 x 65,535 pixels
    (tmp_path / "a.jpg").write_bytes(data)
    assert capture_date(ref) == DAY
    assert capture_date(ref) in DateRange(DAY, DAY, CAPTURE)


@pytest.mark.parametrize(
    "taken",
    [
        b"0000:00:00 00:00:00",
        b"9999:99:99 99:99:99",
        b"99999:01:01 00:00:00",
        b"-021:03:04 10:20:30",
        b"0001:01:01 00:00:00",
        b"2021:02:30 00:00:00",
        b"\xff\xff",
    ],
)
def test_an_absurd_day_is_unknown(tmp_path, taken):
    ref = photo(tmp_path / "a.jpg", taken=taken)
    assert capture_date(ref) is None
    assert capture_date(ref) not in DateRange(None, DAY, CAPTURE)


def test_a_file_that_is_no_photo_has_no_day(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    assert capture_date(ref_to(tmp_path / "a.jpg")) is None


def test_the_day_in_the_metadata_counts_without_reading_the_photo():
    capture = Capture(captured_at=datetime(2021, 3, 4, 10))
    assert capture_date(ref_to("/nowhere/a.jpg", capture=capture)) == DAY


@pytest.mark.parametrize("seconds", [10**12, 10**15, -(10**12)])
def test_a_change_in_a_year_beyond_the_calendar_is_on_no_day(seconds):
    assert arrival_date(ref_to("/a.jpg", f"8-{seconds * 10**9}")) is None
    assert arrival_date(ref_to("/a.jpg", "8-1614853230000000000")) == DAY
