"""What describes a model, and a package as it was read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import tflite
from models.classes import ClassTable
from models.graphs import Format, Graph
from models.inputs import InputSize
from models.networks import FIRST_CHANNELS, build_network, scale_channels
from models.packages.documents import DESCRIPTION_FILE, PackageError, read_unchanged
from models.protobufs import parts
from models.weight_files import Shape, shapes_in

if TYPE_CHECKING:
    import keras

INT8 = "int8"
"""Precision of a network that computes in 8-bit integers."""

LOSS = "loss"
"""Key of the mIoU that a precision loses."""

RANDOM_INITIALIZERS = ("glorot_uniform", "he_normal")
"""Names of Keras initialisers of the networks' layers that draw random values."""

# Numbers of fields in onnx/onnx.proto: the tensors of a graph, those of its nodes, and in a tensor
# where its values are if they are in another file.
EXTERNAL_DATA = ((7, 5, 13), (7, 1, 5, 5, 13))

WEIGHTS_FILE = "model.weights.h5"
SHIPPED = Path(__file__).parents[1] / "weights"
"""Folder of the shipped packages."""


@dataclass(frozen=True)
class NetworkFiles:
    """The network of a package in another form: an OpenVINO IR, which is data and no code.

    Attributes:
        format: `Format.OPENVINO`.
        precision: of its arithmetic, `INT8`.
        files: SHA-256 by the name of each file; the first one describes the network.
        made: tool, calibration and other facts for users.
    """

    format: Format
    precision: str
    files: dict[str, str]
    made: dict[str, Any]


@dataclass(frozen=True)
class Calibration:
    """What a model's probabilities are worth, found by `citymask calibrate` on labelled photos.

    Attributes:
        temperature: what logits are divided by before their softmax.
        ece_before: expected calibration error without it, 0..1.
        ece_after: the same with it.
        unlike_above: a photo whose uncertainty is above it is unlike those photos; see
            `models.uncertainty`.
        made: tool, data and other facts for users.
    """

    temperature: float
    ece_before: float
    ece_after: float
    unlike_above: float
    made: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """What describes a model, apart from its weights.

    Attributes:
        name: short name, part of `model_id`.
        architecture: a key of `models.networks.ARCHITECTURES`; of a graph, any text.
        width: factor on the channels of the architecture.
        input_height: nominal rows of the network input; of a graph that is not open, its only ones.
        input_width: nominal columns of the network input, likewise.
        mean: per RGB channel, of photos scaled to 0..1.
        std: per RGB channel, of photos scaled to 0..1.
        classes: the classes of the network's outputs, in their order.
        training: data, licence, seed, commands and other facts for users.
        metrics: measured quality, with the split it was measured on.
        graph: the network, if it was imported; there are no Keras weights then.
        networks: the same network in other forms.
        precisions: by precision, measured quality and its loss, see `loss`.
        calibration: of its probabilities, if that was done.
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
    calibration: Calibration | None = None

    @property
    def imported(self) -> Graph:
        """The graph of a model that was imported; only such models are asked for it."""
        assert self.graph is not None, "the description of an imported network"
        return self.graph

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
    def input_size(self) -> InputSize:
        """The size to which photos are brought for the network."""
        if self.graph is None:
            return InputSize(self.input_width, self.input_height)
        red, green, blue = (min(max(round(255 * of), 0), 255) for of in self.mean)
        return InputSize(
            self.input_width,
            self.input_height,
            self.graph.input.resize,
            self.graph.input.open,
            (red, green, blue),
        )

    @property
    def nominal_shape(self) -> tuple[int, int]:
        """The network input shape `(height, width)` for a photo of the nominal size."""
        return self.input_size.nominal_shape

    @property
    def network_files(self) -> tuple[str, ...]:
        """Names of the files of the network itself."""
        return tuple(self.graph.files) if self.graph else (WEIGHTS_FILE,)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files of the package; the description comes last."""
        others = (name for network in self.networks for name in network.files)
        return *self.network_files, *others, DESCRIPTION_FILE

    @property
    def network_bytes(self) -> int:
        """Size of the files of the network itself."""
        return sum((self.path / name).stat().st_size for name in self.network_files)

    def network_in(self, precision: str) -> NetworkFiles | None:
        """The form of the network with a precision of its own; None if the package has none."""
        return next((found for found in self.networks if found.precision == precision), None)

    def read_files(self, network: NetworkFiles | Graph) -> tuple[bytes, ...]:
        """The content of the files of a network; raises PackageError if one was changed."""
        return tuple(
            read_unchanged(self.path / name, stated) for name, stated in network.files.items()
        )

    def read_graph(self) -> tuple[bytes, ...]:
        """The content of the files of an imported network.

        Raises:
            PackageError: the network was not imported, or a file was changed or is damaged.
        """
        if self.graph is None:
            raise PackageError(f"{self.path}: a trained network, which has no graph of other tools")
        content = self.read_files(self.graph)
        try:  # Libraries do not check all that they rely on.
            if self.graph.format is Format.TFLITE:
                tflite.parse(content[0])
            elif self.graph.format is Format.ONNX:
                _check_weights_are_in(content[0])
        except ValueError as error:
            raise PackageError(f"{self.path / self.network_files[0]}: {error}") from error
        return content

    def build_network(self) -> "keras.Model":
        """Build the Keras network of this package and load its weights.

        It takes normalised float32 photos `(N, h, w, 3)` and returns float32 logits
        `(N, h / stride, w / stride, classes)`.

        Raises:
            PackageError: the weights do not fit the architecture or the class table, or the network
                was imported.
        """
        if self.graph:
            raise PackageError(
                f"{self.path}: an imported {self.graph.format.value} network, which has no Keras "
                "weights: choose a model that `citymask train` has made"
            )
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


def _check_weights_are_in(onnx: bytes) -> None:
    """Raise ValueError if an ONNX network keeps weights in other files, or is damaged."""
    for path in EXTERNAL_DATA:
        for _ in parts(memoryview(onnx), *path):
            raise ValueError(
                "it keeps weights in other files: import the network again, which puts them in"
            )
