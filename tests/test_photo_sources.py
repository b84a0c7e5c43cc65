"""The photos in the repository are small, and each states where it comes from."""

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.failures import GAP, PHOTOS, PICTURE, WIDTH

PROJECT = Path(__file__).parents[1]
FREE = ("Public Domain", "CC0-1.0")


@pytest.mark.parametrize("folder", ["demo", "docs/failures"])
def test_each_photo_has_an_author_and_a_free_licence(folder):
    lines = (PROJECT / folder / "SOURCES.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    sources = {row[0].strip("`"): row[1:] for row in cells if len(row) == 6}
    photos = {path.relative_to(PROJECT / folder).as_posix()
              for path in (PROJECT / folder / "photos").rglob("*.jpg")}  # fmt: skip
    stated = {file: row for file, row in sources.items() if file.startswith("photos/")}
    assert stated.keys() == photos
    for shows, author, licence, origin, file in stated.values():
        assert shows and author and origin and file
        assert licence in FREE


def test_the_photos_of_failures_are_small():
    for photo in PHOTOS.iterdir():
        assert photo.stat().st_size < 60_000
        assert Image.open(photo).width <= 640


def test_the_picture_of_failures_has_a_row_for_each_photo_that_the_page_describes():
    photos = sorted(PHOTOS.iterdir())
    page = (PROJECT / "docs" / "model_cards.md").read_text()
    rows = page.partition("| photo |")[2].partition("\n\n")[0].splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == [photo.stem for photo in photos]
    sizes = [Image.open(photo).size for photo in photos]
    height = sum(round(height * WIDTH / width) + GAP for width, height in sizes) - GAP
    assert Image.open(PICTURE).size == (2 * WIDTH + GAP, height)
    assert PICTURE.stat().st_size < 350_000
