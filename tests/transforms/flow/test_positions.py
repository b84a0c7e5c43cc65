"""Positions and headings: each spelling has one meaning or none."""

from decimal import Decimal

import pytest
from PIL.TiffImagePlugin import IFDRational as Ratio

from transforms.flow.positions import parse_heading, parse_position

EAST = "6.64"


@pytest.mark.parametrize(
    ("latitude", "degrees"),
    [
        (-33.858, -33.858),
        (Decimal("-33.858"), -33.858),
        ("-33.858", -33.858),
        ("\N{MINUS SIGN}33,858", -33.858),
        (" -33.858° ", -33.858),
        ("33.858 S", -33.858),
        ("S33.858", -33.858),
        ("-33.858 S", -33.858),
        ("33.858 s.", -33.858),
        ("South 33.858", -33.858),
        (b"33.858 S\0", -33.858),
        ("33,51.48S", -33.858),
        ("33,51,28.8S", -33.858),
        ("33°51'28.8\"S", -33.858),
        ("33° 51' 28,8'' S", -33.858),
        ("33º51′28.8″S", -33.858),
        ("S 33° 51.48'", -33.858),
        ("33 51 28.8 S", -33.858),
        ("-33 51 28.8", -33.858),
        ("33:51:28.8 S", -33.858),
        ("33 deg 51' 28.80\" S", -33.858),
        ("33°51'60\"N", 33 + 52 / 60),
        ("48°51'24\"N", 48 + 51 / 60 + 24 / 3600),
        ("49,75", 49.75),
        ("4.975e1", 49.75),
        (0, 0),
        (90, 90),
    ],
)
def test_latitudes_in_all_their_forms_are_read(latitude, degrees):
    assert parse_position(latitude, EAST) == pytest.approx((degrees, 6.64), abs=1e-9)


@pytest.mark.parametrize(
    "latitude",
    [
        90.01,
        "91",
        "70.67W",
        "33.858 N S",
        "-33.858 N",
        "33.858 X",
        "33.858 N/A",
        "33,51S",  # A decimal comma, or XMP without the fraction of its minutes.
        "48 51",
        "48.85 6.64",
        "48.85, 6.64",
        "48°61'N",
        "48°51'61\"N",
        "48.5°30'N",
        "48°51.5'30\"N",
        "48°51'24\"30N",
        "48d51m24s",
        "49.750.000",
        "1 234,5",
        "4_8",
        "٤٨",
        "nan",
        "inf",
        "1e30",
        "",
        "north",
        "9" * 5000,
        float("nan"),
        float("inf"),
        10**400,
        True,
        None,
        [48, 51, 24],
        {"lat": 48},
    ],
)
def test_what_may_be_wrong_is_no_position(latitude):
    assert parse_position(latitude, EAST) is None


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [
        (0, 0),
        ("0", "-0.0"),
        ("0.000 N", "0.000 E"),
        (49.75, None),
        (None, 6.64),
        (6.64, 181),
        ("6.64", "49.75 N"),
    ],
)
def test_null_island_and_half_a_position_are_no_position(latitude, longitude):
    assert parse_position(latitude, longitude) is None


@pytest.mark.parametrize(
    "parts",
    [
        (33, 51, Ratio(288, 10)),
        (33, 51.48, Ratio(0, 0)),
        (33.858, Ratio(0, 0), Ratio(0, 0)),
        (-33, -51, -28.8),
        (-33, 51, 28.8),
    ],
)
@pytest.mark.parametrize("reference", ["S", "s", " S ", "South", "S.", "SUD", b"S\0"])
def test_the_reference_gives_the_sign_and_the_parts_the_size(parts, reference):
    found = parse_position(parts, (70, 40, 12), reference, "W")
    assert found == pytest.approx((-33.858, -70.67))


@pytest.mark.parametrize("reference", ["", None, "E", "X", "None", "N/A", "NS", b"\0", 5, "\x1b"])
def test_without_a_reference_of_the_axis_degrees_are_unknown(reference):
    assert parse_position((33, 51, 28.8), (70, 40, 12), reference, "W") is None


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (33,),
        (33, 51),
        (33, 51, 28, 8),
        (Ratio(0, 0), 51, 28),
        (33, Ratio(5, 0), 0),
        (33, 61, 0),
        (33, 51, 5994),
        (33, -51, 0),
        (33.5, 30, 0),
        (33, 51.5, 30),
        (91, 0, 0),
        (90, 0, 1),
        (33, "x", 0),
        (33, None, 0),
        (float("nan"), 0, 0),
        (10**400, 0, 0),
    ],
)
def test_parts_that_may_be_wrong_are_no_position(parts):
    assert parse_position(parts, (70, 40, 12), "S", "W") is None


def test_a_sign_against_the_reference_is_unknown():
    assert parse_position((-33, -51, -28.8), (70, 40, 12), "N", "W") is None


@pytest.mark.parametrize(
    ("value", "heading"),
    [
        (271.5, 271.5),
        (-90, 270),
        (0, 0),
        (360, 0),
        (-360, 0),
        (-1e-20, 0),
        ("271.5", 271.5),
        ("271,5°", 271.5),
        (Ratio(543, 2), 271.5),
        (361, None),
        ("NE", None),
        ("", None),
        (Ratio(5, 0), None),
        (float("nan"), None),
        (1e30, None),
        (True, None),
        (None, None),
    ],
)
def test_headings_are_from_0_to_less_than_360(value, heading):
    assert parse_heading(value) == heading
