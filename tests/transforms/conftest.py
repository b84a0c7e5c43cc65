"""An output folder made without a network: masks, rows and what stands beside masks."""

from pathlib import PosixPath

import numpy as np
import pytest

from models.classes import ClassTable
from models.engines import Precision
from transforms.flow.records import UNKNOWN_CAPTURE, ImageRef, PlannedImage, Segmented, UnitResult
from transforms.output import names, rows
from transforms.photos import mask_files


class MadeOutput(PosixPath):
    """An output folder, and functions that write there what a run would write."""

    CLASSES = ClassTable.of([("Sky", (0, 0, 255)), ("Tree top", (0, 128, 0)), ("Road", (9, 9, 9))])
    MODEL = "tiny@0123456789ab"

    @staticmethod
    def made_mask(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 3, (12, 16 + seed % 2)).astype(np.uint8)

    @classmethod
    def encoded_mask(cls, seed: int, palette: bytes | None = None) -> bytes:
        return mask_files.encode_mask(cls.made_mask(seed), palette or cls.CLASSES.palette())

    def segment(self, image, seed=0, *, folder="masks", palette=None, values=None, extra=()):
        """Write a mask; return what becomes its row."""
        mask = self.made_mask(seed)
        path = names.mask_path(folder, image)
        pixels = mask if values is None else values[mask]
        self.write(path, mask_files.encode_mask(pixels, palette or self.CLASSES.palette()))
        ref = ImageRef(image, f"/a/{image}", f"/a/{image}", "10-1", ".", extra=extra)
        counts = tuple(np.bincount(mask.ravel(), minlength=3).tolist())
        planned, (height, width) = PlannedImage(ref, path), mask.shape
        return Segmented(planned, width, height, UNKNOWN_CAPTURE, counts, Precision.F32)

    def write(self, path, data=b"not looked at"):
        (self / path).parent.mkdir(parents=True, exist_ok=True)
        (self / path).write_bytes(data)

    def commit(self, unit_id, *items, model=MODEL, run_id="run1", failures=(), values=None):
        """Write rows; return their file."""
        result = UnitResult(unit_id, items, failures)
        rows.commit(str(self), result, self.CLASSES, model, run_id, mask_values=values)
        return self / "statistics" / f"{unit_id}.parquet"


@pytest.fixture
def output(tmp_path) -> MadeOutput:
    return MadeOutput(tmp_path / "out")


@pytest.fixture
def photos(output):
    """Four photos that are done, two in a file each, with all that may stand beside their masks."""
    images = [output.segment(f"lund/{name}.jpg", seed) for seed, name in enumerate("abcd")]
    for item in images:
        output.write(names.beside(item.planned.mask, "overlay"))
        output.write(names.beside(item.planned.mask, "confidence"))
    output.commit("one", *images[:2])
    output.commit("two", *images[2:])
    return images
