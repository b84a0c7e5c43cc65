"""Model packages: a folder with Keras weights and a JSON file that describes them.

A package holds no code: `model.json` names an architecture of `models.networks`, and the weights
are plain arrays (Keras `.weights.h5`, half precision). Folders with pickles, Keras archives or
saved graphs are refused, so that a model from an untrusted source cannot run code.

Since format 2 it may hold the same network in other forms as well, see `NetworkFiles`, and what
each precision loses. Neither affects the fingerprint: it tells which weights and classes made a
mask, and a row tells the precision.
"""

import hashlib
import json
import operator
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.classes import IGNORE, ClassTable, SegmentationClass
from models.graphs import Graph
from models.inputs import network_shape
from models.networks import (
    ARCHITECTURES,
    FIRST_CHANNELS,
    build_network,
    scale_channels,
)
from models.weight_files import MAX_BYTES, Shape, shapes_in

if TYPE_CHECKING:
    import keras

FORMAT_VERSION = 2
"""Version of the format of `model.json`; version 1, which has neither of `ADDED`, is read too."""

NETWORKS, PRECISIONS = "networks", "precisions"
ADDED = (NETWORKS, PRECISIONS)
"""Keys of format 2. They are left out of the fingerprint."""

MAX_INPUT_SIDE = 16_384
"""Largest height and width of the network input, in pixels."""

MAX_INPUT_PIXELS = 1 << 23
"""Largest area of the network input: 4096 x 2048 pixels."""

MIN_WIDTH, MAX_WIDTH = 1e-3, 8
"""Least and largest factor on the channels of an architecture."""

MAX_NAME_BYTES = 200
"""Longest name of a model or class, in UTF-8; names of folders are made of a model's."""

MAX_DESCRIPTION_BYTES = 64 << 20
"""Largest `model.json`, in bytes."""

OPENVINO = "openvino"
"""Format of a network: an intermediate representation (IR) of OpenVINO, an .xml and a .bin file."""

INT8 = "int8"
"""Precision of a network that computes in 8-bit integers."""

LOSS = "loss"
"""Key of the mIoU that a precision loses."""

RANDOM_INITIALIZERS = ("glorot_uniform", "he_normal")
"""Names of Keras initialisers of the networks' layers that draw random values."""

DESCRIPTION_FILE = "model.json"
WEIGHTS_FILE = "model.weights.h5"
SHIPPED = Path(__file__).parent / "weights"
"""Folder of the shipped packages."""


class PackageError(ValueError):
    """A model package is unknown, incomplete, damaged or refused."""


