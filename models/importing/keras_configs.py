"""Keras networks from their configuration and weights, without running what these may bring along.

A configuration names classes and functions, which Keras imports and calls: some of them run code
that the configuration holds, read files or fetch them. Only what networks are made of is accepted.
Nor does it take memory for more weights than there are.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.engines import devices
from models.importing.sources import ModelImportError
from models.texts import one_line
from models.weight_files import MAX_BYTES, shapes_in

if TYPE_CHECKING:
    import keras

MAX_CONFIG_BYTES = 8 << 20
"""Largest configuration, in bytes."""

REFUSED = {
    "Lambda": "code",
    "__lambda__": "code",
    "TFSMLayer": "a SavedModel from another folder",
    "JaxLayer": "code",
    "FlaxLayer": "code",
    "TorchModuleWrapper": "a pickle, which is code",
    "__typespec__": "classes of TensorFlow",
    "IndexLookup": "a file with words",
    "StringLookup": "a file with words",
    "IntegerLookup": "a file with words",
    "TextVectorization": "a file with words",
}
"""Classes that are refused, with what they may bring along."""

MODULES = frozenset(
    {
        *("activations", "constraints", "dtype_policies", "initializers", "layers", "models"),
        *("ops", "quantizers", "random", "regularizers"),
    }
)
"""Modules of Keras that networks are made of."""

VALUES = frozenset(
    {"__bytes__", "__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__"}
)
"""What stands for a value, not for a class."""

HUB = "keras_hub"
SEGMENTER = "ImageSegmenter"
HUB_CLASSES = ("Backbone", SEGMENTER, "ImageSegmenterPreprocessor", "ImageConverter")
"""Ends of the names of classes of KerasHub that networks for segmentation are made of."""

COMPILATION = "compile_config"
"""What a configuration says of training, which is not needed."""


def parse(content: bytes, where: str) -> dict[str, Any]:
    """Read a configuration, and check that it only names what networks are made of.

    Args:
        content: JSON.
        where: for messages.

    Returns:
        The configuration without what only concerns training.

    Raises:
        ModelImportError: it is damaged or too large, or names something else.
    """
    if len(content) > MAX_CONFIG_BYTES:
        raise ModelImportError(
            f"{where}: {len(content)} bytes, expected {MAX_CONFIG_BYTES} at most"
        )
    try:
        config = json.loads(content, object_hook=_without_compilation)
        for stated in _objects(config):
            if refused := _refused(stated):
                raise ModelImportError(f"{where}: {refused}")
    except (ValueError, RecursionError) as error:
        if isinstance(error, ModelImportError):
            raise
        raise ModelImportError(f"{where}: no configuration, or damaged: {error}") from error
    if not isinstance(config, dict) or "class_name" not in config:
        raise ModelImportError(f"{where}: no configuration of a Keras network")
    return config


def load(config: dict[str, Any], weights: Sequence[Path], where: str) -> "keras.Model":
    """Build a network whose configuration is checked, once it is known that the weights fill it.

    Args:
        config: from `parse`.
        weights: files that hold the network's arrays; they are not read into it.
        where: for messages.

    Raises:
        ModelImportError: the configuration is invalid, or the weights lack arrays.
        EngineError: TensorFlow cannot be imported.
    """
    _import(where, needs_hub=any(_is_of_hub(stated) for stated in _objects(config)))
    held: Counter[tuple[int, ...]] = Counter()
    for file in weights:
        if file.stat().st_size > MAX_BYTES:
            raise ModelImportError(f"{where}: {file.name} has more than {MAX_BYTES} bytes")
        try:
            held.update(shapes_in(file))
        except ValueError as error:
            raise ModelImportError(f"{where}: {file.name}: {error}") from error
    lacking = Counter(_outlined(config, where)) - held
    if lacking:
        shape, number = max(lacking.items(), key=lambda item: math.prod(item[0]))
        raise ModelImportError(
            f"{where}: the weights lack {number} of the arrays of the shape {list(shape)} that the "
            "network has: they are those of another network, or cut short"
        )
    return _build(config, where)


def fill(network: "keras.Model", weights: Path, where: str) -> None:
    """Read weights into a network.

    Raises:
        ModelImportError: they do not fit.
    """
    try:
        network.load_weights(weights)
    except Exception as error:  # Keras raises many types of errors.
        raise ModelImportError(f"{where}: the weights do not fit: {one_line(error)}") from error


def _import(where: str, needs_hub: bool) -> None:
    """Import what builds networks."""
    devices.import_tensorflow()
    if devices.keras_backend() != devices.TENSORFLOW:
        raise ModelImportError(
            f"{where}: Keras runs on {devices.keras_backend()}, and networks are converted from "
            f"TensorFlow graphs: set {devices.KERAS_BACKEND}={devices.TENSORFLOW}"
        )
    if needs_hub:
        try:
            import keras_hub  # noqa: F401
        except ImportError as error:
            raise ModelImportError(
                f"{where}: the network needs KerasHub: pip install 'citymask[hub]' ({error})"
            ) from error


def _outlined(config: dict[str, Any], where: str) -> list[tuple[int, ...]]:
    """The shapes of a network's arrays, without memory for them."""
    import keras

    def shapes() -> list[tuple[int, ...]]:
        with keras.StatelessScope(initialize_variables=False):
            return [tuple(variable.shape) for variable in _build(config, where).weights]

    # Keras fills these arrays later on, in the same thread: so they belong to one that ends.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(shapes).result()


def _build(config: dict[str, Any], where: str) -> "keras.Model":
    import keras

    try:
        config = json.loads(json.dumps(config))  # Some classes change what they are given.
        if _is_of_hub(config) and config["class_name"].endswith(SEGMENTER):
            config["config"]["compile"] = False
        network = keras.saving.deserialize_keras_object(config)
    except Exception as error:  # Keras raises many types of errors.
        raise ModelImportError(
            f"{where}: Keras {keras.__version__} cannot build the network: {one_line(error)}"
        ) from error
    if not isinstance(network, keras.Model):
        raise ModelImportError(f"{where}: a {type(network).__name__}, expected a Keras model")
    return network


def _without_compilation(stated: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in stated.items() if key != COMPILATION}


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """All parts of a configuration that stand for an object."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        for part in value.values():
            yield from _objects(part)
    elif isinstance(value, list):
        for part in value:
            yield from _objects(part)


def _is_of_hub(stated: dict[str, Any]) -> bool:
    return str(stated.get("module")).split(".")[0] == HUB


def _refused(stated: dict[str, Any]) -> str | None:
    """Say why an object cannot be accepted, if so."""
    name, module, registered = (
        str(stated.get(key)) for key in ("class_name", "module", "registered_name")
    )
    if name in REFUSED:
        return (
            f"the network has a {name}, which may hold {REFUSED[name]}: refused; build it of "
            "layers of Keras and save it again"
        )
    if name in VALUES:
        return None
    function = stated.get("config") if name == "function" else name
    named = function if module == "builtins" and name == "function" else f"{module}.{function}"
    expected = {"None", name, str(function)}
    root, *inner = module.split(".")
    if _is_of_hub(stated):
        known = inner[:2] == ["src", "models"] and name.endswith(HUB_CLASSES)
        expected.add(f"{HUB}>{name}")
    elif root == "keras":
        known = not inner or next(iter(inner[inner[0] == "src" :]), "") in MODULES
    else:
        known = module == "builtins" and name == "function"
    if known and registered in expected and ">" not in str(function):
        return None
    return (
        f"the network has {named} ({registered}), which is no part of Keras: refused, since it "
        "would be code of another package; build it of layers of Keras and save it again"
    )
