"""Listing: from the INPUTs of a run to one `ImageRef` per image."""

import glob
import itertools
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import apache_beam as beam
from apache_beam.metrics import Metrics

from transforms import storage
from transforms.flow import progress, request_counters
from transforms.flow.concurrency import map_requests
from transforms.flow.records import Block, ImageRef, PassedOver
from transforms.inputs import manifests, shards
from transforms.inputs.members import ShardFormat
from transforms.output import names
from transforms.photos import decoding

logger = logging.getLogger(__name__)

COUNTERS = "citymask.listing"
"""Namespace of the Beam counters of this step: `images`, and `passed_over: <reason>`."""

BLOCK_SIZE = 64
"""Files that one worker takes at a time."""

DEFAULT_MAX_BYTES = 512 << 20
"""Larger photos are refused before they are read."""

BYTES_OF_AN_IMAGE = 1 << 20
"""The size of images in shards, where they are not counted."""

HIDDEN = "hidden file"
NOT_AN_IMAGE = "not an image"
PACKED = "compressed file"
"""Why files are passed over."""


class InputError(ValueError):
    """An INPUT does not exist, is empty or cannot be read; the message says what to give."""


@dataclass(frozen=True)
class ListedFile:
    """A file of an INPUT and its path relative to that INPUT."""

    file: storage.FoundFile
    relative_path: str


Listed = ListedFile | ImageRef | PassedOver


@dataclass(frozen=True)
class InputPart:
    """A part of an INPUT that is listed on its own: a part of a folder, or any other INPUT."""

    spec: str
    part: storage.Part | None = None


def split_input(spec: str) -> Iterator[InputPart]:
    """Parts of an INPUT, so that many workers can list a large one.

    Raises:
        StorageError: the INPUT is a folder that cannot be listed.
    """
    path = storage.absolute(spec)
    if storage.is_folder(path):
        yield from (InputPart(spec, part) for part in storage.parts(path))
    else:
        yield InputPart(spec)


def list_part(part: InputPart, excluded: str = "") -> Iterator[Listed]:
    """The files in a part of an INPUT, and for a manifest the images it names.

    Args:
        part: of a directory, or a glob pattern, an image, a tar or TFRecord shard, or a manifest.
        excluded: a directory that is never listed: the output folder.

    Raises:
        InputError: the INPUT does not exist or is of no known kind.
        ManifestError: it is a manifest that cannot be read.
        StorageError: it cannot be listed.
    """
    spec = part.spec
    path = storage.absolute(spec)
    if part.part:
        start = len(os.path.join(path, ""))  # `relpath` takes a quarter of the time of a listing.
        for file in storage.walk(part.part, excluded):
            yield _classify(file, file.path[start:])
    elif (file := storage.find(path)).size >= 0:
        yield from _list_file(file, spec)
    elif glob.has_magic(spec):
        root = _glob_root(path)
        for file in storage.matching(path):
            if not (excluded and storage.is_below(file.path, excluded)):
                yield _classify(file, file.path[len(os.path.join(root, "")) :])
    else:
        raise InputError(
            f"{spec}: no such file or directory; INPUT is a directory, a glob pattern, an image, "
            f"a {_shard_extensions()} shard, or a .csv, .parquet or .txt manifest"
        )


def list_input(spec: str, excluded: str = "") -> Iterator[Listed]:
    """The content of a whole INPUT; raises what `split_input` and `list_part` raise."""
    for part in split_input(spec):
        yield from list_part(part, excluded)


def list_members(listed: Listed, glance: bool = False) -> Iterator[ImageRef | PassedOver]:
    """The images in a listed file: the file itself, or the members of a shard.

    Args:
        listed: the file.
        glance: only to see whether there are images, see `ShardFormat.glance`.
    """
    if not isinstance(listed, ListedFile):
        yield listed
        return
    file = listed.file
    if shard_format := shards.format_of(file.path):
        yield from _list_shard(listed, shard_format, glance)
    else:
        yield _image_ref(listed.relative_path, file.path, file.version, file.size)


