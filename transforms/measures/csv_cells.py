"""CSV: lines of cells; untrusted text must not be run as a formula by a spreadsheet."""

import csv
import io
from collections.abc import Iterable
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a formula; see https://owasp.org/www-community/attacks/CSV_Injection."""


def as_text(value: str) -> str:
    """A cell that spreadsheets read as text: `'` is put before what would be a formula.

    >>> as_text("=1+1")
    "'=1+1"
    """
    return f"'{value}" if value.startswith(_FORMULA) else value


def lines(rows: Iterable[Iterable[Any]]) -> bytes:
    """Rows of cells as lines of CSV (RFC 4180); None becomes an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
