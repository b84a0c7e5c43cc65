"""Names that are safe as paths under the output folder, one to one with what they name.

An image's name is its path relative to its INPUT, with `/` between the parts; empty parts and `.`
name nothing and are left out. In each part these are written as `%` and two hexadecimal digits per
byte: `%` itself, control characters and newlines, backslashes, bytes that are not UTF-8, and the
dots of the part `..`. Everything else stays as it is, so ordinary names are unchanged. A mask's
file name that would be longer than 255 bytes is cut and ends with `~` and a hash of the whole name
instead; so does one that already looks as if it had been cut, or ends with `.confidence`, as the
names beside masks do.
"""

import hashlib
import posixpath
import re

MAX_PART_BYTES = 255
"""Longest file name that the usual file systems take."""

OVERLAY_ENDING = ".overlay.jpg"
CONFIDENCE_ENDING = ".confidence.png"
"""Endings of what stands beside masks; no mask has one of them."""

_SUFFIX = re.compile(r"(~[0-9a-f]{8})+(?=\.[^./]*$|$)")
_RESERVED = re.compile(r"(~[0-9a-f]{16}|(?i:\.confidence))$")


def image_name(relative_path: str) -> str:
    """Escape a path relative to an INPUT; lone surrogates stand for bytes that are not UTF-8.

    >>> image_name("lund/01.jpg")
    'lund/01.jpg'
    >>> image_name("./lund//01.jpg")
    'lund/01.jpg'
    >>> image_name("/../50%.jpg")
    '%2E%2E/50%25.jpg'
    """
    parts = [part for part in relative_path.split("/") if part not in ("", ".")]
    return "/".join(map(_escape_part, parts)) or "%00"


def printable(path: str) -> str:
    """The path as valid UTF-8 text without control characters, for rows and messages."""
    if path.isprintable():
        return path
    return "".join(_escape_character(c) if _is_unprintable(c) else c for c in path)


def distinct_name(image: str, source: str) -> str:
    """Another name for an image whose name is taken: `~` and a hash of its source are added.

    >>> distinct_name("lund/01.jpg", "/b/lund/01.jpg")
    'lund/01~83f9cd05.jpg'
    """
    stem, extension = posixpath.splitext(image)
    return f"{stem}~{_digest(source, 8)}{extension}"


def base_name(image: str) -> str:
    """The name without what `distinct_name` adds, however often: some images are called so."""
    return _SUFFIX.sub("", image) if "~" in image else image


def mask_path(folder: str, image: str) -> str:
    """Path of the mask of `image`, relative to the output folder.

    >>> mask_path("masks", "lund/01.jpg")
    'masks/lund/01.jpg.png'
    """
    *parents, name = image.split("/")
    parts = [*(_shorten(parent, "") for parent in parents), _shorten(name, ".png")]
    return "/".join([folder, *parts])


def overlay_path(mask: str) -> str:
    """Path of the overlay that stands beside `mask`.

    >>> overlay_path("masks/lund/01.jpg.png")
    'masks/lund/01.jpg.overlay.jpg'
    """
    return _beside(mask, OVERLAY_ENDING)


def confidence_path(mask: str) -> str:
    """Path of the confidence image that stands beside `mask`.

    >>> confidence_path("masks/lund/01.jpg.png")
    'masks/lund/01.jpg.confidence.png'
    """
    return _beside(mask, CONFIDENCE_ENDING)


def group_of(image: str) -> str:
    """The group of an image without one in a manifest: its first folder level, or `.`."""
    first, separator, _ = image.partition("/")
    return first if separator else "."


def _beside(mask: str, extension: str) -> str:
    folder, name = posixpath.split(mask.removesuffix(".png"))
    return posixpath.join(folder, _shorten(name, extension))


def _escape_part(part: str) -> str:
    if part == "..":
        return "%2E%2E"
    if part.isprintable() and "%" not in part and "\\" not in part:
        return part
    return "".join(_escape_character(c) if c in "%\\" or _is_unprintable(c) else c for c in part)


def _is_unprintable(character: str) -> bool:
    return ord(character) < 32 or 127 <= ord(character) < 160 or "\ud800" <= character <= "\udfff"


def _escape_character(character: str) -> str:
    undecodable = "\udc80" <= character <= "\udcff"
    errors = "surrogateescape" if undecodable else "surrogatepass"
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", errors))


def _shorten(part: str, extension: str) -> str:
    if len((part + extension).encode()) <= MAX_PART_BYTES and not _RESERVED.search(part):
        return part + extension
    ending = "~" + _digest(part, 16) + extension
    kept = part.encode()[: MAX_PART_BYTES - len(ending)].decode(errors="ignore")
    return kept + ending


def _digest(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
