"""Captures: parses times, numbers and headings in the spellings of photo metadata."""

from datetime import date, datetime, timezone
from typing import Any


def parse_time(value: Any) -> datetime | None:
    """Parse ISO 8601 text, a date, or Unix seconds or milliseconds as a time without time zone.

    Times with an offset and Unix times are converted to UTC; others are unchanged. None for any
    other value.
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
    """The value as a number from `lowest` to `highest`; None for any other value."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
    return number if lowest <= number <= highest else None


def parse_heading(value: Any) -> float | None:
    """The value as degrees, 0 <= heading < 360; None if it is not a heading."""
    number = parse_number(value, -360, 360)
    return None if number is None else number % 360
