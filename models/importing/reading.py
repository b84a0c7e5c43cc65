"""Read a network of any format that can be imported."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from models.importing import (
    companions,
    handles,
    hugging_face,
    keras_files,
    keras_hub_presets,
    onnx_files,
    openvino_files,
    pytorch,
    saved_models,
    tflite_files,
)
from models.importing.sources import Fact, ModelImportError, Source

FORMATS = (
    "an ONNX file (.onnx)",
    "a TFLite file (.tflite)",
    "an OpenVINO IR (.xml with .bin)",
    "a Keras archive (.keras)",
    "the folder of a TensorFlow SavedModel, of a KerasHub preset, or of Hugging Face with ONNX",
    f"a handle of a hub ({', '.join(handles.FORMS)})",
)
"""What can be imported, for users."""

Read = Callable[[Path], Source]


def read(source: str, input_size: tuple[int, int] | None = None) -> Source:
    """Read a network, and what is stated beside it.

    Args:
        source: a path, or the handle of a hub.
        input_size: width and height that a Keras network is converted for if it cannot be for
            photos of any size.

    Raises:
        ModelImportError: it cannot be imported.
        EngineError: TensorFlow cannot be imported.
    """
    if handles.matches(source):
        found = _read(handles.fetch(source), input_size)
        named = Fact(handles.name(source), "handle")
        return replace(found, facts=replace(found.facts, name=named))
    path = Path(source)
    if not path.exists():
        raise ModelImportError(f"{source}: not found; expected {'; '.join(FORMATS)}")
    return _read(path, input_size)


def _read(path: Path, input_size: tuple[int, int] | None) -> Source:
    found = _reader(path, input_size)(path)
    facts, warnings = companions.beside(path)
    return replace(
        found, facts=found.facts.filled_from(facts), warnings=(*found.warnings, *warnings)
    )


def _reader(path: Path, input_size: tuple[int, int] | None) -> Read:
    """The function that reads what is at a path."""
    readers: tuple[tuple[Callable[[Path], bool], Read], ...] = (
        (onnx_files.matches, onnx_files.read),
        (tflite_files.matches, tflite_files.read),
        (openvino_files.matches, openvino_files.read),
        (keras_files.matches, lambda file: keras_files.read(file, input_size)),
        (saved_models.matches, saved_models.read),
        (keras_hub_presets.matches, lambda folder: keras_hub_presets.read(folder, input_size)),
        (hugging_face.matches, hugging_face.read),
        (pytorch.matches, pytorch.read),
    )
    for matches, read_it in readers:
        if matches(path):
            return read_it
    raise ModelImportError(f"{path}: not known what it is; expected {'; '.join(FORMATS)}")
