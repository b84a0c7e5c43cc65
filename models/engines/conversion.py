"""From a Keras network to an OpenVINO model, once: the result is kept for later runs.

The conversion takes TensorFlow and some seconds; what it gives is read in a tenth of a second and
without TensorFlow. It lies in the user's cache folder and may be deleted at any time.
"""

import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from models import networks
from models.engines import devices
from models.engines.options import EngineError
from models.packages import ModelPackage

if TYPE_CHECKING:
    import openvino

logger = logging.getLogger("citymask")

CACHE = "CITYMASK_CACHE"
"""Environment variable: a folder in place of the user's cache folder."""

OPEN_SHAPE = (None, None, None, 3)


def import_openvino() -> None:
    """Import OpenVINO without the package by which it reports its use to its makers.

    Raises ImportError where it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino  # noqa: F401


def openvino_model(package: ModelPackage) -> "openvino.Model":
    """The network of a package as an OpenVINO model, from the cache or made now.

    It maps uint8 photos `(N, h, w, 3)`, each size left open, to float32 logits.

    Raises:
        EngineError: OpenVINO does not know an operation of the network.
        PackageError: the weights do not fit the package's description.
    """
    import openvino

    file = cache_folder() / f"{_key(package)}.xml"
    try:
        if file.exists():
            return openvino.Core().read_model(file)
    except (OSError, RuntimeError) as error:
        logger.info("%s cannot be read and is made anew: %s", file, error)
    model = _convert(package)
    try:
        _save(model, file)
    except (OSError, RuntimeError) as error:
        logger.info("The converted model is not kept for the next run: %s", error)
    return model


def cache_folder() -> Path:
    """Where converted models are kept: what `CITYMASK_CACHE` names, else below the user's cache."""
    return Path(os.environ.get(CACHE) or platformdirs.user_cache_dir("citymask"), "openvino")


def _key(package: ModelPackage) -> str:
    """A name that changes with whatever changes the conversion's result."""
    import openvino

    digest = hashlib.sha256(f"{package.fingerprint} {openvino.__version__}".encode())
    here = Path(__file__)
    sources = [
        here,
        here.with_name("tensorflow_cpu.py"),
        *sorted(Path(networks.__file__).parent.glob("*.py")),
    ]
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:32]


def _convert(package: ModelPackage) -> "openvino.Model":
    devices.import_tensorflow()
    import openvino

    from models.engines.tensorflow_cpu import freeze

    if devices.keras_backend() != devices.TENSORFLOW:
        raise EngineError(
            f"Keras runs on {devices.keras_backend()}, and OpenVINO's models are made out of "
            f"TensorFlow's: set KERAS_BACKEND={devices.TENSORFLOW}"
        )
    with devices.keras_precision(devices.FLOAT32):
        network = package.build_network()
    graph = freeze(network, package, OPEN_SHAPE)
    try:
        with _logging_kept():
            return openvino.convert_model(graph.graph)
    except Exception as error:  # Each of its parts has errors of its own.
        reason = " ".join(str(error).split())
        raise EngineError(f"OpenVINO cannot run {package.name}: {reason}") from error


@contextmanager
def _logging_kept() -> Iterator[None]:
    """OpenVINO silences the root logger while it converts, and after a failure ever after."""
    root = logging.getLogger()
    level, filters, handlers = root.level, root.filters[:], root.handlers[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters, root.handlers = filters, handlers


def _save(model: "openvino.Model", file: Path) -> None:
    """Write both files of a model; whoever finds the first one finds the other as well."""
    import openvino

    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        written = Path(folder, file.name)
        openvino.save_model(model, written, compress_to_fp16=False)
        for suffix in (".bin", ".xml"):
            os.replace(written.with_suffix(suffix), file.with_suffix(suffix))
