"""Convert networks to OpenVINO models, and cache the results.

A conversion from Keras imports TensorFlow and takes some seconds; a cached model is read in a tenth
of a second, without TensorFlow. The cache is in the user's cache folder and may be deleted at any
time.
"""

import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from models import networks
from models.engines import devices, graph_model, tensorflow_cpu
from models.engines.options import EngineError
from models.packages import ModelPackage
from models.texts import one_line

if TYPE_CHECKING:
    import openvino
    import tensorflow as tf

logger = logging.getLogger(__name__)

CACHE = "CITYMASK_CACHE"
"""Environment variable: a folder to use instead of the user's cache folder."""

OPEN_SHAPE = (None, None, None, 3)
"""Input shape of a converted model: any number of photos of any size."""


def import_openvino() -> None:
    """Import OpenVINO with its telemetry disabled.

    Raises:
        ImportError: it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino  # noqa: F401


def openvino_model(package: ModelPackage) -> "openvino.Model":
    """Return the network of a package as an OpenVINO model.

    That of a graph is read from the package, any other from the cache or newly converted.

    It maps uint8 photos `(N, h, w, 3)` to float32 logits, or to class ids if that is what an
    imported network gives. Their number and size are open, if the network allows it.

    Raises:
        EngineError: OpenVINO does not support an operation of the network.
        PackageError: the weights do not fit the package's description.
    """
    import openvino

    if package.graph:
        return graph_model.photo_model(package)
    file = _file(package)
    try:
        if file.exists():
            return openvino.Core().read_model(file)
    except (OSError, RuntimeError) as error:
        logger.info("%s cannot be read and is converted again: %s", file, error)
    model = _convert(package)
    try:
        _save(model, file)
    except (OSError, RuntimeError) as error:
        logger.info("The converted model cannot be cached: %s", error)
    return model


def is_convertible(package: ModelPackage) -> bool:
    """Whether `openvino_model` has what it needs: the cached model, or else what converts it."""
    return (
        package.graph is not None
        or _file(package).exists()
        or find_spec(devices.TENSORFLOW) is not None
    )


def cache_folder() -> Path:
    """Folder of converted models: in `CITYMASK_CACHE`, else in the user's cache folder."""
    return Path(os.environ.get(CACHE) or platformdirs.user_cache_dir("citymask"), "openvino")


def _file(package: ModelPackage) -> Path:
    return cache_folder() / f"{_key(package)}.xml"


def _key(package: ModelPackage) -> str:
    """Name of a cached model: a hash of everything that affects the conversion."""
    import openvino

    digest = hashlib.sha256(f"{package.fingerprint} {openvino.__version__}".encode())
    sources = sorted(Path(networks.__file__).parent.glob("*.py"))
    here = Path(__file__)
    for source in (here, here.with_name("tensorflow_cpu.py"), *sources):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:32]


def _convert(package: ModelPackage) -> "openvino.Model":
    devices.import_tensorflow()
    if devices.keras_backend() != devices.TENSORFLOW:
        raise EngineError(
            f"Keras runs on {devices.keras_backend()}, and OpenVINO models are converted from "
            f"TensorFlow graphs: set KERAS_BACKEND={devices.TENSORFLOW}"
        )
    with devices.keras_precision(devices.FLOAT32):
        network = package.build_network()
    function = tensorflow_cpu.freeze(network, package, OPEN_SHAPE)
    try:
        return convert_function(function)
    except Exception as error:  # OpenVINO's front ends raise many types of errors.
        reason = one_line(error)
        raise EngineError(f"OpenVINO cannot run {package.name}: {reason}") from error


def convert_function(function: "tf.types.experimental.ConcreteFunction") -> "openvino.Model":
    """Convert a traced TensorFlow function whose weights are constants."""
    import openvino

    with _logging_kept():
        # Without `output`, operations whose results are unused become outputs as well.
        outputs = [tensor.name for tensor in function.outputs]
        return openvino.convert_model(function.graph, output=outputs)


@contextmanager
def _logging_kept() -> Iterator[None]:
    """Restore the root logger, which OpenVINO silences and does not restore after a failure."""
    root = logging.getLogger()
    level, filters, handlers = root.level, root.filters[:], root.handlers[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters, root.handlers = filters, handlers


def _save(model: "openvino.Model", file: Path) -> None:
    """Write both files of a model; the `.xml` file, which is looked up, comes last."""
    import openvino

    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        written = Path(folder, file.name)
        openvino.save_model(model, written, compress_to_fp16=False)
        for suffix in (".bin", ".xml"):
            os.replace(written.with_suffix(suffix), file.with_suffix(suffix))
