"""Making a package of a network from elsewhere, and trying it on a photo."""

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.engines import Engine, EngineError, EngineOptions, devices, load_engine
from models.graphs import Gives, GraphInput, GraphOutput, Resize
from models.importing.settling import Understood
from models.importing.sources import Fact, ModelImportError, Source
from models.inputs import SHAPE_MULTIPLE, resize
from models.packages import (
    DESCRIPTION_FILE,
    ModelDescription,
    ModelPackage,
    PackageError,
    write_graph,
)

PHOTO = Path(__file__).with_name("photo.jpg")
"""The photo that a network is tried on if the user gives none: Trier, Aula Palatina, by Berthold
Werner, public domain."""

NEARLY_ONE = 1e-2
"""How far the probabilities of a pixel may be from 1 in all, in half precision."""

TRIAL = EngineOptions(threads=devices.cores())
"""How networks are run to try them: with threads given, their best number is not measured."""


@dataclass(frozen=True)
class Imported:
    """A network that runs here.

    Attributes:
        understood: what is understood of it.
        content: the files of its graph.
    """

    understood: Understood
    content: Mapping[str, bytes]

    @property
    def description(self) -> ModelDescription:
        """The description of the model."""
        return self.understood.description

    def write(self, folder: str | Path, **changes: Any) -> ModelPackage:
        """Write a package, with changes of the description; raises what `write_graph` raises."""
        return write_graph(folder, replace(self.description, **changes), self.content)


def try_out(source: Source, understood: Understood, photo: Image.Image) -> Imported:
    """Run a network on a photo, and settle what only its results tell.

    Args:
        source: what the file says.
        understood: what is understood of it.
        photo: RGB.

    Raises:
        ModelImportError: it does not run, or what it gives does not fit what is understood.
    """
    graph = understood.description.imported
    checksums = {
        name: hashlib.sha256(content).hexdigest() for name, content in source.files.items()
    }
    tried = replace(understood.description, graph=replace(graph, files=checksums))
    found = Imported(replace(understood, description=tried), source.files)
    with tempfile.TemporaryDirectory() as folder:
        try:
            package = found.write(folder)
            engine = load_engine(package, TRIAL)
            scores = engine.predict(resize(photo, package.nominal_shape)[None])
        except PackageError as error:
            stated = f"{Path(folder, DESCRIPTION_FILE)}: "
            raise ModelImportError(str(error).removeprefix(stated)) from error
        except EngineError as error:
            raise ModelImportError(_does_not_run(package, error)) from error
        _check(scores, package)
        if graph.input.open and not _takes_other_shapes(engine, package):
            found = _with_input(found, package.nominal_shape)
    if graph.output.gives is Gives.LOGITS and _are_probabilities(scores, graph.output):
        found = _with_probabilities(found)
    return found


def _check(scores: np.ndarray, package: ModelPackage) -> None:
    classes = len(package.classes)
    if scores.ndim == 4 and scores.shape[3] != classes:
        raise ModelImportError(
            f"the network gives {scores.shape[3]} scores for each pixel, and there are {classes} "
            "classes: give the network's classes by --classes"
        )
    if not np.isfinite(scores).all():
        raise ModelImportError(
            "the network gives NaN or infinity for a photo: give the --mean and --std that it was "
            "trained with"
        )


def _does_not_run(package: ModelPackage, error: EngineError) -> str:
    height, width = package.nominal_shape
    hint = "; if it takes other sizes, give --input-size" if package.input_size.open else ""
    return f"the network fails on a photo of {width}x{height}: {error}{hint}"


def _takes_other_shapes(engine: Engine, package: ModelPackage) -> bool:
    """Whether the network takes a photo of other sides, of odd multiples of `SHAPE_MULTIPLE`."""
    nominal = package.nominal_shape
    width, height = (side // SHAPE_MULTIPLE | 1 for side in nominal)
    shape = height * SHAPE_MULTIPLE, width * SHAPE_MULTIPLE
    if shape == nominal:
        shape = shape[0] + 2 * SHAPE_MULTIPLE, shape[1]
    try:
        engine.predict(np.zeros((1, *shape, 3), np.uint8))
    except (EngineError, RuntimeError):
        return False
    return True


def _are_probabilities(scores: np.ndarray, output: GraphOutput) -> bool:
    if scores.min() < 0 or scores.max() > 1 + NEARLY_ONE:
        return False
    if output.outputs == 1:
        return True
    rounding = 0 if output.scale == 1 else output.outputs * output.scale / 2
    return len(output.channels) == output.outputs and bool(
        (np.abs(scores.sum(axis=-1) - 1) < NEARLY_ONE + rounding).all()
    )


def _with_input(found: Imported, shape: tuple[int, int]) -> Imported:
    height, width = shape
    told = Fact(f"{width}x{height}", "a trial: other sizes do not run")
    graph = found.description.imported
    resize = graph.input.resize
    if resize is Resize.KEEP_ASPECT:
        resize = Resize.STRETCH
    taken: GraphInput = replace(graph.input, open=False, resize=resize)
    description = replace(
        found.description, graph=replace(graph, input=taken), input_height=height, input_width=width
    )
    other = {} if resize is graph.input.resize else {"resize": Fact(resize.value, told.source)}
    return _with(found, description, size=told, **other)


def _with_probabilities(found: Imported) -> Imported:
    graph = found.description.imported
    given: GraphOutput = replace(graph.output, gives=Gives.PROBABILITIES)
    description = replace(found.description, graph=replace(graph, output=given))
    text = f"{given.name}: {given.gives.value}, {given.layout.value}"
    return _with(found, description, output=Fact(text, "a trial: they add up to 1"))


def _with(found: Imported, description: ModelDescription, **told: Fact[str]) -> Imported:
    understood = found.understood
    return replace(
        found,
        understood=replace(understood, description=description, told=understood.told | told),
    )
