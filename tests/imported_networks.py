"""Networks as they were read by `models.importing`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import pytest

from models.importing.sources import ModelImportError, Source
from tests.peak_memory import peak_memory


def outputs(source: Source, photos: np.ndarray) -> list[np.ndarray]:
    """What the network of a source makes of normalised photos, in single precision."""
    text, values = source.files.values()
    model = openvino.Core().read_model(text, openvino.Tensor(np.frombuffer(values, np.uint8)))
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    return list(openvino.Core().compile_model(model, "CPU", config)(photos).to_tuple())


def refusal(read: Callable[[Path], Source], path: Path) -> str:
    """The one line with which a reader refuses a path, without taking memory for it."""
    with peak_memory() as grown, pytest.raises(ModelImportError) as caught:
        read(path)
    assert not grown or grown[0] < 128 << 20
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message
