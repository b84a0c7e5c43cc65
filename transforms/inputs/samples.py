"""Samples: which files of a shard belong to one photo, by the convention of WebDataset.

The key of a file is its path up to the first dot of its file name; what is behind that dot says
what it is of its key: `lund/01.jpg`, `lund/01.json`, `lund/01.seg.png`. See
https://github.com/webdataset/webdataset, "The WebDataset Format".
"""

import posixpath
from bisect import bisect
from collections import defaultdict
from collections.abc import Sequence

from transforms.photos import decoding

SIDECAR = "json"


def pair_sidecars(names: Sequence[str]) -> dict[int, int]:
    """The position of the metadata of each photo that has some, by the photo's position.

    The metadata of `key.left.jpg` are in `key.left.json`, else in `key.json`, extensions in any
    case, wherever that stands in the shard. If it is there several times, it is the one of the same
    sample: a run of files of one key in which no name comes twice. Else it is the nearest one, and
    of two as near the one behind.

    Args:
        names: the files of a shard, in their order.
    """
    parts = [_parts(name) for name in names]
    samples = _samples(parts)
    sidecars: dict[tuple[str, str], list[int]] = defaultdict(list)
    for position, (key, extension) in enumerate(parts):
        if extension.rpartition(".")[2] == SIDECAR:
            sidecars[key, extension].append(position)
    pairs = {}
    for position, (key, extension) in enumerate(parts):
        if not decoding.is_image_name(names[position]):
            continue
        own = extension[: extension.rfind(".") + 1] + SIDECAR
        if found := sidecars.get((key, own)) or sidecars.get((key, SIDECAR)):
            pairs[position] = _nearest(position, found, samples)
    return pairs


def find_labels(names: Sequence[str]) -> set[int]:
    """The positions of images that are labels of a photo, not photos.

    Where a key has an image with a plain extension (`key.jpg`), its images with a dot in theirs
    (`key.seg.png`, `key.depth.png`) are labels. Else these are photos: `key.left.jpg` and
    `key.right.jpg`, or `street.v2.jpg` alone.
    """
    images = [
        (position, *_parts(name))
        for position, name in enumerate(names)
        if decoding.is_image_name(name)
    ]
    with_photo = {key for _, key, extension in images if "." not in extension}
    return {
        position for position, key, extension in images if "." in extension and key in with_photo
    }


def _nearest(position: int, sidecars: Sequence[int], samples: Sequence[int]) -> int:
    """The sidecar of the sample of a photo, else the nearest one."""
    behind = bisect(sidecars, position)
    near = sidecars[max(behind - 1, 0) : behind + 1]
    of_sample = [other for other in near if samples[other] == samples[position]]
    return min(of_sample or near, key=lambda other: (abs(other - position), other < position))


def _samples(parts: Sequence[tuple[str, str]]) -> list[int]:
    """The number of the sample of each file."""
    numbers: list[int] = []
    current, seen = None, set[str]()
    number = 0
    for key, extension in parts:
        if key != current or extension in seen:
            current, seen = key, set()
            number += 1
        seen.add(extension)
        numbers.append(number)
    return numbers


def _parts(name: str) -> tuple[str, str]:
    """The key of a file, in one spelling, and its extension in lower case."""
    folder, _, file = posixpath.normpath(name).lstrip("/").rpartition("/")
    stem, _, extension = file.partition(".")
    return f"{folder}/{stem}", extension.lower()
