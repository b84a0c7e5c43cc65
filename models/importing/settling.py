"""From what a file says of its network to a model's description: every gap filled, and told.

What a user states comes first, then what the file and its companions state. What nobody states is
assumed as the field has it, and marked as assumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.classes import ClassTable
from models.graphs import Channels, Gives, Graph, GraphInput, GraphOutput, Layout, Resize
from models.importing import axes, naming
from models.importing.sources import ASSUMED, Fact, Facts, ModelImportError, Port, Source
from models.inputs import SHAPE_MULTIPLE
from models.packages import ModelDescription

FILE = "the file"
"""Where a value comes from that the ports tell."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's photos, as most published networks have them."""

MOST_NORMALISED = 2
"""Largest mean or std that is taken for one of photos scaled to 0..1."""


@dataclass(frozen=True)
class Wishes:
    """What the user states.

    Attributes:
        facts: replace what the source states.
        classes: of the network's outputs.
        classes_source: what they are called, for users.
        output: name of the output to use, of several.
        background: `first` or `last`: where an output stands that is of no class.
    """

    facts: Facts = field(default_factory=Facts)
    classes: ClassTable | None = None
    classes_source: str = ""
    output: str | None = None
    background: str | None = None


@dataclass(frozen=True)
class Understood:
    """What is understood of a network.

    Attributes:
        description: of the model; its graph has no checksums yet.
        named: the classes that were named; the model may have one more, for the background.
        told: what was found out and where, in order; the names are for users.
        warnings: lines that the user should see.
    """

    description: ModelDescription
    named: ClassTable
    told: dict[str, Fact[str]]
    warnings: tuple[str, ...]


def settle(source: Source, wishes: Wishes, name: str) -> Understood:
    """Settle what a network takes and gives.

    Args:
        source: what the file says.
        wishes: what the user says.
        name: of the source; the model is called by it if nothing else names it.

    Raises:
        ModelImportError: something cannot be found out or does not fit.
    """
    facts = wishes.facts.filled_from(source.facts)
    warnings = list(source.warnings)
    photos = axes.photos_among(source.inputs)
    layout = axes.layout_of(photos, source.format)
    width, height, open_size, size_source = _size(photos, layout, facts, wishes)
    mean, std = _statistics(photos, facts, wishes)
    channels = facts.channels or Fact(Channels.RGB, ASSUMED)
    resize = _resize(facts, wishes, open_size)
    scores = axes.scores_among(
        source.outputs, wishes.output, axes.sides_of(photos, layout), warnings
    )
    gives = _gives(scores, facts)
    given_layout, told_apart = _outputs(scores, gives.value, photos, layout, facts, wishes)
    named, named_by = naming.named_classes(wishes.classes, wishes.classes_source, facts, told_apart)
    classes, ids, classes_source = naming.outputs_of(
        named, named_by, told_apart, gives.value, wishes.background, warnings
    )
    taken = GraphInput(
        photos.name,
        photos.dtype,
        layout,
        channels.value,
        open_size,
        resize.value,
        photos.scale or 1.0,
        photos.zero_point,
    )
    given = GraphOutput(
        scores.name,
        given_layout,
        gives.value,
        told_apart or max(ids) + 1,
        ids,
        scores.scale or 1.0,
        scores.zero_point,
    )
    licence = facts.licence or Fact("unknown: ask the author of the network", "not stated")
    description = ModelDescription(
        name=(facts.name or Fact(name, "")).value,
        architecture=_architecture(source, facts),
        width=1.0,
        input_height=height,
        input_width=width,
        mean=mean.value,
        std=std.value,
        classes=classes,
        training={"source": name, "licence": licence.value},
        metrics={},
        graph=Graph(source.format, source.precision, {}, taken, given),
    )
    told = {
        "name": facts.name or Fact(name, "its name"),
        "format": Fact(f"{source.format.value}, {source.precision}", FILE),
        "photos": Fact(f"{photos.dtype} {layout.value}", FILE),
        "size": Fact(f"{width}x{height}{', others too' if open_size else ''}", size_source),
        "resize": _told(resize),
        "colours": _told(channels),
        "mean": Fact(_numbers(mean.value), mean.source),
        "std": Fact(_numbers(std.value), std.source),
        "output": Fact(f"{scores.name}: {gives.value.value}, {given_layout.value}", gives.source),
        "classes": Fact(naming.shortened(classes.names), classes_source),
        "licence": licence,
    }
    if mean.is_assumed or std.is_assumed:
        warnings.append(
            "mean and std of the photos are stated nowhere, ImageNet's are assumed: compare the "
            "overlay, or give --mean and --std, or --check on labelled photos"
        )
    return Understood(description, named, told, tuple(warnings))


