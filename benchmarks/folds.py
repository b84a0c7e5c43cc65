"""Make folds of labelled photos by place, so that a network is measured where it was not trained.

    python benchmarks/folds.py camvid CAMVID FOLDS
    python benchmarks/folds.py facades FACADES FOLDS
    python benchmarks/folds.py idd_lite IDD_LITE FOLDS

writes FOLDS/camvid/fold-1 and so on, each a data set in the CamVid layout: some places are its
split `val`, all others `train`. Every place is in `val` once. Files are symbolic links. The same
photos give the same folds.

CAMVID is in the CamVid layout; its splits `train` and `val` are taken together. The others hold
photos/NAME.jpg and labels/NAME.png. What a place is:

- camvid: a sequence, which is the part of the name before `_`. Of the three, one has two thirds of
  the photos.
- idd_lite: a drive, the same part of the name.
- facades: a city, as the albums of LabelMe are named. `CITIES` says which albums show one; where a
  name has only a date or a kind of street, the photos were looked at. Other albums are places of
  their own, and so are the scenes of `spatial_envelope`, which are from many cities.
"""

import argparse
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from models.labelled_photos import IMAGE_SUFFIXES
from models.labels import LABEL_FOLDER_ENDING, LABEL_SUFFIX

CITIES = {
    "cambridge_uk": "cambridge_uk",
    "bost|cambridge|porter|harvard|kendall|statacenter|techsquare|highland|^nov|^dec": "boston",
    "mallorca|palma|static_village": "mallorca",
}
"""Cities by patterns in the names of the facades' photos; the first that is found counts."""


def prefix(name: str) -> str:
    """The part of a name before its first `_`."""
    return name.split("_")[0]


def city(name: str) -> str:
    """The city of a photo of the facades, else its album."""
    found = (place for pattern, place in CITIES.items() if re.search(pattern, name))
    return next(found, name.split("__")[0])


PLACE_OF: Mapping[str, Callable[[str], str]] = {
    "camvid": prefix,
    "idd_lite": prefix,
    "facades": city,
}
"""By data set: from a photo's name, without the suffix, to the place that it shows."""


def list_pairs(source: Path) -> dict[Path, Path]:
    """List the photos of a data set, in the order of their names, with their labels.

    Raises:
        ValueError: there is no photo, or one has no label.
    """
    folders = {source / "photos": source / "labels"}
    if not (source / "photos").is_dir():
        folders = {source / s: source / f"{s}{LABEL_FOLDER_ENDING}" for s in ("train", "val")}
    pairs = {
        photo: labels / f"{photo.stem}{LABEL_SUFFIX}"
        for photos, labels in folders.items()
        for photo in (photos.iterdir() if photos.is_dir() else ())
        if photo.suffix.lower() in IMAGE_SUFFIXES
    }
    if not pairs:
        raise ValueError(f"{source}: holds no photo in photos, train or val")
    missing = [label for label in pairs.values() if not label.is_file()]
    if missing:
        raise ValueError(f"{missing[0]}: no such label; add it or move its photo")
    return dict(sorted(pairs.items(), key=lambda pair: pair[0].name))


def assign(photos: Mapping[str, int], folds: int) -> dict[str, int]:
    """Give each place a fold, so that folds have about as many photos: 0..folds-1.

    The places come by their number of photos, the largest first, to the fold with the fewest.

    Args:
        photos: number of photos of each place.
        folds: number of folds.

    Raises:
        ValueError: there are fewer places than folds.
    """
    if len(photos) < folds:
        raise ValueError(f"{folds} folds of {len(photos)} places; ask for fewer folds")
    filled = [0] * folds
    fold_of = {}
    for place, number in sorted(photos.items(), key=lambda entry: (-entry[1], entry[0])):
        fold_of[place] = filled.index(min(filled))
        filled[fold_of[place]] += number
    return fold_of


def write_folds(source: Path, target: Path, place_of: Callable[[str], str], folds: int) -> str:
    """Write the folds of a data set, and return a table of them in Markdown.

    Raises:
        ValueError: the data set is not as expected, or there are files of folds already.
    """
    if target.exists():
        raise ValueError(f"{target} exists; remove it, or give another folder")
    pairs = list_pairs(source)
    photos = Counter(place_of(photo.stem) for photo in pairs)
    fold_of = assign(photos, folds)
    rows = ["| fold | places of val | photos of val | photos of train |", "|---|---|---|---|"]
    for fold in range(folds):
        for photo, label in pairs.items():
            split = "val" if fold_of[place_of(photo.stem)] == fold else "train"
            for file, folder in ((photo, split), (label, f"{split}{LABEL_FOLDER_ENDING}")):
                link = target / f"fold-{fold + 1}" / folder / file.name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file.resolve())
        held_out = [photos[place] for place, of in fold_of.items() if of == fold]
        in_val = sum(held_out)
        rows.append(f"| {fold + 1} | {len(held_out)} | {in_val} | {len(pairs) - in_val} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=PLACE_OF, help="which data set this is")
    parser.add_argument("source", type=Path, help="its folder")
    parser.add_argument("output", type=Path, help="folder of the folds of data sets")
    parser.add_argument("--folds", type=int, default=3, help="number of folds (default 3)")
    given = parser.parse_args()
    if given.folds < 2:
        parser.error(f"--folds {given.folds}: expected 2 or more")
    try:
        target = given.output / given.name
        print(write_folds(given.source, target, PLACE_OF[given.name], given.folds))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
