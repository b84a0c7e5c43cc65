"""Handles of hubs (`hf://ORGANISATION/NAME`, `kaggle://...`): fetched where the user gives one."""

import os
from pathlib import Path

from models.importing.sources import ModelImportError
from models.texts import one_line

HUGGING_FACE, KAGGLE = "hf://", "kaggle://"
FORMS = ("hf://ORGANISATION/NAME", "kaggle://OWNER/MODEL/FRAMEWORK/VARIATION[/VERSION]")

NO_TELEMETRY = "HF_HUB_DISABLE_TELEMETRY"
"""Environment variable: `huggingface_hub` tells its hub nothing but what to fetch."""

FETCHED = [
    *("*.json", "README.md", "*.txt", "model.weights.h5", "task.weights.h5"),
    *("model.onnx*", "onnx/model.onnx*"),
]
"""Files of a repository of Hugging Face that are fetched: presets of KerasHub, and ONNX."""


def matches(source: str) -> bool:
    """Whether this is a handle."""
    return source.startswith((HUGGING_FACE, KAGGLE))


def name(handle: str) -> str:
    """What the model is called, without owner and version."""
    _, _, path = handle.partition("://")
    return path.split("/")[:4][-1]


def fetch(handle: str) -> Path:
    """Download what a handle stands for into the cache of its hub, and return the folder.

    Raises:
        ModelImportError: it cannot be fetched, or the hub's library is missing.
    """
    try:
        if handle.startswith(HUGGING_FACE):
            os.environ.setdefault(NO_TELEMETRY, "1")
            import huggingface_hub

            repository = handle.removeprefix(HUGGING_FACE)
            return Path(huggingface_hub.snapshot_download(repository, allow_patterns=FETCHED))
        import kagglehub

        return Path(kagglehub.model_download(handle.removeprefix(KAGGLE)))
    except ImportError as error:
        raise ModelImportError(
            f"{handle}: fetching it needs more packages: pip install 'citymask[hub]' ({error})"
        ) from error
    except Exception as error:  # The hubs' libraries raise many types of errors.
        raise ModelImportError(
            f"{handle}: cannot be fetched, expected {' or '.join(FORMS)}: {one_line(error)}"
        ) from error
