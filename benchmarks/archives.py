"""Archives of any size out of a few photos, all of one size or as they are."""

import os
import shutil
import sys
from pathlib import Path

from PIL import Image, ImageOps

EXTENSIONS = (".jpg", ".jpeg", ".png")
QUALITY = 90


def find_photos(folder: Path) -> list[Path]:
    """The photos in a folder and below it, in a fixed order; ends the program without one."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
    if not found:
        sys.exit(f"{folder}: no photo; give a folder with --photos")
    return found


def bring_to_size(photos: Path, width: int, height: int, folder: Path) -> Path:
    """Write the photos as JPEGs of one size: the middle of each, enlarged or reduced."""
    folder.mkdir()
    for number, path in enumerate(find_photos(photos)):
        with Image.open(path) as image:
            fitted = ImageOps.fit(image.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
            fitted.save(folder / f"{number:04}.jpg", quality=QUALITY)
    return folder


def make_archive(photos: Path, images: int, archive: Path) -> Path:
    """An archive of `images` files: the photos, again and again under new names.

    They are hard links where the file system has them, so the photos are in memory when read.
    """
    found = find_photos(photos)
    archive.mkdir()
    for number in range(images):
        photo = found[number % len(found)]
        target = archive / f"{number:06}{photo.suffix}"
        try:
            os.link(photo, target)
        except OSError:  # Other file systems.
            shutil.copyfile(photo, target)
    return archive