@dataclass(frozen=True)
class NetworkFiles:
    """The network of a package in another form: an OpenVINO IR, which is data and no code.

    Attributes:
        format: `OPENVINO`.
        precision: of its arithmetic, `INT8`.
        files: SHA-256 by the name of each file; the first one describes the network.
        made: tool, calibration and other facts for users.
    """

    format: str
    precision: str
    files: dict[str, str]
    made: dict[str, Any]

    @classmethod
    def parse(cls, value: Any) -> "NetworkFiles":
        """An entry of `networks`; raises KeyError, TypeError or ValueError if it is none."""
        found = cls(
            value["format"], value["precision"], dict(value["files"]), _facts("made", value["made"])
        )
        if (found.format, found.precision) != (OPENVINO, INT8):
            raise ValueError(
                f"found a network in the format {found.format!r} and precision "
                f"{found.precision!r}, this program knows {OPENVINO!r} and {INT8!r}"
            )
        suffixes = [Path(name).suffix for name in found.files]
        if suffixes != [".xml", ".bin"] or any(Path(name).name != name for name in found.files):
            raise ValueError(
                f"found the files {', '.join(map(reprlib.repr, found.files)) or 'none'} of a "
                "network, expected the names of an .xml and a .bin file"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """What describes a model, apart from its weights.

    Attributes:
        name: short name, part of `model_id`.
        architecture: a key of `models.networks.ARCHITECTURES`.
        width: factor on the channels of the architecture.
        input_height: nominal rows of the network input.
        input_width: nominal columns of the network input.
        mean: per RGB channel, of photos scaled to 0..1.
        std: per RGB channel, of photos scaled to 0..1.
        classes: the classes of the network's outputs, in their order.
        training: data, licence, seed, commands and other facts for users.
        metrics: measured quality, with the split it was measured on.
        graph: the network, if it was imported; it has no Keras weights then.
        networks: the same network in other forms.
        precisions: by precision, measured quality and its loss, see `loss`.
    """

    name: str
    architecture: str
    width: float
    input_height: int
    input_width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classes: ClassTable
    training: dict[str, Any]
    metrics: dict[str, Any]
    graph: Graph | None = None
    networks: tuple[NetworkFiles, ...] = ()
    precisions: dict[str, dict[str, Any]] = field(default_factory=dict)

    def loss(self, precision: str) -> float | None:
        """How much mIoU a precision loses against single precision, 0..1; None if not measured."""
        return self.precisions.get(precision, {}).get(LOSS)


@dataclass(frozen=True, kw_only=True)
class ModelPackage(ModelDescription):
    """A model package as read from its folder; weights are read by `build_network`.

    Attributes:
        path: the folder.
        fingerprint: SHA-256 of the description and the weights, hexadecimal.
    """

    path: Path
    fingerprint: str

    @property
    def model_id(self) -> str:
        """The name, for people, and the start of the fingerprint, for machines.

        Rows carry it with what a run chose about the masks, see `MaskOptions.model_id`.
        """
        return f"{self.name}@{self.fingerprint[:12]}"

    @property
    def nominal_shape(self) -> tuple[int, int]:
        """The network input shape `(height, width)` for a photo of the nominal size."""
        width, height = self.input_width, self.input_height
        return network_shape(width, height, width, height)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files of the package; the description comes last."""
        others = (name for network in self.networks for name in network.files)
        return WEIGHTS_FILE, *others, DESCRIPTION_FILE

    @property
    def weights_bytes(self) -> int:
        """Size of the weights file."""
        return (self.path / WEIGHTS_FILE).stat().st_size

    def network_in(self, precision: str) -> NetworkFiles | None:
        """The form of the network with a precision of its own; None if the package has none."""
        return next((found for found in self.networks if found.precision == precision), None)

    def read_files(self, network: NetworkFiles) -> tuple[bytes, ...]:
        """The content of the files of a network; raises PackageError if one was changed."""
        return tuple(
            _read_unchanged(self.path / name, stated) for name, stated in network.files.items()
        )

    def build_network(self) -> "keras.Model":
        """Build the Keras network of this package and load its weights.

        It takes normalised float32 photos `(N, h, w, 3)` and returns float32 logits
        `(N, h / stride, w / stride, classes)`.

        Raises:
            PackageError: the weights do not fit the architecture or the class table.
        """
        import keras

        # On JAX to draw weights takes far longer than to read them.
        undrawn = dict.fromkeys(RANDOM_INITIALIZERS, keras.initializers.Zeros)
        with keras.saving.custom_object_scope(undrawn):
            network = build_network(self.architecture, len(self.classes), self.width)
        try:
            network.load_weights(self.path / WEIGHTS_FILE)
        except (OSError, KeyError, ValueError) as error:
            raise self._misfit("they are those of another network or damaged") from error
        return network

    def check_weights(self) -> None:
        """Check that the file holds what it states, and the width and the classes of the network.

        So no memory is taken for a network that is larger than its weights.

        Raises:
            PackageError: the weights do not fit the description.
        """
        shapes = self._shapes_in_file()
        if not any(len(self.classes) in shape for shape in shapes):
            raise self._misfit(
                f"no layer has as many outputs as there are {len(self.classes)} classes"
            )
        first = {shape[3] for shape in shapes if shape[:3] == (3, 3, 3)}
        if self.architecture not in FIRST_CHANNELS:
            return
        channels = scale_channels(FIRST_CHANNELS[self.architecture], self.width)
        if channels not in first:
            found = " or ".join(map(str, sorted(first))) or "none"
            raise self._misfit(
                f"channels of the first layer: {found} found, {channels} expected of that width"
            )

    def _shapes_in_file(self) -> list[Shape]:
        try:
            return shapes_in(self.path / WEIGHTS_FILE)
        except ValueError as error:
            raise self._misfit(str(error)) from error

    def _misfit(self, reason: str) -> PackageError:
        return PackageError(
            f"{self.path / WEIGHTS_FILE}: the weights do not fit {self.architecture} "
            f"(width {self.width}) with {len(self.classes)} classes: {reason}; "
            f"use {DESCRIPTION_FILE} and {WEIGHTS_FILE} of one training"
        )


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
    for name in (DESCRIPTION_FILE, WEIGHTS_FILE):
        if not (path / name).is_file():
            raise PackageError(f"{path}: no {name}; a model package needs it")
    description = _read_description(path)
    content = _read_unchanged(path / WEIGHTS_FILE, description["weights_sha256"])
    try:
        package = ModelPackage(
            path=path,
            name=_name(description["name"]),
            architecture=description["architecture"],
            width=_number("width", description["width"], MIN_WIDTH, MAX_WIDTH),
            input_height=_pixels("input_height", description["input_height"]),
            input_width=_pixels("input_width", description["input_width"]),
            mean=_per_channel("mean", description["mean"], -1e3, 1e3),
            std=_per_channel("std", description["std"], 1e-3, 1e3),
            classes=classes_of(description),
            training=_facts("training", description["training"]),
            metrics=_facts("metrics", description["metrics"]),
            networks=tuple(map(NetworkFiles.parse, description.get(NETWORKS, ()))),
            precisions=_precisions(description.get(PRECISIONS, {})),
            fingerprint=hashlib.sha256(_identity(path, description) + content).hexdigest(),
        )
        _check_area(package)
    except (KeyError, TypeError, ValueError) as error:
        raise PackageError(f"{path / DESCRIPTION_FILE}: {error}") from error
    _refuse_code(package)
    package.check_weights()
    for network in package.networks:
        package.read_files(network)
    return package


def files_of(folder: Path) -> tuple[str, ...]:
    """Names of the files of the package in a folder, by its description alone.

    Raises:
        PackageError: there is no description, or it is damaged.
    """
    description = _read_description(folder)
    try:
        networks = map(NetworkFiles.parse, description.get(NETWORKS, ()))
        return WEIGHTS_FILE, *(name for network in networks for name in network.files)
    except (KeyError, TypeError, ValueError) as error:
        raise PackageError(f"{folder / DESCRIPTION_FILE}: {error}") from error


def classes_of(description: Mapping[str, Any]) -> ClassTable:
    """Return the classes of a package's description.

    Raises:
        KeyError, TypeError, ValueError: the description of the classes is invalid.
    """
    return ClassTable(
        tuple(
            SegmentationClass(_name(c["name"]), _color(c["color"]), _label_id(c.get("label_id")))
            for c in description["classes"]
        )
    )


def write_package(
    directory: str | Path, network: "keras.Model", description: ModelDescription
) -> ModelPackage:
    """Write a package with the weights in half precision and return it as read back.

    Other forms of the network are left out, since they are those of other weights.

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
    document = {
        "format_version": FORMAT_VERSION,
        "name": description.name,
        "architecture": description.architecture,
        "width": description.width,
        "input_height": description.input_height,
        "input_width": description.input_width,
        "mean": description.mean,
        "std": description.std,
        "ignore_value": IGNORE,
        "outputs": network.output_shape[-1],
        "classes": [asdict(entry) for entry in description.classes.classes],
        "training": description.training,
        "metrics": description.metrics,
        "weights_sha256": hashlib.sha256((directory / WEIGHTS_FILE).read_bytes()).hexdigest(),
    }
    return _write_description(directory, document, (), description.precisions)


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
    directory.mkdir(parents=True, exist_ok=True)
    document = _read_description(package.path)
    weights = _read_unchanged(package.path / WEIGHTS_FILE, document["weights_sha256"])
    files = {WEIGHTS_FILE: weights}
    kept = [other for other in package.networks if other.precision != network.precision]
    for other in kept:
        files |= zip(other.files, package.read_files(other), strict=True)
    for name, data in (files | content).items():
        (directory / name).write_bytes(data)
    return _write_description(directory, document, (*kept, network), precisions)


def _write_description(
    directory: Path,
    document: dict[str, Any],
    networks: Sequence[NetworkFiles],
    precisions: Mapping[str, Mapping[str, Any]],
) -> ModelPackage:
    """Write `model.json`: a document with these `ADDED` keys."""
    text = _text(
        {
            **document,
            "format_version": FORMAT_VERSION,
            NETWORKS: [asdict(network) for network in networks],
            PRECISIONS: precisions,
        }
    )
    (directory / DESCRIPTION_FILE).write_bytes(text)
    return load_package(directory)


def shipped_names() -> list[str]:
    """Names of the shipped packages."""
    return sorted(entry.parent.name for entry in SHIPPED.glob(f"*/{DESCRIPTION_FILE}"))


def _refuse_code(package: ModelPackage) -> None:
    foreign = sorted(
        entry.name
        for entry in package.path.iterdir()
        if entry.is_file()
        and entry.name not in package.files
        and entry.suffix not in (".md", ".txt", ".csv", ".png", ".json")
    )
    if foreign:
        raise PackageError(
            f"{package.path}: found {', '.join(foreign)}; a model package holds "
            f"{', '.join(sorted(package.files))}, and files that may contain code are refused"
        )


def _read(file: Path, most: int) -> bytes:
    """The content of a file of at most so many bytes."""
    try:
        size = file.stat().st_size
        if size <= most:
            return file.read_bytes()
    except OSError as error:
        raise PackageError(f"{file}: cannot be read: {error.strerror}") from error
    raise PackageError(f"{file}: found {size} bytes, expected at most {most}")


def _read_unchanged(file: Path, stated: Any) -> bytes:
    """The content of a file, whose SHA-256 the description states."""
    content = _read(file, MAX_BYTES)
    if hashlib.sha256(content).hexdigest() != stated:
        raise PackageError(
            f"{file}: {len(content)} bytes with another SHA-256 than {DESCRIPTION_FILE} states; "
            "the file is truncated or changed: copy the package again"
        )
    return content


def _identity(path: Path, description: dict[str, Any]) -> bytes:
    """`model.json` without what was added by format 2, as the text of format 1."""
    if description["format_version"] == 1:
        return _read(path / DESCRIPTION_FILE, MAX_DESCRIPTION_BYTES)
    kept = {key: value for key, value in description.items() if key not in ADDED}
    return _text({**kept, "format_version": 1})


def _text(description: Mapping[str, Any]) -> bytes:
    return (json.dumps(description, indent=2, ensure_ascii=False) + "\n").encode()


def _precisions(value: Any) -> dict[str, dict[str, Any]]:
    for precision, facts in _facts(PRECISIONS, value).items():
        _number(f"loss of {reprlib.repr(precision)}", _facts(precision, facts)[LOSS], -1, 1)
    return value


def _name(value: Any) -> str:
    size = len(value.encode(errors="surrogatepass")) if isinstance(value, str) else 0
    if not 1 <= size <= MAX_NAME_BYTES:
        shown = reprlib.repr(value)
        raise ValueError(f"found the name {shown}, expected a text of 1 to {MAX_NAME_BYTES} bytes")
    return value


def _facts(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"found the {key} {reprlib.repr(value)}, expected an object")
    return value


def _number(key: str, value: Any, least: float, most: float) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not least <= value <= most:
        found = reprlib.repr(value)
        raise ValueError(f"found the {key} {found}, expected a number from {least:g} to {most:g}")
    return float(value)


def _pixels(key: str, value: Any) -> int:
    if isinstance(value, bool) or not 1 <= operator.index(value) <= MAX_INPUT_SIDE:
        raise ValueError(f"found the {key} {value}, expected 1 to {MAX_INPUT_SIDE} pixels")
    return value


def _check_area(described: ModelDescription) -> None:
    width, height = described.input_width, described.input_height
    if width * height > MAX_INPUT_PIXELS:
        raise ValueError(
            f"found the input {width}x{height}, {width * height} pixels, "
            f"expected at most {MAX_INPUT_PIXELS}"
        )


def _per_channel(key: str, values: Any, least: float, most: float) -> tuple[float, float, float]:
    red, green, blue = (_number(key, value, least, most) for value in values)
    return red, green, blue


def _color(channels: Any) -> tuple[int, int, int]:
    red, green, blue = map(operator.index, channels)
    return red, green, blue


def _label_id(value: Any) -> int | None:
    return None if value is None else operator.index(value)


def _read_description(path: Path) -> dict[str, Any]:
    file = path / DESCRIPTION_FILE
    try:
        description = json.loads(_read(file, MAX_DESCRIPTION_BYTES).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise PackageError(
            f"{file}: not valid JSON ({error}); the file is truncated or changed"
        ) from error
    if not isinstance(description, dict):
        raise PackageError(f"{file}: found a {type(description).__name__}, expected an object")
    missing = {
        "format_version", "name", "architecture", "width", "input_height", "input_width",
        "mean", "std", "outputs", "classes", "training", "metrics", "weights_sha256",
    } - description.keys()  # fmt: skip
    if missing:
        raise PackageError(f"{file}: missing {', '.join(sorted(missing))}")
    if description["format_version"] not in range(1, FORMAT_VERSION + 1):
        raise PackageError(
            f"{file}: format version {description['format_version']}, "
            f"this program reads versions 1 to {FORMAT_VERSION}"
        )
    if not isinstance(description["classes"], list):
        raise PackageError(f"{file}: the classes are not a list")
    if description["outputs"] != len(description["classes"]):
        raise PackageError(
            f"{file}: {len(description['classes'])} classes for a network with "
            f"{description['outputs']} outputs; give each output one class, in order"
        )
    if description["architecture"] not in list(ARCHITECTURES):
        raise PackageError(
            f"{file}: unknown architecture {description['architecture']!r}; "
            f"this program knows {', '.join(sorted(ARCHITECTURES))}"
        )
    return description
