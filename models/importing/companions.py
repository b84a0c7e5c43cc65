"""What lies beside a network, whatever its format: label files and what Hugging Face writes."""

import json
import re
import reprlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from models.classes import ClassTable
from models.graphs import Channels, Resize
from models.importing.sources import Fact, Facts, ModelImportError

CONFIG, PREPROCESSOR, CARD = "config.json", "preprocessor_config.json", "README.md"
"""What a folder of Hugging Face holds beside the network."""

ONNX_FOLDER = "onnx"
"""Where a folder of Hugging Face keeps ONNX files, below the others."""

LABEL_FILES = re.compile(r".*(labels|classes|label_map|class_names).*\.txt|classes\.csv", re.I)
"""Names of files that list classes."""

GENERAL_WORDS = {"labels", "label", "classes", "class", "map", "names"}
"""Words in names of label files that do not tell whose labels they are."""

MAX_BYTES = 16 << 20
"""Largest file that is read, in bytes."""

PLACEHOLDER = re.compile(r"LABEL_\d+")
"""What Hugging Face calls a class without a name."""


def beside(network: Path) -> tuple[Facts, tuple[str, ...]]:
    """Facts stated beside a network, and lines that the user should see.

    Args:
        network: its file, or the folder that is the network.

    Raises:
        ModelImportError: a file is damaged.
    """
    folder = network if network.is_dir() else network.parent
    if folder.name == ONNX_FOLDER and not (folder / CONFIG).exists():
        folder = folder.parent
    facts = Facts()
    warnings: list[str] = []
    for name, understand in _READERS.items():
        if (folder / name).is_file():
            found, told = understand(folder / name)
            facts = facts.filled_from(found)
            warnings += told
    if facts.class_names is None:
        labels, told = _label_file(network, folder)
        warnings += told
        if labels:
            facts = facts.filled_from(_labels(labels))
    return facts, tuple(warnings)


def names_in(text: str) -> tuple[str, ...]:
    """The class names of a label file: a name per line, perhaps behind its number."""
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    numbered = [re.fullmatch(r"(\d+)(?:\s*[:,;=]\s*|\s+)(\S.*)", line) for line in lines]
    pairs = [(int(match[1]), match[2]) for match in numbered if match]
    in_order = all(number == pairs[0][0] + n for n, (number, _) in enumerate(pairs))
    if len(pairs) == len(lines) and in_order:
        return tuple(name for _, name in pairs)
    return lines


def _label_file(network: Path, folder: Path) -> tuple[Path | None, list[str]]:
    """The label file of a network: the one whose name fits best."""
    found = sorted(file for file in folder.iterdir() if LABEL_FILES.fullmatch(file.name))
    known = _words(network.stem) | _words(folder.name)

    def fit(file: Path) -> int:
        own = _words(file.stem)
        return len(own & known) if own else 1  # `labels.txt` says nothing against it.

    best = max(map(fit, found), default=0)
    fitting = [file for file in found if best and fit(file) == best]
    if len(fitting) == 1 or not found:
        return (fitting[0] if fitting else None), []
    which = ", ".join(file.name for file in fitting or found)
    why = "which one is meant is not clear" if fitting else "no word of the network's name in it"
    return None, [f"{which} not read: {why}; give it by --classes if it fits"]


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", name.lower())) - GENERAL_WORDS


def _labels(file: Path) -> Facts:
    text = _text(file)
    if file.suffix.lower() != ".csv":
        names = names_in(text)
        return Facts(class_names=Fact(names, file.name)) if names else Facts()
    try:
        classes = ClassTable.parse(text, file)
    except ValueError as error:
        raise ModelImportError(str(error)) from error
    return Facts(
        class_names=Fact(classes.names, file.name),
        colors=Fact(tuple(entry.color for entry in classes.classes), file.name),
    )


def _config(file: Path) -> tuple[Facts, list[str]]:
    """The network's class names and architecture."""
    stated = _object(file)
    architectures = stated.get("architectures")
    architecture = architectures[0] if isinstance(architectures, list) and architectures else None
    architecture = architecture or stated.get("model_type")
    named = isinstance(architecture, str)
    names = _names(file, stated["id2label"]) if stated.get("id2label") else ()
    warnings = []
    if names and all(map(PLACEHOLDER.fullmatch, names)):
        warnings.append(f"{file.name} has no class names, only {names[0]} and the like")
        names = ()
    return (
        Facts(
            architecture=Fact(str(architecture), file.name) if named else None,
            class_names=Fact(names, file.name) if names else None,
        ),
        warnings,
    )


def _names(file: Path, stated: Any) -> tuple[str, ...]:
    try:
        names = {int(number): name for number, name in stated.items()}
        return tuple(str(names[number]) for number in range(len(stated)))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelImportError(
            f"{file}: found the id2label {reprlib.repr(stated)}, expected a name for each number "
            "from 0"
        ) from error


