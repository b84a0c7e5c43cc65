"""YAML with lines: what a text says, where it says it, and all that is wrong with it at once.

Only plain values are taken. Keys are text as written, so that `on` is not taken for `true`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline.nights.urls import without_secrets

YAML_TAG = "tag:yaml.org,2002:"
MAPPING_TAG = f"{YAML_TAG}map"
LIST_TAG = f"{YAML_TAG}seq"
TEXT_TAG = f"{YAML_TAG}str"
NULL_TAG = f"{YAML_TAG}null"
DATE_TAG = f"{YAML_TAG}timestamp"
SCALAR_TAGS = frozenset(
    {TEXT_TAG, NULL_TAG, f"{YAML_TAG}bool", f"{YAML_TAG}int", f"{YAML_TAG}float"}
)

LONGEST_FOUND = 60
"""Characters of a wrong value that an error repeats."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with the file.

    Attributes:
        line: counted from 1.
        key: with its sections in front, `limits.max_images`; empty where it is the file as such.
        message: what is wrong.
    """

    line: int
    key: str
    message: str

    def __str__(self) -> str:
        text = f"{self.line}: {self.key + ': ' if self.key else ''}{self.message}"
        return without_secrets(text)


@dataclass(frozen=True)
class Document:
    """A YAML text.

    Attributes:
        root: its tree of nodes, which know their lines; None where it has none.
        content: what it stands for, as dictionaries, lists and plain values.
        problems: what is wrong with it.
    """

    root: yaml.Node | None
    content: Any
    problems: tuple[Problem, ...]

    @classmethod
    def parse(cls, data: bytes) -> "Document":
        """Read a text in UTF-8; whatever is wrong with it is among the problems."""
        problems: list[Problem] = []
        root = _compose(data, problems)
        content = _plain(root, (), problems, {}) if root else None
        return cls(root, content, tuple(problems))

    def at(self, path: Sequence[str | int]) -> tuple[int, int, str]:
        """How far a path of keys and positions leads, and line and description of what is there."""
        assert self.root is not None
        *before, (line, node) = _steps(self.root, path)
        return len(before), line, _found(node)


def key_of(path: Sequence[str | int]) -> str:
    """A path as text: `limits.max_images`, `inputs[0]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _compose(data: bytes, problems: list[Problem]) -> yaml.Node | None:
    """The tree of a YAML document, whose nodes know their lines; None where it has none."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        problems.append(Problem(line, "", "not UTF-8; save the file as UTF-8"))
        return None
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        problems.append(Problem(mark.line + 1 if mark else 1, "", f"not YAML: {said}"))
        return None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        problems.append(Problem(line, "", f"not YAML: {error.reason}"))
        return None
    except RecursionError:
        problems.append(Problem(1, "", "not YAML: nested too deeply"))
        return None
    if root is None or root.tag == NULL_TAG:
        problems.append(Problem(1, "", "empty; expected keys and values"))
        return None
    return root


def _plain(
    node: yaml.Node, path: tuple[str | int, ...], problems: list[Problem], known: dict[int, Any]
) -> Any:
    """What a tree stands for; a date is the text of it.

    Args:
        node: the tree.
        path: keys and positions that lead to it.
        problems: what is wrong is added here.
        known: what nodes stand for that have been seen, by identity: aliases repeat them.
    """
    if id(node) in known:
        return known[id(node)]
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode) and node.tag == MAPPING_TAG:
        mapping: dict[str, Any] = known.setdefault(id(node), {})
        lines: dict[str, int] = {}
        for key, value in node.value:
            at = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                problems.append(Problem(at, key_of(path), f"expected a key, found {_found(key)}"))
                continue
            inner = (*path, key.value)
            if key.value in mapping:
                before = lines[key.value]
                problems.append(Problem(at, key_of(inner), f"given twice, first in line {before}"))
                continue
            lines[key.value] = at
            mapping[key.value] = _plain(value, inner, problems, known)
        return mapping
    if isinstance(node, yaml.SequenceNode) and node.tag == LIST_TAG:
        items: list[Any] = known.setdefault(id(node), [])
        items.extend(
            _plain(item, (*path, position), problems, known)
            for position, item in enumerate(node.value)
        )
        return items
    if isinstance(node, yaml.ScalarNode) and node.tag == DATE_TAG:
        return node.value
    if isinstance(node, yaml.ScalarNode) and node.tag in SCALAR_TAGS:
        try:
            return yaml.SafeLoader("").construct_object(node)
        except (ValueError, yaml.YAMLError):
            problems.append(Problem(line, key_of(path), f"cannot be read: {_found(node)}"))
            return None
    tag = node.tag.replace(YAML_TAG, "!!")
    problems.append(Problem(line, key_of(path), f"the YAML tag {tag} is not taken here"))
    return None


def _steps(root: yaml.Node, path: Sequence[str | int]) -> Iterator[tuple[int, yaml.Node]]:
    """Line and node at each step of a path, from the root to where the path ends in the file."""
    node, line = root, root.start_mark.line + 1
    yield line, node
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
            if not found:
                return
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return
        yield line, node


def _found(node: yaml.Node) -> str:
    """What stands at a node, in words or as written."""
    if isinstance(node, yaml.CollectionNode):
        kind = "mapping" if isinstance(node, yaml.MappingNode) else "list"
        return f"a {kind}" if node.value else f"an empty {kind}"
    if node.tag == NULL_TAG:
        return "nothing"
    text = node.value if len(node.value) <= LONGEST_FOUND else f"{node.value[:LONGEST_FOUND]}..."
    return repr(text) if node.tag == TEXT_TAG else text
