"""Draw what the default model makes of photos unlike those it learned from.

    python benchmarks/failures.py

writes `docs/failures/failures.jpg`, a row per photo of `docs/failures/photos` in the order of their
names: the photo, and its overlay as a run makes it. It prints a table of what a run states about
them: the uncertainty, whether the photo is flagged for it, and the classes with most pixels.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from models.packages import load_package
from models.segmenter import Segmentation, Segmenter
from transforms.photos.mask_files import encode_overlay

FAILURES = Path(__file__).parents[1] / "docs" / "failures"
PHOTOS = FAILURES / "photos"
PICTURE = FAILURES / "failures.jpg"

WIDTH = 320
"""Columns of a photo in the picture."""

GAP = 4
"""White columns and rows between photos."""

CLASSES = 4
"""Classes of a photo in the table."""


def stack(pairs: list[list[Image.Image]]) -> Image.Image:
    """The picture of photos and their overlays, each `WIDTH` wide, a pair below the other."""
    rows = [
        [image.resize((WIDTH, round(image.height * WIDTH / image.width))) for image in pair]
        for pair in pairs
    ]
    height = sum(photo.height + GAP for photo, _ in rows) - GAP
    picture = Image.new("RGB", (2 * WIDTH + GAP, height), "white")
    top = 0
    for photo, overlay in rows:
        picture.paste(photo, (0, top))
        picture.paste(overlay, (WIDTH + GAP, top))
        top += photo.height + GAP
    return picture


def describe(name: str, made: Segmentation, classes: tuple[str, ...]) -> str:
    """The row of a photo in the table."""
    assert made.uncertainty, "the default model is calibrated"
    largest = sorted(zip(made.pixels, classes, strict=True), reverse=True)[:CLASSES]
    shares = ", ".join(f"{label} {pixels / made.mask.size:.0%}" for pixels, label in largest)
    flag = "yes" if made.uncertainty.is_unlike else "no"
    return f"| {name} | {made.uncertainty.entropy:.2f} | {flag} | {shares} |"


def main() -> None:
    package = load_package("default")
    segmenter = Segmenter.load(package)
    palette = package.classes.palette()
    pairs = []
    print("| photo | uncertainty | flagged | classes with most pixels |\n|---|---|---|---|")
    for path in sorted(PHOTOS.glob("*.jpg")):
        photo = Image.open(path).convert("RGB")
        made = segmenter.segment(photo)
        overlay = encode_overlay(np.array(photo), made.mask, palette)
        pairs.append([photo, Image.open(BytesIO(overlay))])
        print(describe(path.stem, made, package.classes.names))
    stack(pairs).save(PICTURE, quality=80)


if __name__ == "__main__":
    main()
