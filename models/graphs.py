"""Imported networks: graphs in the formats of other tools, what they take and what they give.

A graph is data, no code: ONNX, TFLite (LiteRT) or an OpenVINO IR. Its file rarely tells all that is
needed to feed it photos, so a package states it: `models.packages` keeps it in `model.json`, and
`citymask import` finds it out.
"""

from dataclasses import dataclass
from enum import Enum


class Format(str, Enum):
    """Formats of graphs.

    Attributes:
        OPENVINO: an intermediate representation (IR) of OpenVINO, an .xml and a .bin file.
        ONNX: an .onnx file that holds its weights.
        TFLITE: a .tflite file.
    """

    OPENVINO = "openvino"
    ONNX = "onnx"
    TFLITE = "tflite"


SUFFIXES = {
    Format.OPENVINO: (".xml", ".bin"),
    Format.ONNX: (".onnx",),
    Format.TFLITE: (".tflite",),
}
"""The files of each format; the first one describes the network."""


class Layout(str, Enum):
    """Order of the axes of photos and scores: N photos, C channels, H rows, W columns.

    Class ids have no axis of channels, or one of length 1 in either place.
    """

    NHWC = "NHWC"
    NCHW = "NCHW"


class Channels(str, Enum):
    """Order of the colour channels of a photo."""

    RGB = "RGB"
    BGR = "BGR"


class Gives(str, Enum):
    """What a network computes for each pixel.

    Attributes:
        LOGITS: a score for each class, whose softmax are probabilities.
        PROBABILITIES: a probability for each class.
        CLASS_IDS: the number of the class.
    """

    LOGITS = "logits"
    PROBABILITIES = "probabilities"
    CLASS_IDS = "class ids"


class Resize(str, Enum):
    """How photos are brought to the size of the network's input.

    Attributes:
        STRETCH: to the input shape, or of an open network to the shape with the nearest ratio.
        KEEP_ASPECT: to a shape with the photo's own ratio; for networks with an open input.
        PAD: scaled until it fits, and padded with the mean colour at the bottom or the right.
    """

    STRETCH = "stretch"
    KEEP_ASPECT = "keep-aspect"
    PAD = "pad"


@dataclass(frozen=True)
class GraphInput:
    """The input of a network: photos that are normalised to `(rgb / 255 - mean) / std`.

    Attributes:
        name: of the tensor.
        dtype: NumPy's name of the type of its elements: uint8, int8, float16 or float32.
        layout: order of the axes.
        channels: order of the colours.
        open: whether it takes photos of any size in multiples of `inputs.SHAPE_MULTIPLE`; else
            the input size of the package is the only one.
        resize: how photos are brought to its size.
        scale: of a quantised input, which takes `normalised / scale + zero_point`, rounded.
        zero_point: see `scale`.
    """

    name: str
    dtype: str
    layout: Layout
    channels: Channels
    open: bool
    resize: Resize
    scale: float = 1.0
    zero_point: int = 0


@dataclass(frozen=True)
class GraphOutput:
    """The output of a network.

    Attributes:
        name: of the tensor.
        layout: order of the axes.
        gives: what its numbers are.
        outputs: number of channels, or of class ids, that the network tells apart. With a single
            one and two classes, the channel is the score of the second class.
        channels: the channel or class id of each class; others are left out.
        scale: of a quantised output, which stands for `(value - zero_point) * scale`.
        zero_point: see `scale`.
    """

    name: str
    layout: Layout
    gives: Gives
    outputs: int
    channels: tuple[int, ...]
    scale: float = 1.0
    zero_point: int = 0


@dataclass(frozen=True)
class Graph:
    """An imported network.

    Attributes:
        format: of its files.
        precision: of its arithmetic and weights: `f32`, `f16` or `int8`.
        files: SHA-256 by the name of each file; the first one describes the network.
        input: what it takes.
        output: what it gives.
    """

    format: Format
    precision: str
    files: dict[str, str]
    input: GraphInput
    output: GraphOutput
