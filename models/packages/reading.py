"""Reading a package: everything in it is checked before anything of it is used."""

import hashlib
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.classes import IGNORE, ClassTable, SegmentationClass
from models.graphs import (
    SUFFIXES,
    Channels,
    Format,
    Gives,
    Graph,
    GraphInput,
    GraphOutput,
    Layout,
    Resize,
)
from models.inputs import SHAPE_MULTIPLE
from models.networks import ARCHITECTURES
from models.packages.descriptions import (
    SHIPPED,
    WEIGHTS_FILE,
    Calibration,
    ModelPackage,
    NetworkFiles,
)
from models.packages.documents import (
    CALIBRATION,
    DESCRIPTION_FILE,
    GRAPH,
    NETWORKS,
    PRECISIONS,
    WEIGHTS_SHA256,
    PackageError,
    identity,
    read_document,
    read_unchanged,
)

MAX_INPUT_PIXELS = 1 << 23
"""Largest area of the network input: 4096 x 2048 pixels."""

MAX_NAME_BYTES = 200
"""Longest name of a model or class, in UTF-8; names of folders are made of a model's."""

READABLE = (".md", ".txt", ".csv", ".png", ".jpg", ".json")
"""Suffixes of files that a package may hold for people."""


def load_package(name_or_path: str | Path) -> ModelPackage:
    """Read and check a package, by the name of a shipped one or the path of a folder.

    Raises:
        PackageError: there is no such package, or it is incomplete, damaged or contains code.
    """
    path = SHIPPED / name_or_path
    if not (path / DESCRIPTION_FILE).is_file():
        path = Path(name_or_path)
    if not path.is_dir():
        raise PackageError(
            f"unknown model {str(name_or_path)!r}: neither a shipped model "
            f"({', '.join(shipped_names())}) nor a folder with a {DESCRIPTION_FILE}"
        )
    _check_there(path, DESCRIPTION_FILE)
    document = read_document(path)
    try:
        graph = _graph_of(document)
        stated = network_files(document, graph)
        for name in stated:
            _check_there(path, name)
        content = b"".join(read_unchanged(path / name, of) for name, of in stated.items())
        package = ModelPackage(
            path=path,
            name=_name(document["name"]),
            architecture=document["architecture"],
            width=float(document.get("width", 1)),
            input_height=document["input_height"],
            input_width=document["input_width"],
            mean=tuple(document["mean"]),
            std=tuple(document["std"]),
            classes=classes_of(document),
            training=document["training"],
            metrics=document["metrics"],
            graph=graph,
            networks=tuple(map(_network_of, document.get(NETWORKS, ()))),
            precisions=document.get(PRECISIONS, {}),
            calibration=Calibration(**document[CALIBRATION]) if CALIBRATION in document else None,
            fingerprint=hashlib.sha256(identity(path, document) + content).hexdigest(),
        )
        _check_sense(package, document["outputs"])
    except PackageError:
        raise
    except ValueError as error:
        raise PackageError(f"{path / DESCRIPTION_FILE}: {error}") from error
    _refuse_code(package)
    if not graph:
        package.check_weights()
    for network in package.networks:
        package.read_files(network)
    return package


def files_of(folder: Path) -> tuple[str, ...]:
    """Names of the files of the package in a folder, by its description alone.

    Raises:
        PackageError: there is no description, or it is damaged.
    """
    document = read_document(folder)
    try:
        graph = _graph_of(document)
        networks = [_network_of(value) for value in document.get(NETWORKS, ())]
    except ValueError as error:
        raise PackageError(f"{folder / DESCRIPTION_FILE}: {error}") from error
    others = (name for network in networks for name in network.files)
    return *network_files(document, graph), *others


def network_files(document: Mapping[str, Any], graph: Graph | None) -> dict[str, str]:
    """SHA-256 by the name of each file of the network itself, as a description states them.

    Args:
        document: the description.
        graph: of an imported network.
    """
    return graph.files if graph else {WEIGHTS_FILE: document[WEIGHTS_SHA256]}


def classes_of(document: Mapping[str, Any]) -> ClassTable:
    """Return the classes of a package's description, which follows the schema.

    Raises:
        ValueError: a name, colour or label id is given twice, or a name is too long.
    """
    return ClassTable(
        tuple(
            SegmentationClass(_name(of["name"]), tuple(of["color"]), of.get("label_id"))
            for of in document["classes"]
        )
    )


