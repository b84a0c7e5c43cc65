"""Labels drawn by a network's probabilities, so that it is known what these are worth."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from models.engines import EngineName, EngineOptions, Precision
from models.packages import ModelPackage
from models.segmenter import Segmenter
from models.upsampling import logits_at
from tests.made_graphs import CITYSCAPES, imported
from tests.onnx_models import kernel

TEMPERATURE = 2.5
"""At which labels are drawn."""

F32 = EngineOptions(EngineName.OPENVINO, Precision.F32)


def sure_model(folder: Path) -> ModelPackage:
    """An imported network of Cityscapes' classes that is sure of what it says."""
    return imported(folder, weights=kernel(len(CITYSCAPES), 0.4))


def logits_of(segmenter: Segmenter, image: Image.Image) -> np.ndarray:
    (inferred,) = segmenter.infer([segmenter.prepare(segmenter.resize(image))])
    scores, _, extent = inferred.prepared.covered(inferred.scores)
    width, height = image.size
    return logits_at(scores, np.arange(width * height), height, width, extent)


def draw_labels(folder: Path, model: ModelPackage, photo: Callable[..., Path]) -> None:
    """Write photos, and labels that are drawn by a model's probabilities at `TEMPERATURE`."""
    segmenter = Segmenter.load(model, F32)
    (folder / "valannot").mkdir()
    for seed in range(24):
        image = Image.open(photo(folder / "val" / f"{seed}.png", 90, 66, seed))
        logits = logits_of(segmenter, image)
        noise = np.random.default_rng(seed).gumbel(size=logits.shape)
        drawn = (logits / TEMPERATURE + noise).argmax(axis=1).astype(np.uint8)
        Image.fromarray(drawn.reshape(66, 90)).save(folder / "valannot" / f"{seed}.png")
