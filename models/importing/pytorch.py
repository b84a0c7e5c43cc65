"""PyTorch networks: their files are refused, and how to export ONNX is shown."""

from pathlib import Path
from typing import NoReturn

from models.importing.sources import ModelImportError

SUFFIXES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".safetensors")
"""Files that hold weights of PyTorch; all but the last kind are pickles, which are code."""

EXPORT = """\
    import torch
    model.eval()
    torch.onnx.export(model, torch.zeros(1, 3, 512, 1024), "network.onnx")"""
"""Exports ONNX in PyTorch."""

EXPORT_OF_TRANSFORMERS = """\
    import torch, transformers
    model = transformers.AutoModelForSemanticSegmentation.from_pretrained("{folder}").eval()
    torch.onnx.export(model, torch.zeros(1, 3, 512, 512), "{folder}/model.onnx")"""
"""The same for a folder of Hugging Face; the photo's size is that of its preprocessor."""


def matches(path: Path) -> bool:
    """Whether this is a file of PyTorch, by its name."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def read(path: Path) -> NoReturn:
    """Refuse the file.

    Raises:
        ModelImportError: always.
    """
    raise ModelImportError(
        f"{path}: weights of PyTorch, without the network that they are of, or a pickle, which may "
        f"run code: refused; export the network to ONNX where you trust it, and import that:\n"
        f"{EXPORT}"
    )