def _size(port: Port, layout: Layout, facts: Facts, wishes: Wishes) -> tuple[int, int, bool, str]:
    """Width and height of the input, whether it takes other sizes too, and who says so."""
    height, width = axes.sides_of(port, layout)
    stated = facts.input_size or Fact((0, 0), FILE)
    if not (height and width) and not all(stated.value):
        raise ModelImportError(
            f"the input {axes.listed([port])} takes any size, and none is stated: give "
            "--input-size, such as 1024x512, the size of the photos that it was trained on"
        )
    if not height and not width:
        rounded = [max(1, round(side / SHAPE_MULTIPLE)) * SHAPE_MULTIPLE for side in stated.value]
        note = "" if rounded == list(stated.value) else f", in multiples of {SHAPE_MULTIPLE}"
        return rounded[0], rounded[1], True, f"{stated.source}{note}"
    size = width or stated.value[0], height or stated.value[1]
    wished = wishes.facts.input_size
    if wished and wished.value != size:
        raise ModelImportError(
            f"{_option(wished, 'x')}: found the input {axes.listed([port])}, which takes "
            f"{size[0]}x{size[1]} only: leave the option out"
        )
    return *size, False, FILE if height and width else stated.source


def _statistics(
    photos: Port, facts: Facts, wishes: Wishes
) -> tuple[Fact[tuple[float, float, float]], Fact[tuple[float, float, float]]]:
    """Mean and deviation of photos scaled to 0..1."""
    for wish in (wishes.facts.mean, wishes.facts.std):
        if wish and max(wish.value) > MOST_NORMALISED:
            raise ModelImportError(
                f"{_option(wish)} is for photos from 0 to 255, expected 0 to 1: divide it by 255"
            )
    mean, std, source = IMAGENET_MEAN, IMAGENET_STD, f"{ASSUMED}: ImageNet's"
    if np.issubdtype(photos.dtype, np.integer):  # It takes the bytes of photos.
        scale = photos.scale or 1.0
        mean = ((photos.zero_point - np.iinfo(photos.dtype).min) / 255,) * 3
        std = (1 / (255 * scale),) * 3
        source = f"its type {photos.dtype}"
    return facts.mean or Fact(mean, source), facts.std or Fact(std, source)


def _resize(facts: Facts, wishes: Wishes, open_size: bool) -> Fact[Resize]:
    """How photos are brought to the input size."""
    stated = facts.resize or Fact(Resize.STRETCH, ASSUMED)
    if open_size or stated.value is not Resize.KEEP_ASPECT:
        return stated
    if wishes.facts.resize:
        raise ModelImportError(
            f"{_option(stated)} is for networks that take any size, and this one takes a single "
            f"one: choose {Resize.STRETCH.value} or {Resize.PAD.value}"
        )
    return Fact(Resize.STRETCH, f"its single size, for {stated.value.value}")


def _gives(port: Port, facts: Facts) -> Fact[Gives]:
    if facts.gives:
        return facts.gives
    integer = not port.dtype.startswith("float") and port.scale is None
    if integer or len(port.shape) == 3:
        return Fact(Gives.CLASS_IDS, f"its type {port.dtype}" if integer else "its shape")
    return Fact(Gives.LOGITS, ASSUMED)


def _outputs(
    port: Port, gives: Gives, photos: Port, layout: Layout, facts: Facts, wishes: Wishes
) -> tuple[Layout, int | None]:
    """The order of an output's axes, and how many classes it tells apart, if that is known."""
    known = facts.outputs.value if facts.outputs else None
    if gives is Gives.CLASS_IDS:
        return axes.layout_of_ids(port, layout), known
    named = len(wishes.classes or (facts.class_names.value if facts.class_names else ()))
    likely = [known] if known else []
    likely += [named, named - 1, named + 1] if named else []
    found, number = axes.layout_of_scores(port, layout, axes.sides_of(photos, layout), likely)
    return found, number or known or named or None


def _architecture(source: Source, facts: Facts) -> str:
    return facts.architecture.value if facts.architecture else f"{source.format.value} network"


def _told(fact: Fact[Any]) -> Fact[str]:
    return Fact(fact.value.value, fact.source)


def _option(wish: Fact[Any], between: str = ",") -> str:
    """An option of the user, as it was given."""
    value = getattr(wish.value, "value", wish.value)
    if not isinstance(value, str):
        value = between.join(f"{part:g}" for part in value)
    return f"{wish.source} {value}"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
