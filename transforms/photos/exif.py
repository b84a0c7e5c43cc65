"""EXIF and XMP: position, time and heading of a photo, from the metadata in its file."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from PIL import ExifTags, Image

from transforms.flow.positions import parse_heading, parse_position
from transforms.flow.records import Capture
from transforms.flow.times import parse_time
from transforms.flow.values import parse_number, text_of
from transforms.photos.xmp import EXIF, PHOTOSHOP, XMP, properties

VOID = "V"
"""GPS status of a receiver without a fix: the position is an old one or garbage."""

DATUMS = (
    "", "WGS84", "WGS1984", "EPSG4326", "NAD83", "ETRS89", "GDA94", "GDA2020", "JGD2000", "JGD2011",
)  # fmt: skip
"""Geodetic data that differ from WGS 84 by less than a few metres; others do by hundreds."""

_TIMES = (
    (
        ExifTags.Base.DateTimeOriginal,
        ExifTags.Base.SubsecTimeOriginal,
        ExifTags.Base.OffsetTimeOriginal,
    ),
    (
        ExifTags.Base.DateTimeDigitized,
        ExifTags.Base.SubsecTimeDigitized,
        ExifTags.Base.OffsetTimeDigitized,
    ),
)
"""Each time with its own fraction of a second and offset. `DateTime` is that of the last change."""

_XMP_TIMES = (
    f"{EXIF}DateTimeOriginal", f"{PHOTOSHOP}DateCreated", f"{XMP}CreateDate", f"{EXIF}GPSTimeStamp"
)  # fmt: skip
_MAPILLARY_TIME = re.compile(
    r"([0-9]{4})_([0-9]{1,2})_([0-9]{1,2})_([0-9]{1,2})_([0-9]{1,2})_([0-9]{1,2})_([0-9]{1,3})"
)


def read_capture(exif: Image.Exif, xmp: Any = b"") -> Capture:
    """Position, time and heading from EXIF 2.32 tags, else XMP, else Mapillary's JSON description.

    Values that are damaged, impossible or doubtful are unknown. A magnetic heading is taken as it
    is: the compass of a phone is wrong by more than the declination.

    Args:
        exif: the EXIF tags.
        xmp: the XMP packet as bytes; anything else is none.
    """
    capture = _from_tags(_block(exif, ExifTags.IFD.GPSInfo), _block(exif, ExifTags.IFD.Exif))
    if None in (capture.position, capture.captured_at, capture.heading):
        capture = capture.filled_from(_from_xmp(xmp))
        capture = capture.filled_from(_from_mapillary(exif.get(ExifTags.Base.ImageDescription)))
    return capture


def _block(exif: Image.Exif, block: ExifTags.IFD) -> Mapping[int, Any]:
    try:
        return exif.get_ifd(block)
    except Exception:  # Pillow raises many types on a damaged block; it costs this block only.
        return {}


def _from_tags(gps: Mapping[int, Any], details: Mapping[int, Any]) -> Capture:
    position = None
    if _is_reliable(gps.get(ExifTags.GPS.GPSStatus), gps.get(ExifTags.GPS.GPSMapDatum)):
        position = parse_position(
            _parts(gps.get(ExifTags.GPS.GPSLatitude)),
            _parts(gps.get(ExifTags.GPS.GPSLongitude)),
            gps.get(ExifTags.GPS.GPSLatitudeRef, ""),
            gps.get(ExifTags.GPS.GPSLongitudeRef, ""),
        )
    times = (_exif_time(*(text_of(details.get(tag)) for tag in tags)) for tags in _TIMES)
    return Capture.at(
        position,
        next(filter(None, times), None) or _gps_time(gps),
        parse_heading(gps.get(ExifTags.GPS.GPSImgDirection)),
    )


def _is_reliable(status: Any, datum: Any) -> bool:
    """Whether the receiver had a fix, on a datum like that of `Capture`."""
    name = re.sub(r"[\W_]", "", text_of(datum).upper())
    return text_of(status).upper() != VOID and name in DATUMS


def _parts(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _exif_time(text: str, fraction: str, offset: str) -> datetime | None:
    """A time with what else EXIF says of it, as far as that is understood."""
    exact = f"{text}.{fraction}" if fraction.isdigit() else text
    written = (exact + offset, exact, text + offset, text)
    return next(filter(None, map(parse_time, written)), None)


def _gps_time(gps: Mapping[int, Any]) -> datetime | None:
    """The time of the receiver, UTC."""
    day = text_of(gps.get(ExifTags.GPS.GPSDateStamp))
    parts = _parts(gps.get(ExifTags.GPS.GPSTimeStamp))
    clock = [parse_number(part, 0, 59.999_999) for part in parts]
    match clock:
        case [float(hour), float(minute), float(second)] if hour % 1 == minute % 1 == 0:
            return parse_time(f"{day} {hour:02.0f}:{minute:02.0f}:{second:09.6f}Z")
    return None


def _from_xmp(packet: Any) -> Capture:
    tags = properties(packet, EXIF, PHOTOSHOP, XMP)
    position = None
    if _is_reliable(tags.get(f"{EXIF}GPSStatus"), tags.get(f"{EXIF}GPSMapDatum")):
        position = parse_position(tags.get(f"{EXIF}GPSLatitude"), tags.get(f"{EXIF}GPSLongitude"))
    times = (parse_time(tags.get(name)) for name in _XMP_TIMES)
    heading = parse_heading(_ratio(tags.get(f"{EXIF}GPSImgDirection", "")))
    return Capture.at(position, next(filter(None, times), None), heading)


def _ratio(text: str) -> float | None:
    """A number, which XMP writes as a fraction."""
    above, _, below = text.partition("/")
    numerator, denominator = parse_number(above, -1e12, 1e12), parse_number(below or 1, 1, 1e12)
    return None if numerator is None or denominator is None else numerator / denominator


def _from_mapillary(description: Any) -> Capture:
    values = _json_object(description)
    compass = values.get("MAPCompassHeading")
    headings = compass if isinstance(compass, dict) else {}
    captured_at = None
    if found := _MAPILLARY_TIME.fullmatch(text_of(values.get("MAPCaptureTime"))):
        year, month, day, hour, minute, second, fraction = map(int, found.groups())
        captured_at = parse_time(
            f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{fraction:03}"
        )
    return Capture.at(
        parse_position(values.get("MAPLatitude"), values.get("MAPLongitude")),
        captured_at,
        parse_heading(headings.get("TrueHeading")),
    )


def _json_object(text: Any) -> dict[str, Any]:
    """The object that a JSON text holds; empty if it holds anything else."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if not isinstance(text, str) or not text.lstrip().startswith("{"):
        return {}
    try:
        return json.loads(text.strip("\0 "))
    except (ValueError, RecursionError):
        return {}
