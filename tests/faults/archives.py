"""A small archive of photos and a tar shard, and the changes of a week."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

PHOTOS = 36
MEMBERS = 8
BROKEN = "south/broken.jpg"
LARGE = "north/large.png"
SHARD = "shard.tar"


def photo_bytes(seed: int, scale: int = 1) -> bytes:
    """An encoded photo of 96 x 64 pixels times `scale`, of blots that are others for each seed."""
    blots = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    photo = Image.fromarray(blots).resize((96 * scale, 64 * scale), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    photo.save(data, "PNG")
    return data.getvalue()


def make_archive(folder: Path) -> Path:
    """Photos in two folders, one of them large, one broken, and a tar shard with metadata."""
    for number in range(PHOTOS):
        put(photo_path(folder, number), photo_bytes(number))
    put(folder / LARGE, photo_bytes(50, 24))
    put(folder / BROKEN, b"not a photo")
    put(folder / SHARD, shard_bytes(100))
    return folder


def change_archive(folder: Path) -> None:
    """A week later: some photos are others, one is new, and one is there no more."""
    for number in range(0, PHOTOS, 3):
        put(photo_path(folder, number), photo_bytes(1000 + number, 2))
    put(folder / "north" / "new.png", photo_bytes(2000))
    photo_path(folder, 1).unlink()


def photo_path(folder: Path, number: int) -> Path:
    """Where the photo of a number stands in an archive."""
    return folder / ("north", "south")[number % 2] / f"{number:02}.png"


def shard_bytes(seed: int) -> bytes:
    """A tar shard of photos, of which every second has metadata beside it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as shard:
        for number in range(MEMBERS):
            # A fixed length, so that members of another seed lie at the same bytes.
            members = [(f"{number}.png", photo_bytes(seed + number).ljust(4096, b"\0"))]
            if number % 2:
                members.append((f"{number}.json", json.dumps({"heading": number}).encode()))
            for name, content in members:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                shard.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def put(path: Path, data: bytes) -> None:
    """Put a file in place of another in one step, as those who deliver photos should."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}")
    beside.write_bytes(data)
    beside.replace(path)
