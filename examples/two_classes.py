"""Convert labels of many classes to two: foreground and background, such as road and not road.

python examples/two_classes.py CAMVID Road road_data
citymask train unet --data road_data --output road_model --width 0.25
citymask evaluate --model road_model --data road_data
citymask run PHOTOS --output OUT --model road_model
"""

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from models.classes import IGNORE, ClassTable
from models.labelled_photos import list_split


def main(source: str, foreground: str, target: str, classes: str = "camvid") -> None:
    table = ClassTable.load(classes)
    for split in ("train", "val"):
        photos = list_split(source, split, len(table))
        folders = Path(target, split), Path(target, f"{split}annot")
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        for index, path in enumerate(photos.images):
            image, label = photos.read_sample(index)
            two = np.where(label == table.names.index(foreground), 0, 1)
            two[label == IGNORE] = IGNORE
            image.save(folders[0] / f"{path.stem}.png")
            Image.fromarray(two.astype(np.uint8)).save(folders[1] / f"{path.stem}.png")
    with open(Path(target, "classes.csv"), "w", newline="") as file:
        csv.writer(file).writerows(
            [
                ("name", "red", "green", "blue"),
                (foreground, 128, 64, 128),
                (f"Not {foreground.lower()}", 40, 40, 40),
            ]
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
