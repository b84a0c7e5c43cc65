"""Options for running a network."""

from dataclasses import dataclass
from enum import Enum, auto


class EngineName(str, Enum):
    """Names of the engines.

    Attributes:
        AUTO: the fastest one on this machine.
        TENSORFLOW: TensorFlow, on a GPU if there is one.
        OPENVINO: OpenVINO, on a CPU.
        JAX: Keras on JAX, on a GPU if there is one.
        ONNXRUNTIME: ONNX Runtime, for imported ONNX networks, on a GPU if there is one.
        LITERT: LiteRT, for imported TFLite networks, on a CPU.
    """

    AUTO = "auto"
    TENSORFLOW = "tensorflow"
    OPENVINO = "openvino"
    JAX = "jax"
    ONNXRUNTIME = "onnxruntime"
    LITERT = "litert"


class Precision(str, Enum):
    """Precision of a network's arithmetic; its logits are always float32.

    Attributes:
        AUTO: the fastest one on this machine of those whose loss of quality is known.
        INT8: 8-bit integers, in networks that `citymask quantise` has made.
        BF16: bfloat16.
        F16: half precision, on GPUs.
        F32: single precision: masks are equal bit for bit in every run on a machine.
    """

    AUTO = "auto"
    INT8 = "int8"
    BF16 = "bf16"
    F16 = "f16"
    F32 = "f32"


class GpuPolicy(Enum):
    """What to do without a GPU.

    Attributes:
        IF_PRESENT: use the CPU.
        WANTED: log a warning and use the CPU.
        REQUIRED: raise an error.
    """

    IF_PRESENT = auto()
    WANTED = auto()
    REQUIRED = auto()


@dataclass(frozen=True)
class EngineOptions:
    """Options of an engine.

    Attributes:
        name: the engine.
        precision: of the network's arithmetic.
        gpu: what to do without a usable GPU.
        batch_size: photos in a batch; None: 1 on a CPU, by the available memory on a GPU.
        threads: cores to use; None: all that this process may use.
    """

    name: EngineName = EngineName.AUTO
    precision: Precision = Precision.AUTO
    gpu: GpuPolicy = GpuPolicy.IF_PRESENT
    batch_size: int | None = None
    threads: int | None = None


AUTOMATIC = EngineOptions()
"""The defaults."""


class EngineError(RuntimeError):
    """A model cannot be run on this machine with the requested options."""
