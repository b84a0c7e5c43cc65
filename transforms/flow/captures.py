"""Captures: times, numbers and headings of a photo as metadata spells them."""

from datetime import date, datetime, timezone
from typing import Any


def parse_time(value: Any) -> datetime | None:
    """A time without zone: ISO 8601 text, a date, or Unix seconds or milliseconds.

    Times with an offset and Unix times become UTC; the others stay as they are. What is none of
    these is None.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
        except ValueError:
            return None
    if isinstance(value, datetime):
        try:
            return value.astimezone(timezone.utc).replace(tzinfo=None) if value.tzinfo else value
        except OverflowError:
            return None
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            seconds = value / 1000 if abs(value) > 1e11 else value
            return datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None)
        except (ValueError, OverflowError, OSError):
            return None
    return None


def parse_number(value: Any, lowest: float, highest: float) -> float | None:
    """The value as a number between two others; what is none is None."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
    return number if lowest <= number <= highest else None


def parse_heading(value: Any) -> float | None:
    """The value as degrees in 0 <= heading < 360; what is none is None."""
    number = parse_number(value, -360, 360)
    return None if number is None else number % 360