def _preprocessor(file: Path) -> tuple[Facts, list[str]]:
    """How photos are normalised and resized."""
    stated, source = _object(file), file.name
    order = Channels.BGR if stated.get("do_flip_channel_order") is True else Channels.RGB
    mean, std = _normalisation(file, stated, order)
    size, resize = _size(file, stated)
    warnings = []
    if stated.get("do_reduce_labels") or stated.get("reduce_labels"):
        warnings.append(
            f"{source}: the labels it was trained with count the classes from 1, and 0 is no class"
        )
    if stated.get("do_center_crop"):
        warnings.append(f"{source}: it wants photos cropped to their centre; they are not")
    return (
        Facts(
            channels=Fact(order, source),
            mean=Fact(mean, source),
            std=Fact(std, source),
            input_size=Fact(size, source) if size else None,
            resize=Fact(resize, source) if resize else None,
        ),
        warnings,
    )


Triple = tuple[float, float, float]


def _normalisation(file: Path, stated: dict, order: Channels) -> tuple[Triple, Triple]:
    """Mean and deviation of photos scaled to 0..1: bytes are rescaled first, then normalised."""
    mean, std, factor = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1.0
    if stated.get("do_normalize", "image_mean" in stated):
        mean, std = (_triple(file, stated, key, order) for key in ("image_mean", "image_std"))
    if stated.get("do_rescale", True):
        factor = _number(file, "rescale_factor", stated.get("rescale_factor", 1 / 255))
    whole = 255 * factor
    if not whole or not all(std):
        raise ModelImportError(f"{file}: found a rescale_factor or image_std of 0")
    return _scaled(mean, whole), _scaled(std, whole)


def _scaled(values: Triple, whole: float) -> Triple:
    red, green, blue = (value / whole for value in values)
    return red, green, blue


def _triple(file: Path, stated: dict, key: str, order: Channels) -> Triple:
    values = stated.get(key)
    values = values if isinstance(values, list) else [values] * 3
    if len(values) != 3:
        raise ModelImportError(f"{file}: found {len(values)} values of {key}, expected 3")
    red, green, blue = (_number(file, key, value) for value in values)
    return (red, green, blue) if order is Channels.RGB else (blue, green, red)


def _size(file: Path, stated: dict) -> tuple[tuple[int, int] | None, Resize | None]:
    """Width and height that photos should have, and how they get them."""
    size = stated.get("size")
    if size is None or stated.get("do_resize") is False:
        return None, None
    if not isinstance(size, dict):
        sides = size if isinstance(size, list) and len(size) == 2 else [size, size]
        height, width = (_pixels(file, side) for side in sides)
        return (width, height), Resize.STRETCH
    if "height" in size and "width" in size:
        return (_pixels(file, size["width"]), _pixels(file, size["height"])), Resize.STRETCH
    if "shortest_edge" in size:
        side = _pixels(file, size["shortest_edge"])
        return (side, side), Resize.KEEP_ASPECT
    return None, None


def _card(file: Path) -> tuple[Facts, list[str]]:
    """The licence in the front matter of a model card."""
    matter = re.match(r"---\r?\n(.*?)\r?\n---", _text(file), re.S)
    if matter is None:
        return Facts(), []
    try:
        stated = yaml.safe_load(matter[1])
    except (yaml.YAMLError, RecursionError, ValueError):
        return Facts(), [f"{file.name}: its front matter is not valid YAML; look for the licence"]
    stated = stated if isinstance(stated, dict) else {}
    licence = stated.get("license")
    if licence == "other":
        licence = stated.get("license_name", licence)
    return Facts(licence=Fact(licence, file.name) if isinstance(licence, str) else None), []


_READERS: dict[str, Callable[[Path], tuple[Facts, Sequence[str]]]] = {
    CONFIG: _config,
    PREPROCESSOR: _preprocessor,
    CARD: _card,
}


def _object(file: Path) -> dict[str, Any]:
    try:
        stated = json.loads(_text(file))
    except (ValueError, RecursionError) as error:
        raise ModelImportError(f"{file}: not valid JSON ({error}); get it again") from error
    if not isinstance(stated, dict):
        raise ModelImportError(f"{file}: found a {type(stated).__name__}, expected an object")
    return stated


def _text(file: Path) -> str:
    try:
        size = file.stat().st_size
        if size <= MAX_BYTES:
            return file.read_text("utf-8-sig", errors="replace")
    except OSError as error:
        raise ModelImportError(f"{file}: cannot be read: {error.strerror}") from error
    raise ModelImportError(f"{file}: found {size} bytes, expected at most {MAX_BYTES}")


def _number(file: Path, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e6:
        raise ModelImportError(f"{file}: found the {key} {reprlib.repr(value)}, expected a number")
    return float(value)


def _pixels(file: Path, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelImportError(f"{file}: found the size {reprlib.repr(value)}, expected pixels")
    return value
