"""CSV for spreadsheets: no cell is a formula, and machines can have the text back."""

import doctest
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models import csv_cells
from models.csv_cells import as_text, lines

PUT_BEFORE = re.compile(r"^'(?='*[\t\r\n])|(^|[;\t\r\n])'(?='*[=+\-@\uff1d\uff0b\uff0d\uff20])")
"""As documented in docs/outputs.md."""


def test_the_examples_hold():
    assert doctest.testmod(csv_cells).failed == 0


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(1)", "\tx", "\rx", "\nx", "\uff1d1"])
def test_a_formula_becomes_text(text):
    assert as_text(text) == f"'{text}"


def test_a_formula_behind_a_separator_of_other_countries_becomes_text():
    assert as_text("a;=1+1") == "a;'=1+1"


def test_other_cells_stay_as_they_are():
    assert as_text("lund/=1.jpg") == "lund/=1.jpg" and as_text("") == ""
    assert as_text("a\r\nb") == "a\r\nb"
    assert as_text("'t Gooi; a-b") == "'t Gooi; a-b"
    assert lines([["a,b", 'c"d', None, 1.5]]) == b'"a,b","c""d",,1.5\n'


@given(st.text(alphabet="a'=-;\t\r\n@\uff1d", max_size=8))
@example("'=1")
@example("\t=1")
def test_the_text_can_be_had_back(text):
    cell = as_text(text)
    assert not re.search(r"(^|[;\t\r\n])[=+\-@\uff1d]", cell)
    assert PUT_BEFORE.sub(r"\1", cell) == text
