"""The classes of a network's outputs: their names, and which output is which of them."""

import colorsys
from collections.abc import Sequence
from dataclasses import replace

from models.classes import CLASS_SETS, MAX_CLASSES, ClassTable, SegmentationClass
from models.graphs import Gives
from models.importing.sources import ASSUMED, Facts, ModelImportError

NO_CLASS = {"background", "_background_", "__background__", "unlabeled", "unlabelled", "void"}
NO_CLASS |= {"ignore", "unknown", "none", "others", "other"}
"""What label files call pixels without a class."""

BACKGROUND = "Background"
"""Name of the class of pixels without one, where a network gives nothing but class ids."""


def class_sets() -> dict[str, ClassTable]:
    """The shipped class sets by their names."""
    return {file.stem: ClassTable.read(file) for file in sorted(CLASS_SETS.glob("*.csv"))}


def named_classes(
    stated: ClassTable | None, stated_by: str, facts: Facts, told_apart: int | None
) -> tuple[ClassTable, str]:
    """The classes that are stated, else those of the one class set of that many; and who says so.

    Args:
        stated: by the user.
        stated_by: how, for users.
        facts: what the source states.
        told_apart: classes that the network tells apart, if that is known.

    Raises:
        ModelImportError: there are none, or they make no table.
    """
    if stated:
        return stated, stated_by
    if facts.class_names is None:
        return _set_of(told_apart)
    names, note = _without_background(facts.class_names.value, told_apart)
    colors = facts.colors.value if facts.colors and not note else None
    return _table(names, colors), facts.class_names.source + note


def outputs_of(
    table: ClassTable,
    source: str,
    told_apart: int | None,
    gives: Gives,
    background: str | None,
    warnings: list[str],
) -> tuple[ClassTable, tuple[int, ...], str]:
    """The output channel or class id of each class.

    Args:
        table: the classes that are named.
        source: who names them.
        told_apart: classes that the network tells apart, if that is known.
        gives: what it gives.
        background: `first` or `last`: where an output stands that is of no class.
        warnings: gets a line if that has to be assumed.

    Returns:
        The classes, with one for the background where it cannot be left out; the channel or class
        id of each; who says so.

    Raises:
        ModelImportError: there are more or fewer.
    """
    named = len(table)
    if told_apart == 1 and named != 2:
        raise ModelImportError(
            f"the network has one output, the score of the second of two classes, and {source} has "
            f"{named} ({shortened(table.names)}): give both by --classes"
        )
    number = named if told_apart == 1 else told_apart or named + bool(background)
    if number == named:
        if background:
            raise ModelImportError(
                f"--background {background}: found {number} outputs and {named} classes, expected "
                "one output more: leave it out, or give the classes by --classes FILE"
            )
        return table, tuple(range(named)), source
    if number != named + 1 or number > MAX_CLASSES + (gives is not Gives.CLASS_IDS):
        raise ModelImportError(
            f"the network tells {number} classes apart, and {source} has {named} "
            f"({shortened(table.names)}): give the network's classes by --classes"
        )
    if not background:
        warnings.append(
            f"the network tells {number} classes apart and {named} are named: its last output is "
            "taken for no class; if it is the first one, give --background first"
        )
    first = background == "first"
    source = f"{source}; its {'first' if first else 'last'} is no class"
    if gives is Gives.CLASS_IDS:  # There is no second best for its pixels.
        return with_background(table, first), tuple(range(number)), source
    return table, tuple(range(first, first + named)), source


def with_background(table: ClassTable, first: bool) -> ClassTable:
    """A class table with a class more, of pixels without one.

    Raises:
        ModelImportError: it has such a class.
    """
    kept = tuple(
        replace(entry, label_id=label_id)
        for entry, label_id in zip(table.classes, table.label_ids, strict=True)
    )
    colors, ids = {entry.color for entry in kept}, set(table.label_ids)
    color = next((n, n, n) for n in range(256) if (n, n, n) not in colors)
    label_id = next(n for n in reversed(range(MAX_CLASSES)) if n not in ids)
    added = (SegmentationClass(BACKGROUND, color, label_id),)
    try:
        return ClassTable(added + kept if first else kept + added)
    except ValueError as error:
        raise ModelImportError(f"{error}; or give all classes by --classes FILE") from error


def shortened(names: Sequence[str]) -> str:
    """The number and the first of some names."""
    shown = ", ".join(names[:6])
    return f"{len(names)}: {shown}{', ...' if len(names) > 6 else ''}"


def _without_background(
    names: tuple[str, ...], told_apart: int | None
) -> tuple[tuple[str, ...], str]:
    """Class names without one more for pixels of no class, that the network does not give."""
    of_two = told_apart == 1  # The one output is the score of the second one.
    if not told_apart or of_two or len(names) != told_apart + 1:
        return names, ""
    for kept, dropped in ((names[1:], names[0]), (names[:-1], names[-1])):
        if dropped.strip().lower() in NO_CLASS:
            return kept, f", without {dropped!r}: the network tells {told_apart} classes apart"
    return names, ""


def _table(names: tuple[str, ...], colors: tuple[tuple[int, int, int], ...] | None) -> ClassTable:
    """A class table of names; colours that are not stated are those of a class set, or made."""
    keys = [SegmentationClass(name, (0, 0, 0)).key for name in names]
    for table in class_sets().values():
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
    fitting = {name: table for name, table in class_sets().items() if len(table) == told_apart}
    if len(fitting) == 1:
        (name,) = fitting
        return fitting[name], f"{ASSUMED}: {name}, by their number"
    number = "an unknown number of" if told_apart is None else str(told_apart)
    tells = f"tells {number} classes apart"
    if told_apart == 1:
        tells = "has one output, the score of the second of two classes"
    raise ModelImportError(
        f"the network {tells}, and nothing names them: give --classes ({', '.join(class_sets())} "
        "or a CSV file)"
    )


def _color(number: int) -> tuple[int, int, int]:
    """One of many colours that are easily told apart: hues by the golden ratio."""
    hue, value = number * 0.618033988749895 % 1, (0.95, 0.7, 0.5)[number % 3]
    red, green, blue = (round(255 * of) for of in colorsys.hsv_to_rgb(hue, 0.75, value))
    return red, green, blue
