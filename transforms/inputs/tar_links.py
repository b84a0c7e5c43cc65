"""Tar links: what the links in a tar lead to.

A hard link names a member before it as that is spelled in the tar, a symbolic link a path from its
own folder (see path_resolution(7)). Both are followed in the tar alone, never outside of it.
"""

import posixpath
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from transforms.inputs.tar_headers import Entry, Kind

MAX_HOPS = 40
"""Symbolic links that may follow one another, as in Linux; this also ends a circle."""

MAX_FOLDERS = 64
"""Folders of a path of which one may be a link."""

MAX_SHOWN = 200
"""Characters of a target that a message shows."""

_LINKS = (Kind.HARD_LINK, Kind.SYMBOLIC_LINK)


def resolve_links(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, each link as the file that it leads to under its own name, or with `damage`.

    Of several files of one name a hard link means the last one before it, and a symbolic link the
    last one, as they do when the tar is unpacked.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for position, entry in enumerate(entries):
        places[_spelled(entry.name)].append(position)
    outcomes: list[Entry | str] = []
    for position in range(len(entries)):
        outcomes.append(_followed(position, entries, outcomes, places))
    return [_named(*pair) for pair in zip(entries, outcomes, strict=True)]


def _named(entry: Entry, outcome: Entry | str) -> Entry:
    if isinstance(outcome, str):
        return replace(entry, damage=f"a {entry.kind.value} that leads to {outcome}")
    return outcome if outcome is entry else replace(outcome, name=entry.name, is_break=False)


def _followed(
    position: int,
    entries: Sequence[Entry],
    outcomes: Sequence[Entry | str],
    places: dict[str, list[int]],
) -> Entry | str:
    """The file that an entry is or leads to, or to what it leads instead.

    Args:
        position: that of the entry.
        entries: all entries.
        outcomes: what this function gave for those before it.
        places: positions of entries by the spelling of their names.
    """
    entry = entries[position]
    if entry.kind not in _LINKS:
        return entry
    for _ in range(MAX_HOPS):
        entry = entries[position]
        if entry.kind is Kind.HARD_LINK:
            named = places.get(_spelled(entry.target), [])
            earlier = bisect_left(named, position)
            found = named[max(earlier - 1, 0) :]
        elif entry.kind is Kind.SYMBOLIC_LINK:
            path = posixpath.join(posixpath.dirname(entry.name), entry.target)
            found = places.get(_through_folders(_spelled(path), entries, places), [])[-1:]
        else:
            return entry if entry.kind is Kind.FILE else f"a {entry.kind.value}"
        if not found:
            shown = entry.target[:MAX_SHOWN]
            return (
                f"{shown!r}, which is not in this tar; pack the files themselves, as with "
                "`tar --dereference --hard-dereference`"
            )
        position = found[0]
        if position < len(outcomes):
            known = outcomes[position]
            if isinstance(known, str) or known.kind is Kind.FILE:
                return known
            return f"a {known.kind.value}"
    return f"itself, or over more than {MAX_HOPS} others"


def _through_folders(path: str, entries: Sequence[Entry], places: dict[str, list[int]]) -> str:
    """The path without links to folders on its way."""
    for _ in range(MAX_HOPS):
        if path in places or path.count("/") > MAX_FOLDERS:
            break
        folders = path.split("/")
        for depth in range(1, len(folders)):
            folder = "/".join(folders[:depth])
            linked = [entries[place] for place in places.get(folder, [])[-1:]]
            if linked and linked[0].kind is Kind.SYMBOLIC_LINK:
                beside = posixpath.join(posixpath.dirname(folder), linked[0].target)
                path = _spelled(posixpath.join(beside, *folders[depth:]))
                break
        else:
            break
    return path


def _spelled(path: str) -> str:
    """One spelling of a path, so that `./a.jpg` is `a.jpg`."""
    return posixpath.normpath(path)
