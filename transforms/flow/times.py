"""Times: parses capture times in all their spellings, the same on every version of Python.

A time is either what the source says or unknown: digits that are neither a plausible date nor a
plausible Unix time are not taken for one.
"""

import numbers
import re
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

from transforms.flow.values import text_of

FIRST_PHOTO = datetime(1826, 1, 1)
"""No photo is older."""

WRITTEN = datetime(2026, 11, 30)
"""Clocks that say less are wrong; they must not make the photos of today implausible."""

UNIX_START = datetime(1970, 1, 1)
"""What an unset clock says, give or take its time zone."""

DAY = timedelta(days=1)

UNIX_UNITS = ((10**8, 1), (10**11, 10**3), (10**14, 10**6), (10**17, 10**9))
"""The least Unix time in each unit and the units of a second: from 1973-03-03 all units differ."""

MOST_OFFSET = timedelta(hours=15, minutes=15)
"""The largest offset from UTC that was ever in use."""

_DATE = re.compile(
    r"(?P<year>[0-9]{4})(?P<sep>[-:/.]?)(?P<month>[0-9]{2})(?P=sep)(?P<day>[0-9]{2})"
)
_CLOCK = re.compile(
    r"""
    (?P<hour>[0-9]{2}) (?P<sep>:?) (?P<minute>[0-9]{2})
    (?: (?P=sep) (?P<second>[0-9]{2}) (?: [.,] (?P<fraction>[0-9]+) )? )?
    \s* (?: Z | UTC | GMT )?
    (?: (?<!Z) (?P<sign>[-+]) (?P<hours>[0-9]{1,2}) (?: :? (?P<minutes>[0-9]{2}) )? )?
    """,
    re.VERBOSE,
)
_BETWEEN = re.compile(r"T|\s+")
_DIGITS = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_COMPACT = {8: "", 12: "T", 14: "T"}


def parse_time(value: Any) -> datetime | None:
    """The value as a time without time zone; None if it is not a plausible one.

    Times with an offset and Unix times are converted to UTC; others are unchanged. A time is
    plausible from `FIRST_PHOTO` to tomorrow, but for the day around the start of Unix times.

    Args:
        value: a datetime or date; text of ISO 8601 (calendar dates, basic or extended) or as EXIF
            writes it; Unix seconds, milliseconds, microseconds or nanoseconds, or the digits of a
            compact date (20210304, 202103041020, 20210304102030), as a number or as text.
    """
    if isinstance(value, datetime):
        return _plausible(_utc(value))
    if isinstance(value, date):
        return _plausible(datetime(value.year, value.month, value.day))
    if isinstance(value, (numbers.Real, Decimal)) and not isinstance(value, bool):
        return _plausible(_from_number(value))
    text = text_of(value).upper()
    if _DIGITS.fullmatch(text):
        return _plausible(_from_number(Decimal(text) if "." in text else int(text)))
    return _plausible(_from_text(text))


def _plausible(moment: datetime | None) -> datetime | None:
    if moment is None or abs(moment - UNIX_START) <= DAY:
        return None
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    return moment if FIRST_PHOTO <= moment <= max(now, WRITTEN) + DAY else None


def _utc(moment: datetime) -> datetime | None:
    try:
        return moment.astimezone(timezone.utc).replace(tzinfo=None) if moment.tzinfo else moment
    except (OverflowError, ValueError):
        return None


def _from_number(number: Any) -> datetime | None:
    try:
        # Before anything else: an exponent may stand for gigabytes of digits.
        if not 10**7 <= number < 10**20:
            return None
    except ArithmeticError:  # Comparing a decimal that is not a number.
        return None
    whole = int(number)
    if whole == number and len(digits := str(whole)) in _COMPACT:
        moment = _plausible(_from_text(f"{digits[:8]}{_COMPACT[len(digits)]}{digits[8:]}"))
        if moment:
            return moment
    for least, per_second in UNIX_UNITS:
        if least <= whole < 1000 * least:
            microseconds = round(Fraction(number) * 10**6 / per_second)
            return UNIX_START + timedelta(microseconds=microseconds)
    return None


def _from_text(text: str) -> datetime | None:
    day = _DATE.match(text)
    if not day:
        return None
    try:
        moment = datetime(int(day["year"]), int(day["month"]), int(day["day"]))
        if day.end() == len(text):
            return moment
        between = _BETWEEN.match(text, day.end())
        clock = _CLOCK.fullmatch(text, between.end()) if between else None
        return _at(moment, clock) if clock else None
    except (ValueError, OverflowError):  # No such day, or no such minute.
        return None


def _at(day: datetime, clock: re.Match[str]) -> datetime:
    """A day and what a text says of the time; raises ValueError if there is no such time."""
    moment = day.replace(
        hour=int(clock["hour"]),
        minute=int(clock["minute"]),
        second=int(clock["second"] or 0),
        microsecond=int((clock["fraction"] or "")[:6].ljust(6, "0")),
    )
    offset = timedelta(hours=int(clock["hours"] or 0), minutes=int(clock["minutes"] or 0))
    if offset > MOST_OFFSET:
        raise ValueError("no offset from UTC")
    return moment + offset if clock["sign"] == "-" else moment - offset
