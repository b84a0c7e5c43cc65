"""CSV: lines of cells; untrusted text must not be run as a formula by a spreadsheet."""

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

_FORMULA = re.compile(r"^(?='*[\t\r\n])|(^|[;\t\r\n])(?='*[=+\-@\uff1d\uff0b\uff0d\uff20])")
"""Where a spreadsheet would see a formula begin: at the start of a cell, and after what some of
them take for its end. See https://owasp.org/www-community/attacks/CSV_Injection."""


def as_text(value: str) -> str:
    """A cell that spreadsheets read as text: `'` is put before what would be a formula.

    A `'` that stands there already gets another, so the text can be had back.

    >>> as_text("=1+1"), as_text("'=1+1"), as_text("'s-Gravenhage")
    ("'=1+1", "''=1+1", "'s-Gravenhage")
    """
    return _FORMULA.sub(r"\1'", value)


def lines(rows: Iterable[Iterable[Any]]) -> bytes:
    """Rows of cells as lines of CSV (RFC 4180); None becomes an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
