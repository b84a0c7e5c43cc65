"""Model packages that are not on this machine: for a run, and for its workers on other machines.

Every worker can read the output folder. The process that starts a run copies its model package
there; a worker that does not have the same package fetches it from there.
"""

import atexit
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from models.packages import DESCRIPTION_FILE, WEIGHTS_FILE, ModelPackage, PackageError, load_package
from transforms import storage

MODELS = f"{storage.WORK_FOLDER}/models"
FILES = (DESCRIPTION_FILE, WEIGHTS_FILE)


def load(name_or_path: str) -> ModelPackage:
    """The package of this name or path; one in another store is copied here until the program ends.

    Raises:
        PackageError: there is no such package, or it is incomplete, damaged or carries code.
    """
    if storage.store_of(name_or_path).local_paths:
        return load_package(name_or_path)
    folder = tempfile.TemporaryDirectory(prefix="citymask-model-")
    atexit.register(folder.cleanup)
    _fetch(storage.absolute(name_or_path), Path(folder.name))
    return load_package(folder.name)


def publish(package: ModelPackage, output: str) -> None:
    """Put a package below the output folder; raises StorageError if that is impossible."""
    for name in FILES:
        storage.write(output, f"{_folder(package)}/{name}", (package.path / name).read_bytes())


@contextmanager
def at_hand(package: ModelPackage, output: str) -> Iterator[ModelPackage]:
    """As a context, the package with a path that exists on this machine.

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
    for name in FILES:
        try:
            (folder / name).write_bytes(storage.read(f"{source}/{name}"))
        except storage.StorageError as error:
            raise PackageError(f"{source}/{name}: {error}") from error


def _folder(package: ModelPackage) -> str:
    return f"{MODELS}/{package.fingerprint}"


def _is_here(package: ModelPackage) -> bool:
    """Whether the package's own path has it; another version may be installed here."""
    try:
        return load_package(package.path).fingerprint == package.fingerprint
    except PackageError:
        return False
