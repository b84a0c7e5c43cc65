"""Tar headers: a walk over the headers of a tar, robust to damage.

The formats are V7, ustar and pax (POSIX.1-2017, "pax Interchange Format" and "ustar Interchange
Format" of the utility pax) and that of GNU tar (its manual, "Basic Tar Format"). A header is a
block of 512 bytes with a checksum. Extension headers stand before it and hold what does not fit
into it, such as long names. As `tar --ignore-zeros` does, the walk goes on behind the end of an
archive: several may be joined.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import BinaryIO

from transforms.inputs.scanning import WINDOW_BYTES, skip_zeros

BLOCK = 512

MAX_EXTENSION_BYTES = 1 << 20
"""Longest extension header that is read; ten times the longest name of a file system is less."""


class Kind(Enum):
    """What an entry of a tar is."""

    FILE = "file"
    HARD_LINK = "hard link"
    SYMBOLIC_LINK = "symbolic link"
    FOLDER = "folder"
    SPECIAL = "pipe or device"


@dataclass(frozen=True)
class Entry:
    """What a header says, or a damaged part of a tar.

    Attributes:
        name: path in the tar, as it is spelled there; bytes that are not UTF-8 are lone surrogates.
            A damaged part is called `@` and its byte offset.
        kind: what it is.
        offset: first byte of its data.
        length: bytes of its data.
        target: what it links to, as it is spelled there.
        damage: why its data cannot be read.
        is_break: whether the tar itself is damaged here, be it between its entries.
    """

    name: str
    kind: Kind
    offset: int
    length: int
    target: str = ""
    damage: str = ""
    is_break: bool = False


@dataclass(frozen=True)
class _Header:
    name: bytes
    type: bytes
    size: int
    target: bytes


@dataclass
class _Extensions:
    """Extension headers that stand before a header."""

    start: int | None = None
    name: bytes = b""
    target: bytes = b""
    values: dict[bytes, bytes] = field(default_factory=dict)


_LONG_NAME, _LONG_TARGET, _PAX, _SOLARIS_PAX, _GLOBAL_PAX = b"L", b"K", b"x", b"X", b"g"
_EXTENSIONS = (_LONG_NAME, _LONG_TARGET, _PAX, _SOLARIS_PAX, _GLOBAL_PAX)
_OLD_FILE, _DUMP_FOLDER, _CONTINUED, _GNU_SPARSE = b"\0", b"D", b"M", b"S"

_KINDS = {
    b"1": Kind.HARD_LINK,
    b"2": Kind.SYMBOLIC_LINK,
    b"3": Kind.SPECIAL,
    b"4": Kind.SPECIAL,
    b"5": Kind.FOLDER,
    b"6": Kind.SPECIAL,
    _DUMP_FOLDER: Kind.FOLDER,
    b"V": Kind.SPECIAL,
}
"""Kinds by type flag; all others are files, unknown ones as well."""

_PAX_SPARSE = (b"GNU.sparse.map", b"GNU.sparse.size", b"GNU.sparse.major")
_PAX_KEYS = {b"path", b"linkpath", b"size", b"GNU.sparse.name", *_PAX_SPARSE}

_MAGIC = b"ustar"
_MAGIC_AT = 257
"""What all formats but V7 have in their headers, and where."""

_POSIX_MAGIC = _MAGIC + b"\0"
"""Only there a header may have the beginning of a long name."""


def starts_with_header(file: BinaryIO) -> bool:
    """Whether a file begins as a tar does."""
    file.seek(0)
    return _parsed(file.read(BLOCK)) is not None


def read_entries(file: BinaryIO, size: int) -> Iterator[Entry]:
    """The entries of a tar and its damaged parts, in their order. Only headers are read.

    After a damaged header, and after a file that claims to end behind the tar, the walk goes on at
    the next header, even if bytes are missing or too many so that it is not where blocks begin.

    Args:
        file: the tar.
        size: its bytes.
    """
    common: dict[bytes, bytes] = {}
    extensions = _Extensions()
    position = 0
    while position < size:
        start = position if extensions.start is None else extensions.start
        file.seek(position)
        block = file.read(BLOCK)
        header = _parsed(block)
        if header is None:
            is_end = not block.strip(b"\0")
            position = (_skip_empty if is_end else _next_header)(file, position, size)
            if not is_end or extensions.start is not None:
                yield _damaged(start, position, f"no tar header at byte {start}")
            extensions = _Extensions()
            continue
        data = position + BLOCK
        if header.type in _EXTENSIONS:
            if header.size > MAX_EXTENSION_BYTES or data + header.size > size:
                yield _damaged(
                    position,
                    data,
                    f"a tar header of {header.size} bytes at byte {position}; at most "
                    f"{MAX_EXTENSION_BYTES} are read, and the tar ends after {size - data}",
                )
            elif header.type == _GLOBAL_PAX:
                common |= _pax_values(file.read(header.size))
            else:
                _extend(extensions, header, file.read(header.size))
                extensions.start = start
            position = _after(file, data, header.size, size)
            continue
        entry, position = _entry(file, header, block, data, size, common, extensions)
        extensions = _Extensions()
        yield entry


def _entry(
    file: BinaryIO,
    header: _Header,
    block: bytes,
    data: int,
    size: int,
    common: dict[bytes, bytes],
    extensions: _Extensions,
) -> tuple[Entry, int]:
    """The entry of a header whose data starts at `data`, and where the next one may start."""
    values = common | extensions.values
    name = values.get(b"path") or extensions.name or header.name
    target = values.get(b"linkpath") or extensions.target or header.target
    stated = values.get(b"size", b"")
    length = int(stated) if stated.isdigit() and len(stated) < 20 else header.size
    kind = _KINDS.get(header.type, Kind.FILE)
    if header.type == _OLD_FILE and name.endswith(b"/"):
        kind = Kind.FOLDER
    damage = ""
    if header.type == _CONTINUED:
        damage = "the rest of a file that starts in another volume; join the volumes"
    elif header.type == _GNU_SPARSE or any(key in values for key in _PAX_SPARSE):
        name = values.get(b"GNU.sparse.name") or name
        if header.type == _GNU_SPARSE:
            data = _after_sparse_map(file, block, data, size)
        damage = f"stored as a sparse file at byte {data}; pack it without --sparse"
    if kind is not Kind.FILE and header.type != _DUMP_FOLDER:
        if not _has_data(file, data, length, size):
            length = 0
        elif kind is Kind.HARD_LINK:  # As pax writes it with `-o linkdata`.
            kind = Kind.FILE
    if is_cut := data + length > size:
        damage = (
            f"cut short: {length} bytes expected at byte {data}, "
            f"the tar ends {data + length - size} bytes earlier"
        )
    if kind is Kind.FOLDER:
        name = name.rstrip(b"/")
    entry = Entry(_text(name), kind, data, length, _text(target), damage, is_cut)
    return entry, _after(file, data, length, size)


def _damaged(start: int, end: int, damage: str) -> Entry:
    return Entry(f"@{start}", Kind.FILE, start, end - start, damage=damage, is_break=True)


def _after(file: BinaryIO, data: int, length: int, size: int) -> int:
    """Where the next header may start; data that claims to end behind the tar is searched."""
    if data + length > size:
        return _next_header(file, data, size)
    return data + length + -length % BLOCK


def _parsed(block: bytes) -> _Header | None:
    """The fields of a header, or None if the block is none: its checksum must be right."""
    checksum = _number(block[148:156])
    if len(block) < BLOCK or checksum < 0:
        return None
    summed = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    # Some old programs take bytes for signed.
    if checksum != summed and checksum != summed - 256 * sum(byte > 127 for byte in block):
        return None
    size = _number(block[124:136])
    if size < 0:
        return None
    name = _until_nul(block[:100])
    if block[_MAGIC_AT : _MAGIC_AT + 6] == _POSIX_MAGIC and (prefix := _until_nul(block[345:500])):
        name = prefix + b"/" + name
    return _Header(name, block[156:157], size, _until_nul(block[157:257]))


def _number(data: bytes) -> int:
    """A number of a header: octal digits, or with the first bit set binary; -1 if it is none."""
    if data[:1] >= b"\x80":
        negative = bool(data[0] & 0x40)
        return -1 if negative else int.from_bytes(bytes([data[0] & 0x7F]) + data[1:], "big")
    digits = _until_nul(data).strip(b" ")
    if digits.strip(b"01234567"):
        return -1
    return int(digits or b"0", 8)


def _next_header(file: BinaryIO, position: int, size: int) -> int:
    """Position of the first header from `position` on, or `size`."""
    while position < size:
        position = _skip_empty(file, position, size)
        file.seek(position)
        window = file.read(WINDOW_BYTES + BLOCK)
        places = {match.start() - _MAGIC_AT for match in re.finditer(_MAGIC, window)}
        places.update(range(0, len(window) - BLOCK + 1, BLOCK))
        # Most places have no digits where the checksum would be.
        for place in sorted(p for p in places if p >= 0 and window[p + 148] in b" 01234567"):
            if _parsed(window[place : place + BLOCK]):
                return position + place
        position += WINDOW_BYTES
    return size


def _skip_empty(file: BinaryIO, position: int, size: int) -> int:
    """Position of the first block from `position` on that is not all zeros, or `size`."""
    data = skip_zeros(file, position, size)
    return data - (data - position) % BLOCK if data < size else size


def _has_data(file: BinaryIO, data: int, length: int, size: int) -> bool:
    """Whether an entry that has no data of its own, but a length, is followed by data after all."""
    if length == 0 or data + length > size:
        return False
    file.seek(data)
    block = file.read(BLOCK)
    return bool(block.strip(b"\0")) and _parsed(block) is None


def _after_sparse_map(file: BinaryIO, block: bytes, data: int, size: int) -> int:
    """First byte of the data of an old GNU sparse file; blocks of its map may stand before it."""
    has_more = block[482:483]
    while has_more.strip(b"\0") and data < size:
        file.seek(data)
        has_more = file.read(BLOCK)[504:505]
        data += BLOCK
    return data


def _extend(extensions: _Extensions, header: _Header, content: bytes) -> None:
    if header.type == _LONG_NAME:
        extensions.name = _until_nul(content)
    elif header.type == _LONG_TARGET:
        extensions.target = _until_nul(content)
    else:
        extensions.values |= _pax_values(content)


def _pax_values(content: bytes) -> dict[bytes, bytes]:
    """The records `LENGTH KEY=VALUE\\n` of a pax header that matter, as far as it is intact."""
    values = {}
    position = 0
    while position < len(content):
        space = content.find(b" ", position, position + 20)
        digits = content[position : max(space, position)]
        if not digits.isdigit():
            break
        end = position + int(digits)
        key, equals, value = content[space + 1 : max(end - 1, 0)].partition(b"=")
        if not equals or content[end - 1 : end] != b"\n":
            break
        if key in _PAX_KEYS:
            values[key] = value
        position = end
    return values


def _until_nul(data: bytes) -> bytes:
    return data.partition(b"\0")[0]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
