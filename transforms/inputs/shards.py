"""Shards: the registered formats of files that hold many images."""

from transforms.inputs.members import ShardFormat
from transforms.inputs.tar_shards import TarFormat
from transforms.inputs.tfrecord_shards import TFRecordFormat

PACKED_EXTENSIONS = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".7z", ".rar")

_formats: dict[str, ShardFormat] = {}


def register(shard_format: ShardFormat) -> None:
    """Make a format known to all that list and read images."""
    _formats[shard_format.name] = shard_format


register(TarFormat())
register(TFRecordFormat())


def format_of(path: str) -> ShardFormat | None:
    """The format of a file, by its name; None if it is no shard."""
    return next((known for known in _formats.values() if known.matches(path)), None)


def format_named(name: str) -> ShardFormat:
    """The format that an `ImageRef.container` names."""
    return _formats[name]


def refusal(path: str) -> str:
    """Why a file that may hold images cannot be read; empty if it does not look like one."""
    if reason := next(filter(None, (known.refusal(path) for known in _formats.values())), ""):
        return reason
    is_packed = path.lower().endswith(PACKED_EXTENSIONS)
    return "what is in a compressed file cannot be read; unpack it" if is_packed else ""


def extensions() -> list[str]:
    """The usual extension of each format, for messages."""
    return [known.extension for known in _formats.values()]
