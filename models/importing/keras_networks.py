"""Keras networks as OpenVINO models."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from models.importing import saved_models
from models.importing.sources import ModelImportError, Source
from models.texts import one_line

if TYPE_CHECKING:
    import keras

CHANNELS = 3
"""Channels of a photo."""


def convert(
    network: "keras.Model", where: str, input_size: tuple[int, int] | None = None
) -> Source:
    """Convert a network that takes photos `(N, h, w, 3)`.

    Args:
        network: its weights become constants.
        where: for messages.
        input_size: width and height that a network with an open input is converted for. Without
            it the sizes stay open.

    Raises:
        ModelImportError: TensorFlow or OpenVINO cannot convert it.
    """
    import keras

    shapes = [tuple(taken.shape) for taken in network.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ModelImportError(
            f"{where}: the network has inputs of the shapes {shapes}, expected a single one of "
            "photos (N, h, w, 3)"
        )
    is_open = None in shapes[0][1:]
    if is_open and input_size:
        width, height = input_size
        photos = keras.Input((height, width, CHANNELS))
        network = keras.Model(photos, network(photos))
    with tempfile.TemporaryDirectory() as folder:
        try:
            network.export(folder, format="tf_saved_model", verbose=False)
        except Exception as error:  # Layers raise many types of errors.
            advice = ""
            if is_open and not input_size:
                advice = "; say for which one by --input-size, or save it with a fixed one"
            raise ModelImportError(
                f"{where}: TensorFlow cannot trace the network"
                f"{' for open input sizes' if is_open and not input_size else ''}{advice}: "
                f"{one_line(error)}"
            ) from error
        return saved_models.convert(Path(folder), where)