def first_image(spec: str, excluded: str = "") -> ImageRef | None:
    """The first image of an INPUT at a glance, or None if it holds none.

    Raises what `list_input` raises.
    """
    for listed in list_input(spec, excluded):
        for item in list_members(_looked_at(listed), glance=True):
            if isinstance(item, ImageRef):
                return item
    return None


def estimate(specs: Iterable[str], most: int, excluded: str = "") -> int:
    """About how many images INPUTs hold, counted up to `most`; those in shards by their bytes.

    Raises what `list_input` raises.
    """
    images = 0
    for listed in itertools.chain.from_iterable(list_input(spec, excluded) for spec in specs):
        if isinstance(listed, ListedFile) and shards.format_of(listed.file.path):
            images += max(1, listed.file.size // BYTES_OF_AN_IMAGE)
        elif not isinstance(listed, PassedOver):
            images += 1
        if images >= most:
            return most
    return images


@dataclass
class ListImages(beam.PTransform):
    """Lists the images of INPUTs: PCollection[str] -> PCollection[ImageRef].

    Files that are not images are ignored and counted, by reason, in Beam counters.

    Attributes:
        excluded: a directory that is never listed: the output folder.
        max_bytes: larger photos fail without being read.
    """

    excluded: str = ""
    max_bytes: int = DEFAULT_MAX_BYTES

    def expand(self, inputs: beam.PCollection[str]) -> beam.PCollection[ImageRef]:
        return (
            inputs
            | "SplitInput" >> beam.FlatMap(split_input)
            | "SpreadParts" >> beam.Reshuffle()
            | "ListParts" >> beam.FlatMap(_list_blocks, self.excluded)
            | "SpreadFiles" >> beam.Reshuffle()
            | "ListMembers"
            >> beam.FlatMap(_list_images, self.max_bytes).with_output_types(ImageRef)
        )


def _list_blocks(part: InputPart, excluded: str) -> Iterator[Block[Listed]]:
    """The content of a part in blocks: one by one, the shuffle costs more than the listing."""
    listed = list_part(part, excluded)
    while items := tuple(itertools.islice(listed, BLOCK_SIZE)):
        yield Block(items)


def _list_images(block: Block[Listed], max_bytes: int) -> Iterator[ImageRef]:
    images = 0
    unseen = any(isinstance(item, ImageRef) and not item.version for item in block.items)
    for listed in map_requests(_looked_at, block.items) if unseen else block.items:
        for item in list_members(listed):
            if isinstance(item, PassedOver):
                Metrics.counter(COUNTERS, f"passed_over: {item.reason}").inc()
                logger.debug("ignored %s: %s", item.uri, item.reason)
            else:
                images += 1
                yield _within(item, max_bytes)
    Metrics.counter(COUNTERS, "images").inc(images)
    request_counters.report()
    progress.report(found=images)


def _list_file(file: storage.FoundFile, spec: str) -> Iterator[Listed]:
    if file.path.lower().endswith(manifests.EXTENSIONS):
        yield from _list_manifest(file.path)
        return
    listed = _classify(file, os.path.basename(file.path))
    if isinstance(listed, PassedOver):
        known = f"not an image, a {_shard_extensions()} shard, or a manifest"
        raise InputError(f"{spec}: {shards.refusal(file.path) or known}")
    yield listed


def _list_manifest(path: str) -> Iterator[ImageRef]:
    for entry in manifests.read_manifest(path):
        try:
            uri = manifests.resolve(entry.uri, path)
        except storage.StorageError as error:
            yield _unreachable(entry, names.printable(str(error)))
            continue
        name = manifests.relative_to(uri, path)
        if storage.store_of(uri).costs_requests:
            yield _image_ref(name, uri, "", metadata=entry.metadata)
        else:
            file = storage.find(uri)
            yield _image_ref(name, uri, file.version, file.size, metadata=entry.metadata)


def _unreachable(entry: manifests.ManifestEntry, reason: str) -> ImageRef:
    """An image whose URI stands for no path; it fails when it is read."""
    missing = storage.FoundFile(entry.uri, -1, 0)
    return _image_ref(entry.uri, entry.uri, missing.version, metadata=entry.metadata, damage=reason)


def _looked_at(listed: Listed) -> Listed:
    """The image with its version, if listing left it out because looking costs a request."""
    if not isinstance(listed, ImageRef) or listed.version:
        return listed
    if not storage.store_of(listed.path).costs_requests:
        return listed
    try:
        file = storage.find(listed.path)
        return replace(listed, version=file.version, size=file.size)
    except storage.NoStoreError as error:  # It says nothing of the other URIs of a manifest.
        return replace(listed, trouble=str(error))
    except storage.AccessError:
        raise
    except storage.StorageError as error:
        return replace(listed, trouble=str(error))


def _list_shard(
    listed: ListedFile, shard_format: ShardFormat, glance: bool
) -> Iterator[ImageRef | PassedOver]:
    file = listed.file
    members = shard_format.glance if glance else shard_format.members
    try:
        if file.size == 0:
            raise storage.FileError("cannot be read: empty file (0 bytes)")
        for member in members(file.path):
            uri = f"{file.path}#{member.name}"
            reason: str | None = member.passed_over
            if not (reason or shard_format.only_images or member.damage):
                reason = _reason_to_pass_over(member.name)
            if reason:
                yield PassedOver(names.printable(uri), reason)
                continue
            types = manifests.types_of(member.metadata)
            ref = _image_ref(
                f"{listed.relative_path}/{member.name}",
                uri,
                file.version,
                file.size,
                metadata=manifests.metadata_of(member.metadata, types),
                damage=member.damage,
            )
            yield replace(
                ref,
                path=file.path,
                container=shard_format.name,
                offset=member.offset,
                length=member.length,
            )
    except storage.FileError as error:
        yield _image_ref(
            listed.relative_path, file.path, file.version, file.size, damage=str(error)
        )
    except (storage.StorageError, OSError) as error:
        yield _image_ref(
            listed.relative_path, file.path, file.version, file.size, trouble=str(error)
        )


def _within(ref: ImageRef, max_bytes: int) -> ImageRef:
    """The image; one that is too large is damaged."""
    if ref.damage or ref.bytes_to_read <= max_bytes:
        return ref
    damage = (
        f"{ref.bytes_to_read} bytes are more than the limit of {max_bytes}; "
        "raise --max-bytes if the photo is genuine"
    )
    return replace(ref, damage=damage)


def _image_ref(
    relative_path: str,
    uri: str,
    version: str,
    size: int = -1,
    metadata: manifests.Metadata | None = None,
    damage: str = "",
    trouble: str = "",
) -> ImageRef:
    metadata = metadata or manifests.Metadata()
    image = names.image_name(relative_path)
    return ImageRef(
        image=image,
        uri=names.printable(uri),
        path=uri,
        version=version,
        size=size,
        group=metadata.group or names.group_of(image),
        capture=metadata.capture,
        extra=metadata.extra,
        damage=damage,
        trouble=trouble,
    )


def _classify(file: storage.FoundFile, relative_path: str) -> Listed:
    if file.closed:
        trouble = "this folder cannot be listed; check its permissions"
        return _image_ref(relative_path, file.path, file.version, file.size, trouble=trouble)
    reason = _reason_to_pass_over(relative_path)
    if reason == NOT_AN_IMAGE and shards.format_of(relative_path):
        reason = None
    if reason:
        return PassedOver(names.printable(file.path), reason)
    return ListedFile(file, relative_path)


def _reason_to_pass_over(relative_path: str) -> str | None:
    parts = relative_path.split("/")
    if any(part.startswith(".") and part.strip(".") for part in parts):
        return HIDDEN
    if decoding.is_image_name(parts[-1]):
        return None
    return PACKED if shards.refusal(parts[-1]) else NOT_AN_IMAGE


def _shard_extensions() -> str:
    return " or ".join(shards.extensions())


def _glob_root(pattern: str) -> str:
    """The longest leading folder of a pattern that has no wildcard."""
    root = os.path.dirname(pattern)
    while glob.has_magic(root):
        root = os.path.dirname(root)
    return root
