"""Values: text and numbers as strangers write them, in tags, tables and JSON."""

import re
from typing import Any

MOST_CHARACTERS = 100
"""No number, position or time is longer; longer texts are not looked at."""

_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
_BLANK = " \t\r\n\0\ufeff\u00a0"


def text_of(value: Any) -> str:
    """Text or bytes without blanks and NULs around it; empty for other values and long texts."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            value = value.decode("latin-1")
    if not isinstance(value, str) or len(text := value.strip(_BLANK)) > MOST_CHARACTERS:
        return ""
    return text.replace("\N{MINUS SIGN}", "-")


def parse_number(value: Any, lowest: float, highest: float) -> float | None:
    """The value as a number from `lowest` to `highest`; None for any other value.

    Text may have a decimal point or a decimal comma, but no separators of thousands.
    """
    if isinstance(value, (str, bytes)):
        text = text_of(value)
        if not _NUMBER.fullmatch(text):
            return None
        value = text.replace(",", ".")
    elif isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if lowest <= number <= highest else None
