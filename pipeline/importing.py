"""Importing a network: reading it, trying it on a photo, and showing what it sees."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from models.importing import reading
from models.importing.making import PHOTO, Imported, try_out
from models.importing.settling import Wishes, settle
from models.packages import DESCRIPTION_FILE
from models.segmenter import Segmenter
from transforms import storage
from transforms.photos.decoding import DEFAULT_MAX_PIXELS, decode_full
from transforms.photos.mask_files import encode_overlay
from transforms.photos.pictures import DecodeError

OVERLAY = "overlay.jpg"
"""File of a package: a photo blended with the mask that the network gives."""


@dataclass(frozen=True)
class Written:
    """A package that was written.

    Attributes:
        model_id: of the model.
        shares: of the classes in a photo, without those that it does not show.
    """

    model_id: str
    shares: dict[str, float]


def import_network(source: str, wishes: Wishes, photo: str | None = None) -> Imported:
    """Read a network, find out what it takes and gives, and run it on a photo.

    Args:
        source: a file or folder, or a handle of a hub.
        wishes: what the user states.
        photo: a file; by default `making.PHOTO`.

    Raises:
        ModelImportError: it cannot be read, may carry code, does not run, or something cannot be
            found out.
        ValueError: the photo cannot be read.
    """
    image = _photo(photo)
    size = wishes.facts.input_size
    found = reading.read(source, size.value if size else None)
    return try_out(found, settle(found, wishes, Path(source).stem), image)


def check_free(output: Path, force: bool) -> None:
    """Check that a package may be written to a folder.

    Args:
        output: the folder.
        force: whether a package in there may be replaced.

    Raises:
        ValueError: there is something else, or a package that must stay.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not force:
        raise ValueError(f"{output} exists: give another MODEL_DIR, or --force to replace it")
    if not (output / DESCRIPTION_FILE).is_file():
        raise ValueError(f"{output} is no model package: give another MODEL_DIR")


def write(imported: Imported, photo: str | None, output: Path) -> Written:
    """Write a package with an overlay; until it is whole, what is in its place stays.

    Args:
        imported: the network.
        photo: a file; by default `making.PHOTO`.
        output: the folder of the package.

    Raises:
        ValueError: the photo cannot be read.
        EngineError: the model does not run.
        OSError: it cannot be written.
    """
    image, output = _photo(photo), output.absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as folder:
        new, old = Path(folder, "new"), Path(folder, "old")
        package = imported.write(new)
        mask = Segmenter.load(package).segment(image)
        overlay = encode_overlay(image, mask.mask, package.classes.palette())
        (new / OVERLAY).write_bytes(overlay)
        if output.exists():
            output.rename(old)
        new.rename(output)
    pixels = zip(package.classes.names, mask.pixels, strict=True)
    shares = {name: number / mask.mask.size for name, number in pixels if number}
    return Written(package.model_id, shares)


def _photo(file: str | None) -> Image.Image:
    file = file or str(PHOTO)
    try:
        return decode_full(storage.read(file), DEFAULT_MAX_PIXELS)
    except (storage.StorageError, DecodeError) as error:
        raise ValueError(f"{file}: {error}") from error
