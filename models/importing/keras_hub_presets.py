"""Presets of KerasHub: folders with configurations, weights and how photos are prepared.

Networks for segmentation end in a bilinear enlargement to the size of the photo. It is left out,
since masks are made of scores of any size, faster and at the size of the photo.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.graphs import Resize
from models.importing import keras_configs, keras_networks
from models.importing.sources import Fact, Facts, ModelImportError, Source
from models.texts import one_line

if TYPE_CHECKING:
    import keras

CONFIG, TASK = "config.json", "task.json"
BACKBONE_WEIGHTS, TASK_WEIGHTS = "model.weights.h5", "task.weights.h5"

REGISTERED = f'"{keras_configs.HUB}>'.encode()
"""Stands in the configurations of a preset."""

CONVERTER = "image converter"
"""Source of facts: the layer that prepares photos."""

ENLARGEMENT = "backbone_output_upsampling"
"""Name of the layer of DeepLab that enlarges what the last layer makes scores of."""


def matches(path: Path) -> bool:
    """Whether this is the folder of a preset, by its configuration."""
    file = path / CONFIG
    if not file.is_file() or file.stat().st_size > keras_configs.MAX_CONFIG_BYTES:
        return False
    return REGISTERED in file.read_bytes()


def read(path: Path, input_size: tuple[int, int] | None = None) -> Source:
    """Read a network for segmentation.

    Args:
        path: of the folder.
        input_size: width and height that a network is converted for if it cannot be for open ones;
            by default those of its image converter.

    Raises:
        ModelImportError: it is another kind of preset, damaged, has parts that may run code, or
            KerasHub is missing.
        EngineError: TensorFlow cannot be imported.
    """
    for name in (TASK, BACKBONE_WEIGHTS):
        if not (path / name).is_file():
            raise ModelImportError(
                f"{path}: a preset without {name}, expected one of a whole network for "
                "segmentation, as ImageSegmenter.save_to_preset() writes it"
            )
    config = keras_configs.parse((path / TASK).read_bytes(), str(path / TASK))
    if not str(config["class_name"]).endswith(keras_configs.SEGMENTER):
        raise ModelImportError(
            f"{path / TASK}: a {config['class_name']}, expected an "
            f"{keras_configs.SEGMENTER} such as SegFormer or DeepLabV3+"
        )
    source = convert(_load(config, path), str(path), input_size)
    named = Facts(name=Fact(path.name, "name of the folder"))
    return replace(source, facts=source.facts.filled_from(named))


def convert(task: "keras.Model", where: str, input_size: tuple[int, int] | None = None) -> Source:
    """Convert a network for segmentation of KerasHub up to its scores; see `read`."""
    stated = _prepared(getattr(task.preprocessor, "image_converter", None))
    size = input_size or (stated.input_size.value if stated.input_size else None)
    source = keras_networks.convert(_without_enlargement(task), where, size)
    named = Facts(architecture=Fact(_architecture(task), "its class in KerasHub"))
    facts = named.filled_from(stated).filled_from(source.facts)
    return replace(source, facts=facts)


def _load(config: dict[str, Any], path: Path) -> "keras.Model":
    weights = [path / name for name in (BACKBONE_WEIGHTS, TASK_WEIGHTS) if (path / name).is_file()]
    task = keras_configs.load(config, weights, str(path))
    keras_configs.fill(task.backbone, path / BACKBONE_WEIGHTS, str(path))
    if path / TASK_WEIGHTS in weights:
        try:
            task.load_task_weights(str(path / TASK_WEIGHTS))
        except Exception as error:  # Keras raises many types of errors.
            raise ModelImportError(
                f"{path / TASK_WEIGHTS}: the weights do not fit: {one_line(error)}"
            ) from error
    return task


def _without_enlargement(task: "keras.Model") -> "keras.Model":
    """The network up to its scores, before they are enlarged to the photo.

    DeepLab enlarges features before it makes scores of them: both are linear, so that the order
    does not matter.
    """
    import keras
    import keras_hub

    if isinstance(task, keras_hub.models.SegFormerImageSegmenter):
        scores = task.output_segmentation_head(task.backbone(task.input))
        return keras.Model(task.input, scores)
    if isinstance(task, keras_hub.models.DeepLabV3ImageSegmenter) and task.activation is None:
        features = task.backbone.get_layer(ENLARGEMENT).input
        return keras.Model(task.backbone.input, task.output_conv(features))
    return keras.Model(task.inputs, task.outputs)


def _architecture(task: "keras.Model") -> str:
    name = type(task).__name__.removesuffix(keras_configs.SEGMENTER)
    plus = getattr(task.backbone, "low_level_feature_key", None)
    return f"{name}+" if plus else name


def _prepared(converter: Any) -> Facts:
    """How photos are normalised and resized: multiplied by a scale in 0..255, and shifted."""
    import numpy as np

    if converter is None:
        return Facts()
    scale = np.broadcast_to(1.0 if converter.scale is None else converter.scale, 3)
    offset = np.broadcast_to(0.0 if converter.offset is None else converter.offset, 3)
    size = converter.image_size
    resize = Resize.PAD if converter.pad_to_aspect_ratio else Resize.STRETCH
    return Facts(
        mean=Fact(tuple((0 - offset / (255 * scale)).tolist()), CONVERTER),
        std=Fact(tuple((1 / (255 * scale)).tolist()), CONVERTER),
        input_size=Fact((size[1], size[0]), CONVERTER) if size else None,
        resize=None if converter.crop_to_aspect_ratio else Fact(resize, CONVERTER),
    )
