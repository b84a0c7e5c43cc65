"""EXIF, XMP and Mapillary's description: what each says of a photo, and which counts first."""

import io
import json
import struct
from datetime import datetime
from typing import Any

import pytest
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

from transforms.flow.records import Capture
from transforms.photos.decoding import capture_of

Ratio = TiffImagePlugin.IFDRational
PLACE = {1: "S", 2: (33.0, 51.0, 28.8), 3: "W", 4: (70.0, 40.0, 12.0)}
SANTIAGO = pytest.approx((-33.858, -70.67), abs=1e-6)
ORIGINAL, DIGITIZED, CHANGED = 36867, 36868, 306
MARCH = datetime(2021, 3, 4, 10, 20, 30)
GPS_TIME = {7: (10.0, 20.0, 30.25), 29: "2021:03:04"}


def photo(gps=None, details=None, base=None, xmp: bytes = b"", format="JPEG") -> bytes:
    exif = Image.Exif()
    exif.update(base or {ExifTags.Base.Make: "a camera"})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps or {})
    exif.get_ifd(ExifTags.IFD.Exif).update(details or {})
    options: dict[str, Any] = {"exif": exif}
    if xmp and format == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    elif xmp:
        options["xmp"] = xmp
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, format, **options)
    return file.getvalue()


def capture(gps=None, details=None, base=None, xmp: bytes = b"", format="JPEG") -> Capture:
    return capture_of(photo(gps, details, base, xmp, format))


