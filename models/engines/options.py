"""What can be chosen about how a network is run."""

from dataclasses import dataclass
from enum import Enum, auto


class EngineName(str, Enum):
    """Engines by the names that users give them.

    Attributes:
        AUTO: the fastest one that this machine has.
        TENSORFLOW: TensorFlow, on a GPU where there is one.
        OPENVINO: OpenVINO, on a CPU.
        JAX: Keras on JAX.
    """

    AUTO = "auto"
    TENSORFLOW = "tensorflow"
    OPENVINO = "openvino"
    JAX = "jax"


class Precision(str, Enum):
    """Arithmetic of a network; its logits are always float32.

    Attributes:
        AUTO: half precision where the device is faster with it and the masks stay the same but for
            a few pixels in a thousand; else single precision.
        BF16: bfloat16.
        F32: single precision: the same masks, bit for bit, in every run on a machine.
    """

    AUTO = "auto"
    BF16 = "bf16"
    F32 = "f32"


class GpuPolicy(Enum):
    """What a process without a GPU does.

    Attributes:
        IF_PRESENT: segment on its CPU.
        WANTED: say so in the log and segment on its CPU.
        REQUIRED: refuse to segment.
    """

    IF_PRESENT = auto()
    WANTED = auto()
    REQUIRED = auto()


@dataclass(frozen=True)
class EngineOptions:
    """How a network is run.

    Attributes:
        name: which engine.
        precision: in which arithmetic.
        gpu: what to do where there is no GPU, or one that cannot be used.
        batch_size: photos in a batch; None: 1 on a CPU, on a GPU by its memory.
        threads: cores to use; None: all that this process may use.
    """

    name: EngineName = EngineName.AUTO
    precision: Precision = Precision.AUTO
    gpu: GpuPolicy = GpuPolicy.IF_PRESENT
    batch_size: int | None = None
    threads: int | None = None


AUTOMATIC = EngineOptions()
"""All left open."""


class EngineError(RuntimeError):
    """A model cannot be run on this machine as it was asked for."""
