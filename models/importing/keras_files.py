"""Keras archives (`.keras`): a zip file with a configuration and weights."""

import shutil
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from models.importing import keras_configs, keras_hub_presets, keras_networks
from models.importing.sources import Fact, Facts, ModelImportError, Source

if TYPE_CHECKING:
    import keras

SUFFIX = ".keras"
LEGACY_SUFFIXES = (".h5", ".hdf5")
"""Files of Keras 2, with configurations that may hold code."""

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
MEMBERS = (CONFIG, WEIGHTS, "metadata.json")
"""What an archive holds."""

LARGEST_SCALE = 0.1
"""A first layer that multiplies by less than this takes photos in 0..255."""


def matches(path: Path) -> bool:
    """Whether this is a file of a Keras network, by its name; those of Keras 2 are refused."""
    return path.suffix.lower() in (SUFFIX, *LEGACY_SUFFIXES) and path.is_file()


def read(path: Path, input_size: tuple[int, int] | None = None) -> Source:
    """Read a network.

    Args:
        path: of the archive.
        input_size: see `keras_networks.convert`.

    Raises:
        ModelImportError: it is no archive of Keras, damaged, or has parts that may run code.
        EngineError: TensorFlow cannot be imported.
    """
    if path.suffix.lower() in LEGACY_SUFFIXES:
        raise ModelImportError(
            f"{path}: a file of Keras 2, which may hold code: load it where you trust it and save "
            f"it by model.save('{path.stem}{SUFFIX}')"
        )
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, WEIGHTS)
        try:
            with zipfile.ZipFile(path) as archive:
                _check_members(archive, path)
                config = keras_configs.parse(archive.read(CONFIG), str(path))
                with archive.open(WEIGHTS) as packed, weights.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
        except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
            raise ModelImportError(f"{path}: no Keras archive, or damaged: {error}") from error
        network = keras_configs.load(config, [weights], str(path))
        keras_configs.fill(network, weights, str(path))
    if str(config["class_name"]).endswith(keras_configs.SEGMENTER):
        source = keras_hub_presets.convert(network, str(path), input_size)
    else:
        source = keras_networks.convert(network, str(path), input_size)
    named = Facts(name=Fact(path.stem, "name of the file"))
    return replace(source, facts=_values(network).filled_from(named).filled_from(source.facts))


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse what Keras does not write: it packs three files, as they are."""
    names = archive.namelist()
    if sorted(names) != sorted(MEMBERS):
        unexpected = sorted({*names} - {*MEMBERS}) or ["some of them twice or none"]
        raise ModelImportError(
            f"{path}: {', '.join(map(repr, unexpected[:3]))} in the archive, expected "
            f"{', '.join(MEMBERS)}: refused, since only networks without further files are known"
        )
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ModelImportError(
                f"{path}: {member.filename} is compressed, which Keras never does: refused; save "
                "the network again"
            )


def _values(network: "keras.Model") -> Facts:
    """How photos are normalised, if the network does it itself."""
    import keras

    layers = (entry for entry in network.layers if not isinstance(entry, keras.layers.InputLayer))
    first = next(layers, None)
    if isinstance(first, keras.layers.Rescaling) and _largest(first.scale) < LARGEST_SCALE:
        source = "Rescaling layer"
        return Facts(mean=Fact((0.0,) * 3, source), std=Fact((1 / 255,) * 3, source))
    return Facts()


def _largest(scale: object) -> float:
    import numpy as np

    return float(np.max(np.abs(np.asarray(scale, np.float64))))
