"""CSV: lines of cells, with text from outside that a spreadsheet must not run."""

import csv
import io
from collections.abc import Iterable
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a formula begins with; see https://owasp.org/www-community/attacks/CSV_Injection."""


def as_text(value: str) -> str:
    """A cell that spreadsheets take for text: `'` stands before what they would take for a formula.

    >>> as_text("=1+1")
    "'=1+1"
    """
    return f"'{value}" if value.startswith(_FORMULA) else value


def lines(rows: Iterable[Iterable[Any]]) -> bytes:
    """Rows of cells as lines of CSV, see RFC 4180; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
