"""From what a file says of its network to a model's description: every gap filled, and told.

What a user states comes first, then what the file and its companions state. What nobody states is
assumed as the field has it, and marked as assumed.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from models.classes import CLASS_SETS, MAX_CLASSES, ClassTable, SegmentationClass
from models.graphs import (
    Channels,
    Gives,
    Graph,
    GraphInput,
    GraphOutput,
    Layout,
    Resize,
)
from models.importing.sources import ASSUMED, Fact, Facts, ModelImportError, Port, Source
from models.inputs import SHAPE_MULTIPLE
from models.packages import ModelDescription

FILE = "the file"
"""Where a value comes from that the ports tell."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's photos, as most published networks have them."""

MOST_OUTPUTS = 4096
"""Most classes that a network may tell apart; a longer axis is one of rows or columns."""

DTYPES = ("uint8", "int8", "float16", "float32")
"""Types of inputs that photos can be turned into."""

NO_CLASS = {"background", "_background_", "__background__", "unlabeled", "unlabelled", "void"}
NO_CLASS |= {"ignore", "unknown", "none", "others", "other"}
"""What label files call pixels without a class."""


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
        told: what was found out and where, in order; the names are for users.
        warnings: lines that the user should see.
    """

    description: ModelDescription
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
    photos = _photos(source.inputs)
    layout = _layout(photos)
    width, height, open_size, size_source = _size(photos, layout, facts)
    mean = facts.mean or Fact(IMAGENET_MEAN, f"{ASSUMED}: ImageNet's")
    std = facts.std or Fact(IMAGENET_STD, f"{ASSUMED}: ImageNet's")
    channels = facts.channels or Fact(Channels.RGB, ASSUMED)
    resize = facts.resize or Fact(Resize.STRETCH, ASSUMED)
    scores = _scores(source.outputs, wishes.output, warnings)
    gives = _gives(scores, facts)
    given_layout, told_apart = _outputs(scores, gives.value, layout, facts, wishes)
    classes, ids, classes_source = _classes(told_apart, facts, wishes, warnings)
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
        "classes": Fact(_shortened(classes.names), classes_source),
        "licence": licence,
    }
    if mean.is_assumed:
        warnings.append(
            "mean and std of the photos are stated nowhere, ImageNet's are assumed: compare the "
            "overlay, or give --mean and --std, or --check on labelled photos"
        )
    return Understood(description, told, tuple(warnings))


def _photos(inputs: Sequence[Port]) -> Port:
    """The input that takes photos."""
    if len(inputs) != 1:
        raise ModelImportError(
            f"found {len(inputs)} inputs ({_ports(inputs)}), expected one, for photos"
        )
    (port,) = inputs
    if len(port.shape) != 4 or port.shape[0] not in (None, 1, -1):
        raise ModelImportError(
            f"found the input {_ports(inputs)}, expected one photo of four axes, such as "
            "1x3x512x512"
        )
    if port.dtype not in DTYPES:
        raise ModelImportError(
            f"found the input {_ports(inputs)}, expected photos of type {', '.join(DTYPES)}"
        )
    return port


def _layout(port: Port) -> Layout:
    if port.shape[1] == 3:
        return Layout.NCHW
    if port.shape[3] == 3:
        return Layout.NHWC
    raise ModelImportError(
        f"found the input {_ports([port])}, expected an axis of 3 colours, second or last"
    )


def _size(port: Port, layout: Layout, facts: Facts) -> tuple[int, int, bool, str]:
    """Width and height of the input, whether it takes other sizes too, and who says so."""
    height, width = port.shape[2:] if layout is Layout.NCHW else port.shape[1:3]
    stated = facts.input_size
    if height and width:
        return width, height, False, FILE
    if stated is None:
        raise ModelImportError(
            f"the input {_ports([port])} takes any size, and none is stated: give --input-size, "
            "such as 1024x512, the size of the photos that it was trained on"
        )
    if height or width:
        return width or stated.value[0], height or stated.value[1], False, stated.source
    rounded = [max(1, round(side / SHAPE_MULTIPLE)) * SHAPE_MULTIPLE for side in stated.value]
    note = "" if rounded == list(stated.value) else f", in multiples of {SHAPE_MULTIPLE}"
    return rounded[0], rounded[1], True, f"{stated.source}{note}"


def _scores(outputs: Sequence[Port], wanted: str | None, warnings: list[str]) -> Port:
    """The output that tells the classes."""
    usable = [port for port in outputs if len(port.shape) in (3, 4)]
    if wanted is not None:
        usable = [port for port in usable if port.name == wanted]
        if not usable:
            raise ModelImportError(
                f"found the outputs {_ports(outputs)}, none with a class for each pixel and the "
                f"name {wanted!r}: give one of them by --output"
            )
    if not usable:
        raise ModelImportError(
            f"found the outputs {_ports(outputs)}, expected one with a score or a class for each "
            "pixel, of three or four axes: export the network with such an output"
        )
    if len(usable) > 1:
        others = ", ".join(port.name for port in usable[1:])
        warnings.append(f"the output {usable[0].name} is used, not {others}: choose by --output")
    return usable[0]


def _gives(port: Port, facts: Facts) -> Fact[Gives]:
    if facts.gives:
        return facts.gives
    integer = not port.dtype.startswith("float") and port.scale is None
    if integer or len(port.shape) == 3:
        return Fact(Gives.CLASS_IDS, f"its type {port.dtype}" if integer else "its shape")
    return Fact(Gives.LOGITS, ASSUMED)


def _outputs(
    port: Port, gives: Gives, layout: Layout, facts: Facts, wishes: Wishes
) -> tuple[Layout, int | None]:
    """The order of an output's axes, and how many classes it tells apart, if that is known."""
    known = facts.outputs.value if facts.outputs else None
    if gives is Gives.CLASS_IDS:
        alone = len(port.shape) == 4 and port.shape[1] == 1
        return (Layout.NCHW if alone else Layout.NHWC), known
    if len(port.shape) != 4:
        raise ModelImportError(
            f"found the output {_ports([port])} of {gives.value}, expected four axes: classes, "
            "rows and columns of one photo"
        )
    names = wishes.classes.names if wishes.classes else ()
    if not names and facts.class_names:
        names = facts.class_names.value
    places = {Layout.NCHW: port.shape[1], Layout.NHWC: port.shape[3]}
    order = sorted(places, key=lambda one: one is not layout)
    near = (len(names), len(names) - 1, len(names) + 1) if names else ()
    for fitting in (known, *near):
        for one in order:
            if fitting and places[one] == fitting:
                return one, fitting
    for one in order:
        number = places[one]
        if number and number <= MOST_OUTPUTS:
            return one, number
    raise ModelImportError(
        f"found the output {_ports([port])}, expected an axis whose length is the number of classes"
    )