def shipped_names() -> list[str]:
    """Names of the shipped packages."""
    return sorted(entry.parent.name for entry in SHIPPED.glob(f"*/{DESCRIPTION_FILE}"))


def _check_there(path: Path, name: str) -> None:
    if not (path / name).is_file():
        raise PackageError(f"{path}: no {name}; a model package needs it")


def _graph_of(document: Mapping[str, Any]) -> Graph | None:
    if GRAPH not in document:
        return None
    stated = document[GRAPH]
    taken, given = dict(stated["input"]), dict(stated["output"])
    taken |= {
        "layout": Layout(taken["layout"]),
        "channels": Channels(taken["channels"]),
        "resize": Resize(taken["resize"]),
    }
    given |= {
        "layout": Layout(given["layout"]),
        "gives": Gives(given["gives"]),
        "channels": tuple(given["channels"]),
    }
    format = Format(stated["format"])
    files = _checked(format, stated["files"])
    return Graph(format, stated["precision"], files, GraphInput(**taken), GraphOutput(**given))


def _network_of(stated: Mapping[str, Any]) -> NetworkFiles:
    format = Format(stated["format"])
    files = _checked(format, stated["files"])
    return NetworkFiles(format, stated["precision"], files, stated["made"])


def _checked(format: Format, files: Mapping[str, str]) -> dict[str, str]:
    expected = SUFFIXES[format]
    if tuple(Path(name).suffix for name in files) != expected:
        raise ValueError(
            f"found the files {', '.join(files)} of a network in the format {format.value}, "
            f"expected one {' and one '.join(expected)} file"
        )
    return dict(files)


def _check_sense(package: ModelPackage, outputs: int) -> None:
    """Check what the schema cannot; raises ValueError."""
    classes, graph = len(package.classes), package.graph
    if outputs != classes:
        raise ValueError(
            f"{classes} classes for a network with {outputs} outputs; give each output one class, "
            "in order"
        )
    width, height = package.input_width, package.input_height
    if width * height > MAX_INPUT_PIXELS:
        raise ValueError(
            f"found the input {width}x{height}, {width * height} pixels, "
            f"expected at most {MAX_INPUT_PIXELS}"
        )
    if graph is None:
        if package.architecture not in ARCHITECTURES:
            raise ValueError(
                f"unknown architecture {package.architecture!r}; "
                f"this program knows {', '.join(sorted(ARCHITECTURES))}"
            )
        return
    channels, told_apart = graph.output.channels, graph.output.outputs
    are_ids = graph.output.gives is Gives.CLASS_IDS
    if are_ids:
        told_apart = min(told_apart, IGNORE)  # The ids of masks have 8 bits.
    if told_apart == 1 and not are_ids:
        if classes != 2:
            raise ValueError(f"{classes} classes for the one output of a network, expected 2")
    elif len(channels) != classes or max(channels) >= told_apart:
        raise ValueError(
            f"found the output channels {list(channels)} of {classes} classes, expected one for "
            f"each class, below {told_apart}"
        )
    if graph.input.resize is Resize.KEEP_ASPECT and not graph.input.open:
        raise ValueError(
            f"resize {graph.input.resize.value} is for networks that take any size; choose "
            f"{Resize.STRETCH.value} or {Resize.PAD.value}"
        )
    if graph.input.open and (width % SHAPE_MULTIPLE or height % SHAPE_MULTIPLE):
        raise ValueError(
            f"found the input {width}x{height} of a network that takes any size, expected "
            f"multiples of {SHAPE_MULTIPLE}"
        )


def _refuse_code(package: ModelPackage) -> None:
    foreign = sorted(
        entry.name
        for entry in package.path.iterdir()
        if entry.is_file() and entry.name not in package.files and entry.suffix not in READABLE
    )
    if foreign:
        raise PackageError(
            f"{package.path}: found {', '.join(foreign)}; a model package holds "
            f"{', '.join(sorted(package.files))}, and files that may contain code are refused"
        )


def _name(name: str) -> str:
    if len(name.encode(errors="surrogatepass")) > MAX_NAME_BYTES:
        raise ValueError(
            f"found the name {reprlib.repr(name)}, expected a text of 1 to {MAX_NAME_BYTES} bytes"
        )
    return name
