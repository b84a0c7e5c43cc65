"""Make archives of any size from a few photos, optionally resized."""

import os
import shutil
import sys
from pathlib import Path

from PIL import Image, ImageOps

EXTENSIONS = (".jpg", ".jpeg", ".png")
QUALITY = 90


def find_photos(folder: Path) -> list[Path]:
    """List the photos of a folder recursively, sorted; exit if there are none."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
    if not found:
        sys.exit(f"{folder}: no photo; give a folder with --photos")
    return found


def bring_to_size(photos: Path, width: int, height: int, folder: Path) -> Path:
    """Write the photos as JPEGs of one size, resized and cropped to the centre."""
    folder.mkdir()
    for number, path in enumerate(find_photos(photos)):
        with Image.open(path) as image:
            fitted = ImageOps.fit(image.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
            fitted.save(folder / f"{number:04}.jpg", quality=QUALITY)
    return folder


def make_archive(photos: Path, images: int, archive: Path) -> Path:
    """Make an archive of `images` files, which repeat the photos under new names.

    Files are hard links if the file system supports them, so they are read from the page cache.
    """
    found = find_photos(photos)
    archive.mkdir()
    for number in range(images):
        photo = found[number % len(found)]
        target = archive / f"{number:06}{photo.suffix}"
        try:
            os.link(photo, target)
        except OSError:  # The file system has no hard links.
            shutil.copyfile(photo, target)
    return archive
