"""Models for workers on other machines: what the output folder holds, every worker can read.

Whoever begins a run puts its model package below the output folder; a worker that does not have the
very same package takes it from there.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from models.packages import DESCRIPTION_FILE, WEIGHTS_FILE, ModelPackage, PackageError, load_package
from transforms import storage

MODELS = f"{storage.WORK_FOLDER}/models"
FILES = (DESCRIPTION_FILE, WEIGHTS_FILE)


def publish(package: ModelPackage, output: str) -> None:
    """Put a package below the output folder; raises StorageError where that is impossible."""
    for name in FILES:
        storage.write(output, f"{_folder(package)}/{name}", (package.path / name).read_bytes())


@contextmanager
def at_hand(package: ModelPackage, output: str) -> Iterator[ModelPackage]:
    """As a context, the package with a path that this machine has.

    Raises:
        PackageError: this machine does not have the package, and neither has the output folder.
    """
    if _is_here(package):
        yield package
        return
    source = f"{output}/{_folder(package)}"
    with tempfile.TemporaryDirectory(prefix="citymask-model-") as folder:
        fetched = replace(package, path=Path(folder))
        try:
            for name in FILES:
                (fetched.path / name).write_bytes(storage.read(f"{source}/{name}"))
        except storage.StorageError as error:
            raise PackageError(
                f"{package.model_id} is neither at {package.path} nor at {source}: {error}"
            ) from error
        if not _is_here(fetched):
            raise PackageError(f"{source}: incomplete, or not {package.model_id}")
        yield fetched


def _folder(package: ModelPackage) -> str:
    return f"{MODELS}/{package.fingerprint}"


def _is_here(package: ModelPackage) -> bool:
    """Whether the package's own path has it; another version may be installed here."""
    try:
        return load_package(package.path).fingerprint == package.fingerprint
    except PackageError:
        return False
