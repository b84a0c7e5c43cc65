"""FiftyOne: its `ImageSegmentationDirectory`, with the photos where they are.

See https://docs.voxel51.com/user_guide/import_datasets.html#imagesegmentationdirectory.
`data.json` says where the photos are; `labels/` holds the masks. FiftyOne takes 0 for no class, so
a pixel is the class id and one; `mask_targets.json` has the names. Photos that are not local
files of their own, as in shards and in Cloud Storage, FiftyOne cannot open; they are left out.
"""

import json

import numpy as np

from transforms import storage
from transforms.exporting.json_lists import copy_items, to_json
from transforms.exporting.masked import MaskedPhoto, MaskFormat
from transforms.output import names
from transforms.photos import mask_files

PHOTOS = "photos"


class FiftyOne(MaskFormat):
    """`data.json`, `labels/IMAGE.png` and `mask_targets.json`."""

    lists = (PHOTOS,)
    left_out = "left out: there is no local file of them alone"

    def takes(self, photo: MaskedPhoto) -> bool:
        """See `MaskFormat.takes`."""
        return storage.store_of(photo.uri).local_paths and storage.exists(names.file_of(photo.uri))

    def write_mask(self, photo: MaskedPhoto, mask: np.ndarray) -> dict[str, list[str]]:
        """See `MaskFormat.write_mask`."""
        # 255 + 1 is 0 in 8 bits. Of a palette, FiftyOne would take the colours for the values.
        self.put(f"labels/{photo.path}", mask_files.encode_grey(mask + np.uint8(1)))
        # In ASCII, JSON has a form for bytes that are not UTF-8, which Python's `os` takes back.
        return {PHOTOS: [f"{to_json(photo.path)}: {json.dumps(names.file_of(photo.uri))}"]}

    def finish(self, parts: int) -> None:
        """See `Format.finish`."""
        targets = dict(enumerate(self.archive.classes.names, 1))
        self.put("mask_targets.json", to_json(targets).encode())
        with self.open("data.json") as file:
            file.write(b"{\n")
            copy_items(file, self.fragments(PHOTOS, parts))
            file.write(b"\n}\n")
        self.remove_fragments()
