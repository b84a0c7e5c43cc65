"""OpenVINO models in memory as networks that can be imported."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from models.importing import openvino_files
from models.importing.sources import ModelImportError, Source

if TYPE_CHECKING:
    import openvino


def source_of(model: "openvino.Model", where: str) -> Source:
    """Write a model with its weights as they are, and read the files.

    Args:
        model: it.
        where: it comes from, for messages.

    Raises:
        ModelImportError: it has what no network for segmentation has, see `openvino_files.read`.
    """
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, openvino_files.FILES[0])
        openvino.save_model(model, file, compress_to_fp16=False)
        try:
            return openvino_files.read(file)
        except ModelImportError as error:
            raise ModelImportError(str(error).replace(str(file), where)) from error
