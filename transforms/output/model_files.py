"""Model packages that are not on this machine: for a run, and for its workers on other machines.

Every worker can read the output folder. The process that starts a run copies its model package
there; a worker without the same package fetches it from there.
"""

import atexit
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from models.packages import DESCRIPTION_FILE, ModelPackage, PackageError, files_of, load_package
from transforms import storage

MODELS = f"{storage.WORK_FOLDER}/models"


def load(name_or_path: str) -> ModelPackage:
    """Load a package by name or path; a remote one is copied to a temporary folder until exit.

    Raises:
        PackageError: the package does not exist, is incomplete or damaged, or contains code.
    """
    if storage.store_of(name_or_path).local_paths:
        return load_package(name_or_path)
    folder = tempfile.TemporaryDirectory(prefix="citymask-model-")
    atexit.register(folder.cleanup)
    _fetch(storage.absolute(name_or_path), Path(folder.name))
    return load_package(folder.name)


def publish(package: ModelPackage, output: str) -> None:
    """Copy a package to the output folder; raises StorageError if it cannot be written."""
    for name in package.files:
        storage.write(output, f"{_folder(package)}/{name}", (package.path / name).read_bytes())


@contextmanager
def at_hand(package: ModelPackage, output: str) -> Iterator[ModelPackage]:
    """Context manager: the package, with a path that exists on this machine.

    Raises:
        PackageError: neither this machine nor the output folder has the package.
    """
    if _is_here(package):
        yield package
        return
    source = f"{output}/{_folder(package)}"
    with tempfile.TemporaryDirectory(prefix="citymask-model-") as folder:
        fetched = replace(package, path=Path(folder))
        try:
            _fetch(source, fetched.path)
        except PackageError as error:
            raise PackageError(
                f"{package.model_id} is not at {package.path}, and {error}"
            ) from error
        if not _is_here(fetched):
            raise PackageError(f"{source}: incomplete, or not {package.model_id}")
        yield fetched


def _fetch(source: str, folder: Path) -> None:
    _fetch_file(source, folder, DESCRIPTION_FILE)
    for name in files_of(folder):
        _fetch_file(source, folder, name)


def _fetch_file(source: str, folder: Path, name: str) -> None:
    try:
        (folder / name).write_bytes(storage.read(f"{source}/{name}"))
    except storage.StorageError as error:
        raise PackageError(f"{source}/{name}: {error}") from error


def _folder(package: ModelPackage) -> str:
    return f"{MODELS}/{package.fingerprint}"


def _is_here(package: ModelPackage) -> bool:
    """Whether the package's path holds it; this machine may have another version there."""
    try:
        return load_package(package.path) == package
    except PackageError:
        return False
