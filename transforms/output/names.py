"""Names that are safe as paths in the output folder, and unique.

An image's name is its path relative to its INPUT, with `/` between the parts; empty parts and `.`
are left out. In each part, the following are written as `%` and two hexadecimal digits per byte:
`%` itself, control characters and newlines, backslashes, bytes that are not UTF-8, and the dots of
the part `..`. Everything else is kept, so ordinary names are unchanged. A mask's file name that
would be longer than 255 bytes is cut and ends with `~` and a hash of the whole name; so does a name
that already looks cut, or that ends with `.confidence` like the files next to masks. So does a
folder that is named like a file next to it could be, such as `a.jpg.png`; and folders that are long
together end in one with a hash of them all.
"""

import hashlib
import os
import posixpath
import re
import unicodedata
from bisect import bisect
from itertools import accumulate

from models.texts import escape, is_unprintable, printable
from transforms import storage
from transforms.output import columns

__all__ = [
    "BESIDE", "CONFIDENCE", "MASK_ENDING", "MAX_PART_BYTES", "OVERLAY", "base_name", "beside",
    "distinct_name", "file_of", "folded", "group_of", "image_name", "is_beside", "is_mask_folder",
    "mask_path", "printable",
]  # fmt: skip

MASK_ENDING = ".png"

MAX_PART_BYTES = 255
"""Longest file name that common file systems accept."""

MAX_FOLDERS_BYTES = 400
"""Longest path of the folders of an image. It leaves room for the output folder, for the folder of
masks and for a file name: Cloud Storage takes paths of up to 1,024 bytes, Linux of 4,095."""

OVERLAY, CONFIDENCE = "overlay", "confidence"
BESIDE = {OVERLAY: ".overlay.jpg", CONFIDENCE: ".confidence.png"}
"""File endings of the outputs per photo, by the names of their settings. The files are stored next
to the masks; no mask has one of these endings."""

_MASK_FOLDER = re.compile(rf"{columns.MASKS}(-[^/]+@[0-9a-f]{{12}}(\+[^/]*)?)?")
_PRINTED = re.compile(rb"%([01][0-9A-F]|7F|[89A-F][0-9A-F])")
_SUFFIX = re.compile(r"(~[0-9a-f]{8})+(?=\.[^./]*$|$)")
_LIKE_MASKS = "|".join(
    re.escape(ending.removesuffix(MASK_ENDING))
    for ending in BESIDE.values()
    if ending.endswith(MASK_ENDING)
)
_CUT = "~[0-9a-f]{16}"
_RESERVED = re.compile(rf"({_CUT}|{_LIKE_MASKS})$", re.IGNORECASE)
_ENDINGS = "|".join(map(re.escape, (MASK_ENDING, *BESIDE.values())))
_LIKE_FILES = re.compile(rf"({_CUT}|{_LIKE_MASKS}|{_ENDINGS})$", re.IGNORECASE)
"""Ends of names that stay free for what is appended: of files, and of folders. Case is ignored, as
some file systems do."""


def image_name(relative_path: str) -> str:
    """Escape a path relative to an INPUT; lone surrogates represent bytes that are not UTF-8.

    >>> image_name("lund/01.jpg")
    'lund/01.jpg'
    >>> image_name("./lund//01.jpg")
    'lund/01.jpg'
    >>> image_name("/../50%.jpg")
    '%2E%2E/50%25.jpg'
    """
    parts = [part for part in relative_path.split("/") if part not in ("", ".")]
    return "/".join(map(_escape_part, parts)) or "%00"


def distinct_name(image: str, source: str) -> str:
    """A distinct name for an image whose name is taken: adds `~` and a hash of its source.

    >>> distinct_name("lund/01.jpg", "/b/lund/01.jpg")
    'lund/01~83f9cd05.jpg'
    """
    stem, extension = posixpath.splitext(image)
    return f"{stem}~{_digest(source, 8)}{extension}"


def base_name(image: str) -> str:
    """The name without the suffixes of `distinct_name`; there may be several."""
    return _SUFFIX.sub("", image) if "~" in image else image


def mask_path(folder: str, image: str) -> str:
    """Path of the mask of `image`, relative to the output folder.

    >>> mask_path("masks", "lund/01.jpg")
    'masks/lund/01.jpg.png'
    """
    *folders, name = image.split("/")
    return "/".join([folder, *_cut_folders(folders), _shorten(name, MASK_ENDING)])


def is_mask_folder(name: str) -> bool:
    """Whether it is what runs call a folder of masks; others may begin with `masks-` as well."""
    return _MASK_FOLDER.fullmatch(name) is not None


def beside(mask: str, output: str) -> str:
    """Path of an output of `BESIDE` next to `mask`.

    >>> beside("masks/lund/01.jpg.png", "overlay")
    'masks/lund/01.jpg.overlay.jpg'
    """
    folder, name = posixpath.split(mask.removesuffix(MASK_ENDING))
    return posixpath.join(folder, _shorten(name, BESIDE[output]))


def is_beside(path: str) -> bool:
    """Whether a path has an ending of `BESIDE`."""
    return path.endswith(tuple(BESIDE.values()))


def folded(path: str) -> str:
    """What two paths have in common that a file system may take for one.

    That is one that ignores case, and the ways to write a letter with its accents. See D145 of the
    Unicode Standard.

    >>> folded("LUND/E\u0301.jpg") == folded("lund/\u00e9.JPG")
    True
    """
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())


def file_of(uri: str) -> str:
    """The path of the file that the URI of a row stands for.

    That is the URI itself or, where there is no such file, what `printable` made it of: the bytes
    of control characters, and those that are not UTF-8.
    """
    if "%" not in uri or not storage.store_of(uri).local_paths or storage.exists(uri):
        return uri
    path = os.fsdecode(_PRINTED.sub(lambda byte: bytes([int(byte[1], 16)]), os.fsencode(uri)))
    return path if storage.exists(path) else uri


def group_of(image: str) -> str:
    """The group of an image without one in a manifest: its first folder level, or `.`."""
    first, separator, _ = image.partition("/")
    return first if separator else "."


def _escape_part(part: str) -> str:
    if part == "..":
        return "%2E%2E"
    if part.isprintable() and "%" not in part and "\\" not in part:
        return part
    return "".join(escape(c) if c in "%\\" or is_unprintable(c) else c for c in part)


def _cut_folders(folders: list[str]) -> list[str]:
    """The folders of an image, safe beside files; the last ones as a hash if they are too long."""
    parts = [_shorten(folder, "", _LIKE_FILES) for folder in folders]
    if len("/".join(parts).encode()) <= MAX_FOLDERS_BYTES:
        return parts
    rest = "~" + _digest("/".join(folders), 16)
    lengths = list(accumulate(len(part.encode()) + 1 for part in parts))
    return [*parts[: bisect(lengths, MAX_FOLDERS_BYTES - len(rest))], rest]


def _shorten(part: str, extension: str, reserved: re.Pattern[str] = _RESERVED) -> str:
    if len((part + extension).encode()) <= MAX_PART_BYTES and not reserved.search(part):
        return part + extension
    ending = "~" + _digest(part, 16) + extension
    kept = part.encode()[: MAX_PART_BYTES - len(ending)].decode(errors="ignore")
    return kept + ending


def _digest(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
