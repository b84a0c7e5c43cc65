"""EXIF: position, time and heading of a photo, from its EXIF tags."""

import json
from datetime import datetime
from typing import Any

from PIL import ExifTags, Image

from transforms.flow.captures import parse_heading, parse_number, parse_time
from transforms.flow.records import Capture


def read_capture(exif: Image.Exif) -> Capture:
    """Position, time and heading from EXIF 2.32 tags, else from Mapillary's JSON description.

    Values that are damaged or out of range are unknown.
    """
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    details = exif.get_ifd(ExifTags.IFD.Exif)
    mapillary = _mapillary(exif.get(ExifTags.Base.ImageDescription))
    from_tags = Capture(
        _degrees(gps, ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, 90),
        _degrees(gps, ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, 180),
        _exif_time(details),
        parse_heading(gps.get(ExifTags.GPS.GPSImgDirection)),
    )
    return from_tags.filled_from(mapillary)


def _degrees(gps: dict[int, Any], tag: int, ref_tag: int, limit: int) -> float | None:
    try:
        parts = [float(part) for part in gps[tag]]
        value = sum(part / 60**power for power, part in enumerate(parts))
        ref = _text(gps.get(ref_tag)).upper()
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return parse_number(-value if ref in ("S", "W") else value, -limit, limit)


def _text(value: Any) -> str:
    """An EXIF text without padding; some cameras write it as bytes."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return value.strip("\0 ") if isinstance(value, str) else ""


def _exif_time(details: dict[int, Any]) -> datetime | None:
    written = _text(details.get(ExifTags.Base.DateTimeOriginal)) or _text(
        details.get(ExifTags.Base.DateTimeDigitized)
    )
    day, _, time = written.partition(" ")
    fraction = _text(details.get(ExifTags.Base.SubsecTimeOriginal))
    offset = _text(details.get(ExifTags.Base.OffsetTimeOriginal))
    moment = f"{day.replace(':', '-')}T{time}"
    with_fraction = f"{moment}.{fraction:0<6.6}" if fraction.isdigit() else moment
    return parse_time(with_fraction + offset) or parse_time(moment)


def _mapillary(description: Any) -> Capture:
    if not isinstance(description, str) or not description.startswith("{"):
        return Capture()
    try:
        values = json.loads(description)
        compass = values.get("MAPCompassHeading", {}).get("TrueHeading")
        parts = [int(part) for part in values.get("MAPCaptureTime", "").split("_") if part]
    except (ValueError, AttributeError, RecursionError):
        return Capture()
    captured_at = None
    if len(parts) == 7:
        try:
            year, month, day, hour, minute, second, millisecond = parts
            captured_at = datetime(year, month, day, hour, minute, second, millisecond * 1000)
        except ValueError:
            captured_at = None
    return Capture(
        parse_number(values.get("MAPLatitude"), -90, 90),
        parse_number(values.get("MAPLongitude"), -180, 180),
        captured_at,
        parse_heading(compass),
    )