def packet(form: str = "attributes", inside: str = "", **properties: str) -> bytes:
    """An XMP packet; `exif_Name` is the property of that name in the namespace `exif`."""
    names = {name.replace("_", ":", 1): value for name, value in properties.items()}
    attributes = elements = ""
    if form == "attributes":
        attributes = " ".join(f'{name}="{value}"' for name, value in names.items())
    else:
        elements = "".join(f"<{name}>{value}</{name}>" for name, value in names.items())
    return f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
        xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
        xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
        xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" {attributes}>{elements}{inside}
        </rdf:Description></rdf:RDF></x:xmpmeta>""".encode()


def described(**values: Any) -> dict[int, str]:
    return {ExifTags.Base.ImageDescription: json.dumps(values)}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {1: "South", 3: "West"},
        {1: b"s\0", 3: "w."},
        {2: (33.0, 51.48, Ratio(0, 0)), 4: (70.0, 40.2, Ratio(0, 0))},
        {9: "A", 18: "WGS-84"},
        {18: "JGD2011"},
        {18: b"WGS 84\0\0"},
    ],
)
def test_one_place_in_several_spellings(changes):
    assert capture({**PLACE, **changes}).position == SANTIAGO


def test_signed_values_have_the_sign_of_their_reference():
    data = photo(PLACE)
    for tag, written in ((2, (33, 1, 51, 1, 144, 5)), (4, (70, 1, 40, 1, 12, 1))):
        unsigned, signed = (struct.pack(">HHI", tag, kind, 3) for kind in (5, 10))
        minus = (-value if place % 2 == 0 else value for place, value in enumerate(written))
        values = struct.pack(">6I", *written), struct.pack(">6i", *minus)
        assert data.count(unsigned) == data.count(values[0]) == 1
        data = data.replace(unsigned, signed).replace(*values)
    assert capture_of(data).position == SANTIAGO


@pytest.mark.parametrize(
    "changes",
    [
        {1: "X"},
        {1: ""},
        {3: "N"},
        {9: "V"},
        {18: "TOKYO"},
        {18: "GCJ-02"},
        {2: (Ratio(0, 0), 51.0, 28.8)},
        {2: (33.0, 51.0)},
        {2: 33.858},
        {2: (33.0, 75.0, 0.0)},
        {2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)},
    ],
)
def test_a_position_that_may_be_wrong_is_unknown_and_costs_nothing_else(changes):
    found = capture({**PLACE, **changes, 17: 10.0}, {ORIGINAL: "2021:03:04 10:20:30"})
    assert found == Capture(None, None, MARCH, 10)


def test_a_latitude_alone_is_no_position():
    assert capture({1: "S", 2: PLACE[2]}) == Capture()


@pytest.mark.parametrize(
    ("gps", "details", "moment"),
    [
        ({}, {ORIGINAL: "2021:03:04 10:20:30", 37521: "5", 37522: "9"}, "10:20:30.5"),
        ({}, {ORIGINAL: "2021:03:04 10:20:30", 37522: "9"}, "10:20:30"),
        ({}, {DIGITIZED: "2021:03:04 10:20:30", 37521: "5", 37522: "25 "}, "10:20:30.25"),
        ({}, {ORIGINAL: "2021:03:04 12:20:30", 36881: "+02:00", 36882: "+05:00"}, "10:20:30"),
        ({}, {ORIGINAL: "2021:03:04 10:20:30", 36880: "+02:00", 36882: "+05:00"}, "10:20:30"),
        ({}, {DIGITIZED: "2021:03:04 15:20:30", 36881: "+02:00", 36882: "+05:00"}, "10:20:30"),
        ({}, {ORIGINAL: "2021:03:04 10:20:30", 36881: "   :  "}, "10:20:30"),
        ({}, {ORIGINAL: "2021:03:04 10:20:30", 36881: "+99:00"}, "10:20:30"),
        ({}, {ORIGINAL: "2021:03:04 12:20:30+02:00", 36881: "+02:00"}, "10:20:30"),
        ({}, {ORIGINAL: "2021-03-04T10:20:30.5", 37521: "5"}, "10:20:30.5"),
        ({}, {ORIGINAL: "    :  :     :  :  ", DIGITIZED: "2021:03:04 10:20:30"}, "10:20:30"),
        ({}, {ORIGINAL: "9999:99:99 99:99:99", DIGITIZED: "2021:03:04 10:20:30"}, "10:20:30"),
        (GPS_TIME, {ORIGINAL: "2021:03:04 12:20:30"}, "12:20:30"),
        (GPS_TIME, {ORIGINAL: "0000:00:00 00:00:00"}, "10:20:30.25"),
        ({**GPS_TIME, 29: "2021-03-04"}, {}, "10:20:30.25"),
    ],
)
def test_each_time_has_its_own_fraction_and_offset(gps, details, moment):
    assert capture(gps, details).captured_at == datetime.fromisoformat(
        f"2021-03-04T{moment:0<15}" if "." in moment else f"2021-03-04T{moment}"
    )


@pytest.mark.parametrize(
    ("gps", "details"),
    [
        ({}, {ORIGINAL: "2021:03:04 10:20:  "}),
        ({}, {ORIGINAL: "1970:01:01 00:00:00"}),
        ({}, {ORIGINAL: "12021:03:04 10:20:30"}),
        ({29: "2021:03:04"}, {}),
        ({7: (10.0, 20.0, 30.0)}, {}),
        ({**GPS_TIME, 7: (10.0, 75.0, 30.0)}, {}),
        ({**GPS_TIME, 7: (10.5, 20.0, 30.0)}, {}),
        ({**GPS_TIME, 7: (Ratio(0, 0), 20.0, 30.0)}, {}),
    ],
)
def test_times_that_may_be_wrong_are_unknown(gps, details):
    assert capture(gps, details).captured_at is None


def test_the_time_of_the_last_change_is_no_capture_time():
    assert capture(base={CHANGED: "2021:03:04 10:20:30"}).captured_at is None


@pytest.mark.parametrize("reference", ["T", "M"])
def test_magnetic_headings_are_taken_as_they_are(reference):
    assert capture({16: reference, 17: 271.5}).heading == 271.5


@pytest.mark.parametrize("form", ["attributes", "elements"])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_photo_with_xmp_alone_has_position_time_and_heading(form, format):
    xmp = packet(
        form,
        exif_GPSLatitude="33,51.48S",
        exif_GPSLongitude="70,40,12W",
        exif_DateTimeOriginal="2021-03-04T12:20:30+02:00",
        exif_GPSImgDirection="543/2",
    )
    found = capture(xmp=xmp, format=format)
    assert found.position == SANTIAGO
    assert (found.captured_at, found.heading) == (MARCH, 271.5)


@pytest.mark.parametrize(
    ("properties", "position"),
    [
        ({"exif_GPSLatitude": "-33.858", "exif_GPSLongitude": "-70.67"}, SANTIAGO),
        ({"exif_GPSLatitude": "33.858S", "exif_GPSLongitude": "70.67W"}, SANTIAGO),
        ({"exif_GPSLatitude": "33,51.48S"}, None),
        ({"exif_GPSLatitude": "33,51.48", "exif_GPSLongitude": "70,40.2"}, None),
        ({"exif_GPSLatitude": "33,71.48S", "exif_GPSLongitude": "70,40.2W"}, None),
        ({"exif_GPSLatitude": "0,0.0N", "exif_GPSLongitude": "0,0.0E"}, None),
        (
            {
                "exif_GPSLatitude": "33,51.48S",
                "exif_GPSLongitude": "70,40.2W",
                "exif_GPSStatus": "V",
            },
            None,
        ),
    ],
)
def test_positions_of_xmp(properties, position):
    assert capture(xmp=packet(**properties)).position == position


@pytest.mark.parametrize("name", ["photoshop_DateCreated", "xmp_CreateDate", "exif_GPSTimeStamp"])
@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2021-03-04T10:20:30", MARCH),
        ("2021-03-04T10:20Z", MARCH.replace(second=0)),
        ("2021", None),
    ],
)
def test_times_of_xmp(name, written, moment):
    assert capture(xmp=packet(**{name: written})).captured_at == moment


def test_exif_counts_before_xmp_and_xmp_before_the_description():
    xmp = packet(exif_GPSLatitude="10.5", exif_GPSLongitude="20.5", xmp_CreateDate="2022-01-02")
    about = described(
        MAPLatitude=1.5, MAPLongitude=2.5, MAPCaptureTime="2020_01_02_03_04_05_600",
        MAPCompassHeading={"TrueHeading": 30},
    )  # fmt: skip
    found = capture(PLACE, {}, about, xmp)
    assert (found.position, found.captured_at) == (SANTIAGO, datetime(2022, 1, 2))
    assert found.heading == 30
    assert capture({}, {}, about, xmp).position == (10.5, 20.5)
    assert capture({}, {}, about).position == (1.5, 2.5)


@pytest.mark.parametrize(
    "xmp",
    [
        b"<",
        packet(exif_GPSLatitude="10.5", exif_GPSLongitude="20.5")[:-9],
        b'<?xml version="1.0" encoding="klingon"?>'
        + packet(exif_GPSLatitude="10.5", exif_GPSLongitude="20.5"),
        b'<!DOCTYPE x [<!ENTITY a "10.5">]>'
        + packet(exif_GPSLatitude="&a;", exif_GPSLongitude="20.5"),
        packet(
            inside="<exif:From><rdf:Description exif:GPSLatitude='1' exif:GPSLongitude='2'/>"
            "</exif:From>"
        ),
    ],
    ids=["no XML", "cut", "encoding", "entity", "another photo's"],
)
def test_other_packets_say_nothing(xmp):
    assert capture(xmp=xmp) == Capture()


@pytest.mark.parametrize(
    ("about", "found"),
    [
        ({"MAPLatitude": "49,75", "MAPLongitude": "6.64"}, Capture(49.75, 6.64)),
        ({"MAPLatitude": 170.5, "MAPLongitude": 6.64}, Capture()),
        ({"MAPLatitude": float("nan"), "MAPLongitude": 6.64}, Capture()),
        ({"MAPLatitude": 1e30, "MAPLongitude": True}, Capture()),
        ({"MAPLatitude": 49.75}, Capture()),
        ({"MAPLatitude": 0, "MAPLongitude": 0.0}, Capture()),
        ({"MAPCaptureTime": "2021_3_4_10_20_30_0"}, Capture(captured_at=MARCH)),
        ({"MAPCaptureTime": "99999999999999999999_03_04_10_20_30_000"}, Capture()),
        ({"MAPCaptureTime": "2021_03_04_10_20_30_99999999999999999999"}, Capture()),
        ({"MAPCaptureTime": "-2021_03_04_10_20_30_000"}, Capture()),
        ({"MAPCaptureTime": "9999_12_31_23_59_59_999"}, Capture()),
        ({"MAPCaptureTime": [2021]}, Capture()),
        ({"MAPCompassHeading": {"TrueHeading": "-90"}}, Capture(heading=270)),
        ({"MAPCompassHeading": {"TrueHeading": 1e30}, "MAPLatitude": 1}, Capture()),
        (
            {"MAPCompassHeading": [1], "MAPLatitude": 49.75, "MAPLongitude": 6.64},
            Capture(49.75, 6.64),
        ),
    ],
)
def test_each_value_of_a_description_counts_alone(about, found):
    assert capture(base=described(**about)) == found
