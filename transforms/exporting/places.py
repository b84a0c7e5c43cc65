"""Places: where exports are built and kept, so that none is taken for whole that is not.

In a local folder an export is built among the unfinished files and moved to its place once it is
whole. Objects in a store cannot be moved all at once: there it is built in its place, beside a file
`UNFINISHED` that goes last.
"""

from transforms import storage

EXPORTS = "exports"
MARKER = "UNFINISHED"
MARKER_TEXT = b"This export is not whole. It was interrupted, or `citymask export` is at work.\n"


def final(name: str) -> str:
    """Folder of an export, below the output folder."""
    return f"{EXPORTS}/{name}"


def building(output: str, name: str) -> str:
    """Folder in which an export is built, below the output folder."""
    if storage.is_remote(output):
        return final(name)
    return f"{storage.UNFINISHED}/{final(name)}"


def begin(output: str, name: str) -> None:
    """Make room; call it while nobody else exports there. Raises StorageError."""
    abandon(output, name)
    if storage.is_remote(output):
        storage.write(output, f"{final(name)}/{MARKER}", MARKER_TEXT)


def publish(output: str, name: str) -> None:
    """Put a whole export in the place of the one before it; raises StorageError."""
    place = f"{output}/{final(name)}"
    if storage.is_remote(output):
        storage.remove(f"{place}/{MARKER}")
        return
    if storage.is_folder(place):
        storage.remove(place)
    storage.move(f"{output}/{building(output, name)}", place)


def abandon(output: str, name: str) -> None:
    """Remove what there is of an export that is not whole; raises StorageError."""
    folder = f"{output}/{building(output, name)}"
    if storage.is_folder(folder):
        storage.remove(folder)
