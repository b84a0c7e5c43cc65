"""Post-training quantisation: a network in 8-bit integers, made by NNCF from calibration photos.

NNCF (https://github.com/openvinotoolkit/nncf) runs the network on the photos, chooses the range of
each tensor by what it saw, and corrects the biases; nothing is trained. It follows Jacob et al.,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (CVPR
2018). Biases are corrected one layer after the other, each on what the quantised ones before it
give. That takes minutes, but the fast way, on what the float ones give, cost the shipped U-Net 1.3
points of mIoU, and this way nothing.
"""

import hashlib
import itertools
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models import precisions
from models.engines import Precision, openvino
from models.engines.conversion import openvino_model
from models.graphs import Format, Gives
from models.inputs import resize
from models.labelled_photos import IMAGE_SUFFIXES, list_split, read_photo
from models.labels import LABEL_FOLDER_ENDING
from models.packages import INT8, LOSS, ModelPackage, NetworkFiles, add_network

if TYPE_CHECKING:
    import openvino as ov

LEAST_PHOTOS = 16
"""Fewer photos show too little of the range of each tensor."""

DEFAULT_PHOTOS = 180
"""Photos to calibrate on; more take longer and changed nothing measurable on CamVid."""

CALIBRATION_SPLIT = "train"
"""Folder of labelled photos whose photos calibrate."""

FILES = ("int8.xml", "int8.bin")


class QuantisationError(ValueError):
    """A network cannot be quantised, or loses too much by it."""


@dataclass(frozen=True)
class Quantised:
    """A package that was written.

    Attributes:
        package: it.
        single: its mIoU in single precision; None without labels.
        int8: its mIoU in int8; None without labels.
    """

    package: ModelPackage
    single: float | None = None
    int8: float | None = None


def quantise(
    package: ModelPackage,
    data: str | Path,
    directory: str | Path,
    split: str = "val",
    most: int = DEFAULT_PHOTOS,
    max_loss: float = 0.005,
) -> Quantised:
    """Write a package with an int8 network beside the weights.

    Args:
        package: the model.
        data: a folder of photos, or of labelled photos in the CamVid layout. Of the latter, the
            split `train` calibrates, and the labels of `split` measure the loss of quality.
        directory: the folder of the new package.
        split: labelled photos to measure on.
        most: photos to calibrate on, spread evenly over those of the folder.
        max_loss: largest loss of mIoU, 0..1.

    Raises:
        QuantisationError: NNCF is not installed, the network was imported and gives class ids or is
            in 8 bits already, there are too few photos, or the loss is larger.
        ValueError: a photo or label cannot be read.
        EngineError: OpenVINO does not run here or does not support an operation of the network.
        PackageError: the package is damaged.
        OSError: the new package cannot be written.
    """
    openvino.check_installed()  # It comes first, as NNCF would import it with its telemetry.
    _check_nncf()
    _check_network(package)
    photos = calibration_photos(data, most)
    content = _files(_quantised(package, photos))
    stated = {name: hashlib.sha256(value).hexdigest() for name, value in content.items()}
    network = NetworkFiles(Format.OPENVINO, INT8, stated, _facts(data, len(photos)))
    with tempfile.TemporaryDirectory() as folder:
        quantised = add_network(package, folder, network, content, {})
        found = _measured(quantised, data, split)
    if found is None:
        known = {name: of for name, of in package.precisions.items() if name != INT8}
        return Quantised(add_network(package, directory, network, content, known))
    single, measured = found
    lost, miou = measured[INT8][LOSS], measured[INT8]["miou"]
    if lost > max_loss:
        raise QuantisationError(
            f"int8 loses {100 * lost:.2f} points of mIoU on {split} ({single:.4f} -> {miou:.4f}), "
            f"and at most {100 * max_loss:g} are allowed: nothing was written. Calibrate on more "
            "photos that are like yours, or give a larger --max-loss"
        )
    known = package.precisions | measured
    return Quantised(add_network(package, directory, network, content, known), single, miou)


def calibration_photos(data: str | Path, most: int) -> list[Path]:
    """Choose photos to calibrate on.

    Raises:
        QuantisationError: there are too few.
    """
    folder = _calibration_folder(data)
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.parent.name.endswith(LABEL_FOLDER_ENDING)
    )
    if len(files) < LEAST_PHOTOS:
        raise QuantisationError(
            f"{folder}: found {len(files)} photos (PNG or JPEG), expected at least {LEAST_PHOTOS} "
            "to calibrate on; give a folder with more, like those the model is for"
        )
    chosen = np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)
    return [files[number] for number in chosen]


def _calibration_folder(data: str | Path) -> Path:
    split = Path(data, CALIBRATION_SPLIT)
    return split if split.is_dir() else Path(data)


def _check_nncf() -> None:
    try:
        import nncf
    except ImportError as error:
        raise QuantisationError(
            f"NNCF cannot be imported ({error}): pip install 'citymask[quantise]'"
        ) from error
    logging.getLogger(nncf.__name__).setLevel(logging.ERROR)


def _check_network(package: ModelPackage) -> None:
    if not package.graph:
        return
    if package.graph.precision == INT8:
        raise QuantisationError(f"{package.name} computes in {INT8} already: use it as it is")
    if package.graph.output.gives is Gives.CLASS_IDS:
        raise QuantisationError(
            f"{package.name} gives class ids, and an int8 network gives scores: import the network "
            "without its last step, the argmax"
        )


def _quantised(package: ModelPackage, photos: Sequence[Path]) -> "ov.Model":
    import nncf

    def prepare(path: Path) -> np.ndarray:
        photo = read_photo(path)
        return resize(photo, package.input_size.photo_shape(photo.width, photo.height))[None]

    network = openvino_model(package)
    return nncf.quantize(
        network,
        nncf.Dataset(photos, prepare),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(photos),
        fast_bias_correction=False,
        ignored_scope=nncf.IgnoredScope(names=_first_convolution(network)),
    )


def _first_convolution(network: "ov.Model") -> list[str]:
    """The name of the convolution of the photo, which stays as it is.

    Processors without VNNI overflow in it, so NNCF gives its weights 7 bits. That lost 0.26 points
    of mIoU of the default model, and a convolution in single precision takes 8 % more time.
    """
    names = (
        operation.get_friendly_name()
        for operation in network.get_ordered_ops()
        if operation.get_type_name() == "Convolution"
    )
    return list(itertools.islice(names, 1))


def _files(model: "ov.Model") -> dict[str, bytes]:
    """The files of a network; what is not in 8 bits is in half precision."""
    import openvino as ov

    with tempfile.TemporaryDirectory() as folder:
        ov.save_model(model, Path(folder, FILES[0]))
        return {name: Path(folder, name).read_bytes() for name in FILES}


def _facts(data: str | Path, photos: int) -> dict[str, Any]:
    import nncf

    root = Path(data).resolve()
    name = _calibration_folder(root).relative_to(root.parent)
    return {
        "tool": f"NNCF {nncf.__version__}, post-training quantisation, preset mixed",
        "calibration": f"{photos} photos of {name}",
    }


def _measured(
    package: ModelPackage, data: str | Path, split: str
) -> tuple[float, dict[str, dict[str, Any]]] | None:
    """The mIoU in single precision, and what other precisions lose; None without labels."""
    if not Path(data, f"{split}{LABEL_FOLDER_ENDING}").is_dir():
        return None
    others = [Precision.INT8, *filter(openvino.runs_in, [Precision.BF16])]
    photos = list_split(data, split, len(package.classes))
    single = precisions.measure_single(package, photos)
    return single.miou, precisions.losses(package, photos, split, single, others)
