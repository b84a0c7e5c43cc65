"""Keras networks as OpenVINO models."""

from typing import TYPE_CHECKING

from models.engines import conversion, tensorflow_cpu
from models.importing.openvino_models import source_of
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

    It is traced for inference, as `predict` calls it. Keras exports the call without an argument,
    in which some layers of KerasHub behave as in training.

    Args:
        network: its weights become constants.
        where: for messages.
        input_size: width and height that a network with an open input is converted for. Without
            it the sizes stay open.

    Raises:
        ModelImportError: TensorFlow or OpenVINO cannot convert it.
    """
    conversion.import_openvino()
    import keras
    import tensorflow as tf

    shapes = [tuple(taken.shape) for taken in network.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ModelImportError(
            f"{where}: the network has inputs of the shapes {shapes}, expected a single one of "
            "photos (N, h, w, 3)"
        )
    [photos], outputs = network.inputs, network.outputs
    is_open = None in photos.shape[1:]
    if is_open and input_size:
        width, height = input_size
        photos = keras.Input((height, width, CHANNELS), dtype=photos.dtype, name=photos.name)
        outputs = keras.tree.flatten(network(photos))
    named = keras.Model(photos, outputs)
    spec = tf.TensorSpec(photos.shape, photos.dtype)
    apply = tf.function(
        tensorflow_cpu.with_constants(named), input_signature=[spec], autograph=False
    )
    try:
        model = conversion.convert_function(apply.get_concrete_function())
    except Exception as error:  # Layers and OpenVINO's front ends raise many types of errors.
        asked = is_open and not input_size
        raise ModelImportError(
            f"{where}: the network cannot be converted"
            f"{' for open sizes: say for which one by --input-size' if asked else ''} "
            f"({one_line(error)})"
        ) from error
    names = (photos.name, *named.output_names)
    for port, name in zip((*model.inputs, *model.outputs), names, strict=True):
        port.get_tensor().set_names({name})
    return source_of(model)
