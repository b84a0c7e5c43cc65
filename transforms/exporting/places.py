"""Places: where exports are built and kept, so that no incomplete export looks complete.

Where folders can be renamed, an export is built among the unfinished files and moved to its place
once it is complete. Object stores cannot do that: there it is built in its place, beside a file
`UNFINISHED` that is removed last.
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
    return f"{storage.UNFINISHED}/{final(name)}" if _renames(output) else final(name)


def begin(output: str, name: str) -> None:
    """Remove what an earlier export left; no other export may be running. Raises StorageError."""
    abandon(output, name)
    if not _renames(output):
        storage.write(output, f"{final(name)}/{MARKER}", MARKER_TEXT)


def publish(output: str, name: str) -> None:
    """Put a whole export in the place of the one before it; raises StorageError."""
    storage.flush(output)  # A power cut must not leave one that only looks whole.
    if not _renames(output):
        storage.remove(output, f"{final(name)}/{MARKER}")
        return
    if storage.is_folder(f"{output}/{final(name)}"):
        storage.remove(output, final(name))
    storage.move(output, building(output, name), final(name))


def abandon(output: str, name: str) -> None:
    """Remove what there is of an export that is not whole; raises StorageError."""
    folder = building(output, name)
    if storage.is_folder(f"{output}/{folder}"):
        storage.remove(output, folder)


def _renames(output: str) -> bool:
    return storage.store_of(output).renames_folders
