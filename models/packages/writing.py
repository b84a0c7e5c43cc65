"""Writing packages."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.classes import IGNORE
from models.networks import build_network
from models.packages.descriptions import (
    WEIGHTS_FILE,
    Calibration,
    ModelDescription,
    ModelPackage,
    NetworkFiles,
)
from models.packages.documents import (
    CALIBRATION,
    DESCRIPTION_FILE,
    FORMAT_VERSION,
    GRAPH,
    NETWORKS,
    PRECISIONS,
    WEIGHTS_SHA256,
    read_document,
    read_unchanged,
    text_of,
)
from models.packages.reading import load_package, network_files

if TYPE_CHECKING:
    import keras


def write_package(
    directory: str | Path, network: "keras.Model", description: ModelDescription
) -> ModelPackage:
    """Write a package with the weights in half precision and return it as read back.

    Other forms of the network and a calibration are left out, as they are of other weights.

    Raises:
        ValueError: the network does not fit the description.
    """
    import keras

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float16")
    try:
        half = build_network(description.architecture, len(description.classes), description.width)
    finally:
        keras.config.set_dtype_policy(policy)
    half.set_weights(network.get_weights())
    half.save_weights(directory / WEIGHTS_FILE)
    weights = (directory / WEIGHTS_FILE).read_bytes()
    document = {
        **_described(description, network.output_shape[-1]),
        "width": description.width,
        WEIGHTS_SHA256: hashlib.sha256(weights).hexdigest(),
    }
    return _write(directory, document, (), description.precisions)


def write_graph(
    directory: str | Path, description: ModelDescription, content: Mapping[str, bytes]
) -> ModelPackage:
    """Write a package of an imported network and return it as read back.

    Args:
        directory: its folder.
        description: with a `graph`.
        content: the files of the graph.

    Raises:
        PackageError: the description makes no sense.
        OSError: it cannot be written.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (directory / name).write_bytes(data)
    described = _described(description, len(description.classes))
    document = {**described, GRAPH: asdict(description.imported)}
    return _write(directory, document, (), description.precisions)


def add_network(
    package: ModelPackage,
    directory: str | Path,
    network: NetworkFiles,
    content: dict[str, bytes],
    precisions: Mapping[str, Mapping[str, Any]],
) -> ModelPackage:
    """Write a package with the network in another form as well, and return it as read back.

    The fingerprint stays. A network of the same precision is replaced.

    Args:
        package: what is written apart from that.
        directory: its folder; the package's own one is possible.
        network: describes the network.
        content: its files.
        precisions: see `ModelDescription`.

    Raises:
        PackageError: the package was changed.
        OSError: it cannot be written.
    """
    directory = Path(directory)
    kept = [other for other in package.networks if other.precision != network.precision]
    document = _copy(package, directory, kept)
    for name, data in content.items():
        (directory / name).write_bytes(data)
    return _write(directory, document, (*kept, network), precisions)


def add_calibration(
    package: ModelPackage, directory: str | Path, calibration: Calibration
) -> ModelPackage:
    """Write a package with a calibration, in place of any other, and return it as read back.

    The fingerprint stays.

    Args:
        package: what is written apart from that.
        directory: its folder; the package's own one is possible.
        calibration: of its probabilities.

    Raises:
        PackageError: the package was changed.
        OSError: it cannot be written.
    """
    directory = Path(directory)
    document = _copy(package, directory, package.networks)
    calibrated = {**document, CALIBRATION: asdict(calibration)}
    return _write(directory, calibrated, package.networks, package.precisions)


def _copy(
    package: ModelPackage, directory: Path, networks: Sequence[NetworkFiles]
) -> dict[str, Any]:
    """Copy the files of a package, with these other forms of its network; return `model.json`."""
    document = read_document(package.path)
    stated = network_files(document, package.graph)
    files = {name: read_unchanged(package.path / name, of) for name, of in stated.items()}
    for network in networks:
        files |= zip(network.files, package.read_files(network), strict=True)
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return document


def _write(
    directory: Path,
    document: dict[str, Any],
    networks: Sequence[NetworkFiles],
    precisions: Mapping[str, Mapping[str, Any]],
) -> ModelPackage:
    """Write `model.json`: a document with these networks and precisions."""
    text = text_of(
        {
            **document,
            "format_version": FORMAT_VERSION,
            NETWORKS: [asdict(network) for network in networks],
            PRECISIONS: precisions,
        }
    )
    (directory / DESCRIPTION_FILE).write_bytes(text)
    return load_package(directory)


def _described(description: ModelDescription, outputs: int) -> dict[str, Any]:
    """The keys of `model.json` that trained and imported models have in common."""
    return {
        "format_version": FORMAT_VERSION,
        "name": description.name,
        "architecture": description.architecture,
        "input_height": description.input_height,
        "input_width": description.input_width,
        "mean": description.mean,
        "std": description.std,
        "ignore_value": IGNORE,
        "outputs": outputs,
        "classes": [asdict(entry) for entry in description.classes.classes],
        "training": description.training,
        "metrics": description.metrics,
    }