def _classes(
    told_apart: int | None, facts: Facts, wishes: Wishes, warnings: list[str]
) -> tuple[ClassTable, tuple[int, ...], str]:
    """The classes, the output channel or id of each, and who says so."""
    table, source = wishes.classes, wishes.classes_source
    if table is None and facts.class_names:
        source = facts.class_names.source
        names, note = _without_background(facts.class_names.value, told_apart)
        source += note
        colors = facts.colors.value if facts.colors and not note else None
        table = _table(names, colors)
    if table is None:
        table, source = _set_of(told_apart)
    number = told_apart or len(table) + bool(wishes.background)
    if number == 1 and len(table) == 2:
        return table, (0, 1), source
    if number == len(table):
        return table, tuple(range(number)), source
    if number == len(table) + 1:
        first = wishes.background == "first"
        where = "first" if first else "last"
        if not wishes.background:
            warnings.append(
                f"the network tells {number} classes apart and {len(table)} are named: its last "
                "output is taken for no class; if it is the first one, give --background first"
            )
        shift = int(first)
        return table, tuple(range(shift, shift + len(table))), f"{source}; its {where} is no class"
    raise ModelImportError(
        f"the network tells {number} classes apart, and {source} has {len(table)} "
        f"({_shortened(table.names)}): give the network's classes by --classes"
    )


def _without_background(
    names: tuple[str, ...], told_apart: int | None
) -> tuple[tuple[str, ...], str]:
    """Class names without one more for pixels of no class, that the network does not give."""
    if told_apart is None or len(names) != told_apart + 1:
        return names, ""
    for kept, dropped in ((names[1:], names[0]), (names[:-1], names[-1])):
        if dropped.strip().lower() in NO_CLASS:
            return kept, f", without {dropped!r}: the network tells {told_apart} classes apart"
    return names, ""


def _table(names: tuple[str, ...], colors: tuple[tuple[int, int, int], ...] | None) -> ClassTable:
    """A class table of names; colours that are not stated are those of a class set, or made."""
    keys = [SegmentationClass(name, (0, 0, 0)).key for name in names]
    for table in _class_sets().values():
        if sorted(table.keys) == sorted(keys):
            entries = dict(zip(table.keys, table.classes, strict=True))
            return ClassTable(tuple(entries[key] for key in keys))
    if len(names) > MAX_CLASSES:
        raise ModelImportError(
            f"found {len(names)} class names, expected at most {MAX_CLASSES}: masks have 8 bits"
        )
    colors = colors or tuple(_color(number) for number in range(len(names)))
    try:
        return ClassTable.of(zip(names, colors, strict=True))
    except ValueError as error:
        raise ModelImportError(f"{error}; or give the classes by --classes FILE") from error


def _set_of(told_apart: int | None) -> tuple[ClassTable, str]:
    """The one class set of that many classes."""
    fitting = {name: table for name, table in _class_sets().items() if len(table) == told_apart}
    if len(fitting) == 1:
        (name,) = fitting
        return fitting[name], f"{ASSUMED}: {name}, by their number"
    number = "an unknown number of" if told_apart is None else str(told_apart)
    raise ModelImportError(
        f"the network tells {number} classes apart, and nothing names them: give --classes "
        f"({', '.join(sorted(_class_sets()))} or a CSV file)"
    )


def _class_sets() -> dict[str, ClassTable]:
    return {file.stem: ClassTable.read(file) for file in sorted(CLASS_SETS.glob("*.csv"))}


def _color(number: int) -> tuple[int, int, int]:
    """One of many colours that are easily told apart: hues by the golden ratio."""
    hue, value = number * 0.618033988749895 % 1, (0.95, 0.7, 0.5)[number % 3]
    red, green, blue = (round(255 * of) for of in colorsys.hsv_to_rgb(hue, 0.75, value))
    return red, green, blue


def _architecture(source: Source, facts: Facts) -> str:
    return facts.architecture.value if facts.architecture else f"{source.format.value} network"


def _told(fact: Fact[Any]) -> Fact[str]:
    return Fact(fact.value.value, fact.source)


def _ports(ports: Sequence[Port]) -> str:
    """Ports for messages, such as `image: float32 1x3x?x?`."""
    return ", ".join(
        f"{port.name}: {port.dtype} {'x'.join('?' if s is None else str(s) for s in port.shape)}"
        for port in ports
    )


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _shortened(names: Sequence[str]) -> str:
    shown = ", ".join(names[:6])
    return f"{len(names)}: {shown}{', ...' if len(names) > 6 else ''}"
