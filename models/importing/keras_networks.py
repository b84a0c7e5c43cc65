"""Keras networks as OpenVINO models."""

from dataclasses import replace
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
    """Convert a network that takes photos `(N, h, w, 3)`; sizes that are open stay open.

    It is traced for inference, as `predict` calls it. Keras exports the call without an argument,
    in which some layers of KerasHub behave as in training.

    Args:
        network: its weights become constants.
        where: for messages.
        input_size: width and height that it is converted for if it cannot be for open ones.

    Raises:
        ModelImportError: TensorFlow or OpenVINO cannot convert it.
    """
    shapes = [tuple(taken.shape) for taken in network.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ModelImportError(
            f"{where}: the network has inputs of the shapes {shapes}, expected a single one of "
            "photos (N, h, w, 3)"
        )
    try:
        return _converted(network, where)
    except ModelImportError:
        if None not in shapes[0][1:] or not input_size:
            raise
    width, height = input_size
    source = _converted(network, where, (height, width))
    told = f"it takes photos of any size, but can only be converted for one: {width}x{height}"
    return replace(source, warnings=(*source.warnings, told))


def _converted(network: "keras.Model", where: str, shape: tuple[int, int] | None = None) -> Source:
    """A network, as it is or for photos of one shape (height, width).

    Its input has the name that it has in Keras, its outputs those of the layers that give them.
    """
    conversion.import_openvino()
    import keras
    import tensorflow as tf

    named = taken = keras.Model(network.inputs, network.outputs)
    [photos] = named.inputs
    is_open = not shape and None in photos.shape[1:]
    try:
        if shape:
            fixed = keras.Input((*shape, CHANNELS), dtype=photos.dtype)
            taken = keras.Model(fixed, named(fixed))
        traced = tf.function(
            tensorflow_cpu.with_constants(taken),
            input_signature=[tf.TensorSpec(taken.inputs[0].shape, photos.dtype)],
            autograph=False,
        )
        model = conversion.convert_function(traced.get_concrete_function())
    except Exception as error:  # Layers and OpenVINO's front ends raise many types of errors.
        raise ModelImportError(
            f"{where}: the network cannot be converted"
            f"{' for photos of any size: give one by --input-size' if is_open else ''} "
            f"({one_line(error)})"
        ) from error
    names = (photos.name, *named.output_names)
    for port, name in zip((*model.inputs, *model.outputs), names, strict=True):
        port.get_tensor().set_names({name})
    return source_of(model, where)
