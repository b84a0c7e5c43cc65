"""Folders of Hugging Face's transformers: `config.json`, and an ONNX file if it was exported.

Weights alone (safetensors or pickles) need the code of their network. KerasHub has that of some
networks, but of none for segmentation among those that it converts (0.32).
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.importing import companions, onnx_files
from models.importing.companions import CONFIG, MAX_BYTES, ONNX_FOLDER
from models.importing.pytorch import EXPORT_OF_TRANSFORMERS
from models.importing.sources import ModelImportError, Source

ONNX_FILES = ("model.onnx", f"{ONNX_FOLDER}/model.onnx")
"""Where transformers and its exporters put the network."""

MODEL_TYPE = "model_type"
"""Key of `config.json` that names the kind of network."""


def matches(path: Path) -> bool:
    """Whether this is a folder of transformers, by its configuration."""
    return MODEL_TYPE in _config(path)


def read(path: Path) -> Source:
    """Read the ONNX file of a folder. What the other files state goes before what this one does.

    Raises:
        ModelImportError: there is none, or it is refused.
    """
    for name in ONNX_FILES:
        if (path / name).is_file():
            source = onnx_files.read(path / name)
            stated, _ = companions.beside(path)
            return replace(source, facts=stated.filled_from(source.facts))
    raise ModelImportError(
        f"{path}: a {_config(path)[MODEL_TYPE]} of transformers without {' or '.join(ONNX_FILES)}; "
        "KerasHub converts no network for segmentation from its weights: export it to ONNX where "
        f"you trust it, and import the folder again:\n{EXPORT_OF_TRANSFORMERS.format(folder=path)}"
    )


def _config(path: Path) -> dict[str, Any]:
    file = path / CONFIG
    try:
        if file.stat().st_size <= MAX_BYTES:
            stated = json.loads(file.read_bytes())
            return stated if isinstance(stated, dict) else {}
    except (OSError, ValueError, RecursionError):
        pass
    return {}
