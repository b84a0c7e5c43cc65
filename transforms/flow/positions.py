"""Positions: parses latitudes, longitudes and headings in all their spellings.

A position that may be wrong is unknown. So is latitude 0, longitude 0, which devices write where
they have no position.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transforms.flow.values import parse_number, text_of


@dataclass(frozen=True)
class _Axis:
    """One of the two coordinates.

    Attributes:
        limit: its largest size in degrees.
        positive, negative: the words for its two directions.
    """

    limit: int
    positive: tuple[str, ...]
    negative: tuple[str, ...]


_LATITUDE = _Axis(
    90, ("N", "NORTH", "NORD", "NORTE", "NORTHERN"), ("S", "SOUTH", "SUD", "SÜD", "SUR", "SOUTHERN")
)
_LONGITUDE = _Axis(180, ("E", "EAST", "EST", "ESTE", "EASTERN"), ("W", "WEST", "OUEST", "WESTERN"))

_MOST_MINUTES = 60
"""Minutes of a degree, and seconds of a minute; 60 itself comes from rounding."""

_WORD = r"[^\W\d_]+"
_SMALL = r"[0-9]{1,2}(?:[.,][0-9]+)?"
_TEXT = re.compile(
    rf"""
    (?P<before>{_WORD})? [.\s]* (?P<sign>[-+])? \s*
    (?:
        (?P<decimal>[0-9]{{1,3}}(?:[.,][0-9]*)?(?:E[-+]?[0-9]{{1,2}})?) \s*°?
      | (?P<degrees>[0-9]{{1,3}}) (?: \s*[°:]\s* | \s+ )
        (?P<minutes>{_SMALL}) (?: \s*[':]\s* | \s+ | $ | (?={_WORD}) )
        (?: (?P<seconds>{_SMALL}) \s*"? )?
      | (?P<xmp>[0-9]{{1,3}},[0-9]{{1,2}}(?:\.[0-9]+|,[0-9]{{1,2}}(?:\.[0-9]+)?)) (?={_WORD})
    )
    \s* (?P<after>{_WORD})? [.\s]*
    """,
    re.VERBOSE,
)
"""A coordinate in upper case; `xmp` is the form of Adobe's XMP, such as `33,51.48S`."""

_SYMBOLS = str.maketrans(
    dict.fromkeys("º˚", "°") | dict.fromkeys("′’‘´`", "'") | dict.fromkeys("″”“", '"')
)
_DEGREES_WORD = re.compile(r"(?<![^\W\d_])DEG(?:REES?)?\.?(?![^\W\d_])")
_AMBIGUOUS = re.compile(r"[0-9]+,[0-9]{1,2}")
"""With a reference: a decimal comma, or XMP's degrees and whole minutes."""


def parse_position(
    latitude: Any, longitude: Any, latitude_ref: Any = None, longitude_ref: Any = None
) -> tuple[float, float] | None:
    """Latitude and longitude in degrees, north and east positive; None if either is unknown.

    A value is a number, text such as `-33.86`, `33,86`, `33°51'24"S` or `33,51.4S`, or a sequence
    of degrees, minutes and seconds as in EXIF 2.32, which needs a reference.

    Args:
        latitude, longitude: the values.
        latitude_ref, longitude_ref: `N` or `S`, `E` or `W`, or words for them; None: none is given.
            A reference gives the sign and the value its size.
    """
    north = _coordinate(latitude, latitude_ref, _LATITUDE)
    east = _coordinate(longitude, longitude_ref, _LONGITUDE)
    if north is None or east is None or north == east == 0:
        return None
    return north, east


def parse_heading(value: Any) -> float | None:
    """The value as degrees, 0 <= heading < 360; None if it is not from -360 to 360."""
    text = text_of(value).translate(_SYMBOLS)
    number = parse_number(text.removesuffix("°").rstrip() if text else value, -360, 360)
    if number is None:
        return None
    heading = number % 360
    return 0.0 if heading == 360 else heading  # As -1e-20 % 360 is.


def _coordinate(value: Any, reference: Any, axis: _Axis) -> float | None:
    references = [] if reference is None else [text_of(reference)]
    negative = False
    size: float | None
    if isinstance(value, (list, tuple)):
        size, negative = _size_of_rationals(value)
        references = references or [""]
    elif (text := text_of(value)) and parse_number(text, -axis.limit, axis.limit) is None:
        text = _DEGREES_WORD.sub("°", text.upper().translate(_SYMBOLS)).replace("''", '"')
        found = _TEXT.fullmatch(text)
        if not found:
            return None
        words = [word for word in (found["before"], found["after"]) if word]
        if not _is_unmistakable(found, bool(words)):
            return None
        references += words
        size, negative = _size_of_text(found), found["sign"] == "-"
    else:
        size = parse_number(text or value, -axis.limit, axis.limit)
        negative = size is not None and size < 0
        size = size if size is None else abs(size)
    if size is None or size > axis.limit:
        return None
    signs = {_sign(word, axis) for word in references}
    if not signs:
        return -size if negative else size
    if signs == {-1}:
        return -size
    return size if signs == {1} and not negative else None


def _sign(reference: str, axis: _Axis) -> int:
    """1 or -1 for the direction that a reference names, 0 if it names none of the axis."""
    word = reference.upper().strip(" .\0")
    return (word in axis.positive) - (word in axis.negative)


def _is_unmistakable(found: re.Match[str], has_reference: bool) -> bool:
    """Whether a text has one meaning; `48 51` may be two numbers, `33,51S` has two readings."""
    if found["decimal"]:
        return not (has_reference and _AMBIGUOUS.fullmatch(found["decimal"]))
    spaced = found["degrees"] and not found["seconds"] and not re.search("[°:]", found[0])
    return has_reference or not spaced


def _size_of_text(found: re.Match[str]) -> float | None:
    if found["decimal"]:
        return parse_number(found["decimal"], 0, 180)
    if found["xmp"]:
        return _size(found["xmp"].split(","))
    return _size([found["degrees"], found["minutes"], found["seconds"] or "0"])


def _size_of_rationals(parts: Sequence[Any]) -> tuple[float | None, bool]:
    """The size of the degrees, minutes and seconds of EXIF, and whether they are negative.

    Behind the degrees, 0/0 counts as 0.
    """
    if len(parts) != 3:
        return None, False
    values = []
    for place, part in enumerate(parts):
        value = parse_number(0 if place and _is_nothing(part) else part, -180, 180)
        if value is None:
            return None, False
        values.append(value)
    negative = next((value for value in values if value), 0) < 0
    # All parts have the sign, or the degrees alone.
    return _size([abs(value) for value in values] if negative else values), negative


def _is_nothing(part: Any) -> bool:
    return getattr(part, "numerator", 1) == getattr(part, "denominator", 1) == 0


def _size(parts: Sequence[Any]) -> float | None:
    """Degrees from degrees, minutes and seconds, none of them negative.

    A part with a fraction must be the last one that is not 0.
    """
    values = [
        parse_number(part, 0, 180 if not place else _MOST_MINUTES)
        for place, part in enumerate(parts)
    ]
    total, fraction = 0.0, False
    for place, value in enumerate(values):
        if value is None or (fraction and value):
            return None
        fraction = fraction or value % 1 != 0
        total += value / 60**place
    return total
