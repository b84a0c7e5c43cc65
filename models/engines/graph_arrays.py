"""Photos as the arrays that an imported network takes, and its outputs as scores or class ids.

For libraries that run a graph as it is. `graph_model` does the same within an OpenVINO model.
"""

import numpy as np

from models.classes import IGNORE
from models.engines.options import EngineError
from models.graphs import Channels, Gives, Layout
from models.packages import ModelPackage

LEAST_PROBABILITY = 1e-7
"""Smaller probabilities are taken for this one, since their logarithm has to be finite."""


def input_values(package: ModelPackage) -> np.ndarray:
    """What the network takes for each level of each colour of a photo: `(256, 3)`, of its type."""
    taken = package.imported.input
    levels = np.arange(256)[:, None] / 255
    values = (levels - np.asarray(package.mean)) / np.asarray(package.std)
    if np.issubdtype(taken.dtype, np.integer):
        limits = np.iinfo(taken.dtype)
        values = np.rint(values / taken.scale + taken.zero_point).clip(limits.min, limits.max)
    return values.astype(taken.dtype)


def takes_bytes(package: ModelPackage) -> bool:
    """Whether the network takes the bytes of photos as they are."""
    values = input_values(package)
    return values.dtype == np.uint8 and bool((values == np.arange(256)[:, None]).all())


class GraphArrays:
    """What a package says of its graph, as functions of arrays. Safe to use from threads.

    Args:
        package: a model with a graph.
    """

    def __init__(self, package: ModelPackage):
        taken, given = package.imported.input, package.imported.output
        self._input, self._output = taken, given
        self._values = input_values(package)
        self._takes_bytes = takes_bytes(package)
        ids = np.full(256, IGNORE, np.uint8)
        ids[list(given.channels)] = np.arange(len(given.channels))
        self._ids = ids

    def feed(self, images: np.ndarray) -> np.ndarray:
        """Turn uint8 RGB photos `(N, h, w, 3)` into what the network takes."""
        values = images
        if not self._takes_bytes:
            values = np.stack([self._values[images[..., c], c] for c in range(3)], axis=-1)
        if self._input.channels is Channels.BGR:
            values = values[..., ::-1]
        if self._input.layout is Layout.NCHW:
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values, self._input.dtype)

    def fetch(self, output: np.ndarray) -> np.ndarray:
        """Turn what the network gives into float32 logits `(N, h, w, classes)` or class ids.

        Class ids are uint8 of shape `(N, h, w)`.

        Raises:
            EngineError: it gives a class id that no class has.
        """
        given = self._output
        if given.gives is Gives.CLASS_IDS:
            return self._class_ids(output)
        scores = output.transpose(0, 2, 3, 1) if given.layout is Layout.NCHW else output
        scores = (scores.astype(np.float32) - given.zero_point) * np.float32(given.scale)
        if given.gives is Gives.PROBABILITIES:
            if given.outputs == 1:
                scores = np.concatenate([1 - scores, scores], axis=-1)
            return np.log(np.maximum(scores[..., given.channels], LEAST_PROBABILITY))
        if given.outputs == 1:
            return np.concatenate([np.zeros_like(scores), scores], axis=-1)
        return np.ascontiguousarray(scores[..., given.channels])

    def _class_ids(self, output: np.ndarray) -> np.ndarray:
        if output.ndim == 4:
            output = output[:, 0] if self._output.layout is Layout.NCHW else output[..., 0]
        known = (output >= 0) & (output < len(self._ids))
        if np.issubdtype(output.dtype, np.floating):
            known &= output == np.rint(output)
        ids = self._ids[np.where(known, output, 0).astype(np.uint8)]
        wrong = ~known | (ids == IGNORE)
        if wrong.any():
            found = np.unique(output[wrong])[:8].tolist()
            raise EngineError(
                f"the network gives the class ids {found}, and its classes have "
                f"{list(self._output.channels)}: import it again with --classes of all of them, or "
                "with --background"
            )
        return ids
