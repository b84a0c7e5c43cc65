"""Evaluate the thresholds of `--skip-duplicates` and `--skip-blurred` on your photos.

    python benchmarks/gate.py PHOTO_OR_FOLDER...

expects sharp photos that are all different. It makes modified copies and blurred versions of each,
and prints the distances of their hashes and their sharpness. Amounts of blur are fractions of the
longer side: the standard deviation of a Gaussian, or the length of a horizontal motion.
"""

import itertools
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from transforms.flow.records import Look
from transforms.photos.decoding import DEFAULT_MAX_PIXELS, is_image_name
from transforms.photos.looks import look_at
from transforms.planning.duplicates import MOST_BITS
from transforms.planning.gating import LEAST_SHARPNESS

Change = Callable[[Image.Image], Image.Image]

QUALITY = 90


def looked_at(photo: Image.Image, quality: int = QUALITY) -> Look:
    file = BytesIO()
    photo.save(file, "JPEG", quality=quality)
    return look_at(file.getvalue(), DEFAULT_MAX_PIXELS)[0]


def cropped(share: float) -> Change:
    def crop(photo: Image.Image) -> Image.Image:
        left, top = round(photo.width * share), round(photo.height * share)
        return photo.crop((left, top, photo.width - left, photo.height - top))

    return crop


def defocused(share: float) -> Change:
    return lambda photo: photo.filter(ImageFilter.GaussianBlur(max(photo.size) * share))


def moved(share: float) -> Change:
    def move(photo: Image.Image) -> Image.Image:
        pixels = np.asarray(photo, np.float32)
        length = max(1, round(max(photo.size) * share))
        sums = np.pad(pixels, ((0, 0), (length, 0), (0, 0)), "edge").cumsum(axis=1)
        means = (sums[:, length:] - sums[:, :-length]) / length
        return Image.fromarray(means.clip(0, 255).astype(np.uint8))

    return move


COPIES: dict[str, Change] = {
    "half the size": lambda photo: photo.resize((photo.width // 2, photo.height // 2)),
    "15 % brighter": lambda photo: ImageEnhance.Brightness(photo).enhance(1.15),
    "cropped by 1 % on each side": cropped(0.01),
    "cropped by 2 % on each side": cropped(0.02),
    "cropped by 5 % on each side": cropped(0.05),
}
BLURS: dict[str, Change] = {
    "as it is": lambda photo: photo,
    **{f"Gaussian, {share:.1%}": defocused(share) for share in (0.001, 0.002, 0.003, 0.005, 0.01)},
    **{f"motion, {share:.1%}": moved(share) for share in (0.005, 0.01, 0.02, 0.04)},
}


def bits(a: Look, b: Look) -> int:
    return (int(a.perceptual_hash, 16) ^ int(b.perceptual_hash, 16)).bit_count()


def main(paths: list[str]) -> None:
    found = [path for name in paths for path in (Path(name), *Path(name).rglob("*"))]
    files = sorted(path for path in found if path.is_file() and is_image_name(path.name))
    photos = [Image.open(path).convert("RGB") for path in files]
    looks = [looked_at(photo) for photo in photos]
    print(f"{len(photos)} photos\n\n| hashes of | median bits | most or least | duplicates |")
    print("|---|---:|---:|---:|")
    again = [looked_at(photo, quality=30) for photo in photos]
    show_bits("saved again with quality 30", list(map(bits, looks, again)), max)
    for name, change in COPIES.items():
        copies = [looked_at(change(photo)) for photo in photos]
        show_bits(name, list(map(bits, looks, copies)), max)
    show_bits("all pairs", [bits(a, b) for a, b in itertools.combinations(looks, 2)], min)
    print("\n| blur | lowest | median | highest | blurred |\n|---|---:|---:|---:|---:|")
    for name, change in BLURS.items():
        values = np.array([looked_at(change(photo)).sharpness for photo in photos])
        low, middle, high = np.quantile(values, (0, 0.5, 1))
        share = np.mean(values < LEAST_SHARPNESS)
        print(f"| {name} | {low:.3f} | {middle:.3f} | {high:.3f} | {share:.0%} |")


def show_bits(name: str, values: list[int], extreme: Callable) -> None:
    share = np.mean([value <= MOST_BITS for value in values])
    print(f"| {name} | {np.median(values):.0f} | {extreme(values)} | {share:.1%} |")


if __name__ == "__main__":
    main(sys.argv[1:])
