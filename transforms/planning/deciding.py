"""Deciding: which images to segment, and under which names."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from transforms import storage
from transforms.flow.records import ImageRef, PlannedImage
from transforms.inputs import shards
from transforms.output import begun, columns, names, rows
from transforms.output.findings import Finding
from transforms.planning.counters import DUPLICATES, NEW, REDONE, REPLACED, RETRIED
from transforms.planning.naming import _named
from transforms.planning.policy import EVERY_NIGHT, Policy


@dataclass(frozen=True)
class Superseded:
    """A committed row to be removed.

    Attributes:
        image: its image.
        run_id: the run that wrote it.
        file: the statistics file that holds it.
        doubled: whether the image has a newer row already; else this one is removed once a newer
            one is written.
    """

    image: str
    run_id: str
    file: str
    doubled: bool = False


@dataclass(frozen=True)
class Plan:
    """What happens to the images that share a name. Each of them is in one of the first four, or
    was given twice.

    Attributes:
        todo: images to segment.
        skipped: images that have results.
        quarantined: images whose version has failed too often.
        gated: images whose version was set aside.
        superseded: rows that the images in `todo` replace, and doubled rows.
        unlisted: current rows whose image was not listed.
        settling: when listed images can be taken off left-over records.
        missing: images on left-over records that were not listed.
        counts: images by `NEW`, `REPLACED`, `RETRIED` and `REDONE`, and `DUPLICATES`: references
            dropped because another INPUT names the same image.
    """

    todo: tuple[PlannedImage, ...] = ()
    skipped: tuple[ImageRef, ...] = ()
    quarantined: tuple[ImageRef, ...] = ()
    gated: tuple[ImageRef, ...] = ()
    superseded: tuple[Superseded, ...] = ()
    unlisted: tuple[rows.CommittedRow, ...] = ()
    settling: tuple[begun.Settling, ...] = ()
    missing: tuple[begun.LeftOver, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)


def plan_new(ref: ImageRef) -> PlannedImage:
    """An image that is segmented under its own name, whatever the output folder holds."""
    return PlannedImage(ref, names.mask_path(columns.MASKS, ref.image))


def plan_images(
    refs: Sequence[ImageRef],
    committed: Sequence[rows.CommittedRow],
    failures: Sequence[rows.PastFailure],
    mask_folder: str,
    fold_case: bool = False,
    policy: Policy = EVERY_NIGHT,
    wrong: Iterable[Finding] = (),
    aside: Iterable[rows.PastAside] = (),
    left_over: Sequence[begun.LeftOver] = (),
) -> Plan:
    """Compare the images that share a base name with the rows and failures of that name.

    An image that is given twice is segmented once. Different images of one name get different
    names: the name belongs to the image that has a row under it, else to the first by URI, and the
    others get `names.distinct_name`. So no mask overwrites another, and later runs give the same
    names.

    Args:
        refs: listed images.
        committed: rows of the current model.
        failures: past failures, of any version.
        mask_folder: folder of the masks below the output folder.
        fold_case: whether names that differ only in case are one name in the output folder.
        policy: which images are segmented again.
        wrong: findings about rows of the current model; their images are segmented again.
        aside: images that were set aside, of any version.
        left_over: images that were in progress when a process was killed. Their masks may be newer
            than the rows that they were to replace.
    """
    if _is_plainly_done(refs, committed) and not (policy.force or wrong or left_over):
        return Plan(skipped=tuple(refs))
    standing, superseded = _standing(committed)
    untrusted = {(finding.image, finding.run_id) for finding in wrong}
    untrusted |= {(left.image, left.begun.replaces) for left in left_over}
    attempts: dict[tuple[str, str], int] = {}
    for failure in failures:
        key = (failure.image, failure.version)
        attempts[key] = max(attempts.get(key, 0), failure.attempts)
    killers = {(failure.image, failure.version) for failure in failures if failure.has_killed}

    by_source = {f"{ref.uri}@{ref.offset}": ref for ref in refs}
    counts: Counter[str] = Counter({DUPLICATES: len(refs) - len(by_source)})
    set_aside = {(a.image, a.version) for a in aside if a.reason in policy.gate.reasons}
    suspicions = _suspicions(left_over)
    todo, skipped, quarantined, gated, listed = [], [], [], [], set()
    for ref in _named(by_source, standing, fold_case):
        row = standing.get(ref.image)
        listed.add(ref.image)
        tried = attempts.get((ref.image, ref.version), 0)
        killed = (ref.image, ref.version) in killers
        unchanged = row is not None and row.version == ref.version
        again = policy.force or (row is not None and (row.image, row.run_id) in untrusted)
        if unchanged and not again:
            skipped.append(ref)
        elif (ref.image, ref.version) in set_aside and not policy.force:
            gated.append(ref)
        elif (tried >= policy.max_attempts or killed) and not policy.retry_failed:
            quarantined.append(ref)
        else:
            mask = names.mask_path(mask_folder, ref.image)
            replaces = row.run_id if row else ""
            suspicion = 2 if killed else suspicions.get((ref.image, ref.version), 0)
            todo.append(PlannedImage(ref, mask, tried, replaces, suspicion=suspicion))
            if row is not None:
                superseded.append(Superseded(row.image, row.run_id, row.file))
            counts[
                RETRIED if tried else NEW if row is None else REDONE if unchanged else REPLACED
            ] += 1
    unlisted = [row for image, row in standing.items() if image not in listed]
    return Plan(
        tuple(todo),
        tuple(skipped),
        tuple(quarantined),
        tuple(gated),
        tuple(superseded),
        tuple(unlisted),
        tuple(_settling(left_over, {planned.ref.image for planned in todo}, listed, standing)),
        tuple(left for left in left_over if left.image not in listed),
        dict(counts),
    )


def _standing(
    committed: Sequence[rows.CommittedRow],
) -> tuple[dict[str, rows.CommittedRow], list[Superseded]]:
    """The current row of each image, that of the newest run, and the others."""
    standing: dict[str, rows.CommittedRow] = {}
    doubled = []
    for row in sorted(committed, key=lambda row: (row.run_id, row.file), reverse=True):
        kept = standing.setdefault(row.image, row)
        if (row.run_id, row.file) != (kept.run_id, kept.file):
            doubled.append(Superseded(row.image, row.run_id, row.file, doubled=True))
    return standing, doubled


def _is_plainly_done(refs: Sequence[ImageRef], committed: Sequence[rows.CommittedRow]) -> bool:
    """Whether one image has one row that fits it: true for nearly all images on most nights."""
    if len(refs) != 1 or len(committed) != 1:
        return False
    (ref,), (row,) = refs, committed
    return (ref.image, ref.uri, ref.version) == (row.image, row.uri, row.version)


def _suspicions(left_over: Iterable[begun.LeftOver]) -> dict[tuple[str, str], int]:
    """The suspicion of each image and version on left-over records, see `PlannedImage`."""
    suspicions: dict[tuple[str, str], int] = {}
    for left in left_over:
        key = left.image, left.begun.version
        suspicions[key] = max(suspicions.get(key, 0), 2 if left.was_alone else 1)
    return suspicions


def _settling(
    left_over: Iterable[begun.LeftOver],
    todo: Collection[str],
    listed: Collection[str],
    standing: Mapping[str, rows.CommittedRow],
) -> Iterator[begun.Settling]:
    """When listed images can be taken off left-over records."""
    for left in left_over:
        row = standing.get(left.image)
        torn = row is not None and row.run_id == left.begun.replaces
        now = left.image not in todo and not torn
        if left.image in listed:
            yield begun.Settling(left.name, left.image, now, once_done=torn)


def version_now(path: str) -> str | None:
    """The version of a file, `storage.UNSEEN` without one; None if its store gives no answer."""
    try:
        return storage.find(path).version
    except storage.StorageError:
        return None


def is_gone(
    row: rows.CommittedRow | begun.BegunImage,
    inputs: Sequence[str] = (),
    version_of: Callable[[str], str | None] = version_now,
) -> bool:
    """Whether the image of a row, or of a record, that was not listed no longer exists.

    Its file is gone, or it was a member of a shard that is gone or was rewritten without it. An
    image that is merely not below the INPUTs of this run is not gone, nor one that cannot be
    looked at. If looking costs requests, only shards are looked at, for one that cannot be read
    lists no members; any other image is gone if it lies below a folder that was listed.

    Args:
        row: the row, or the image of the record.
        inputs: the INPUTs of the run.
        version_of: gives the version of a shard.
    """
    if storage.store_of(row.uri).costs_requests:
        if not any(row.uri.startswith(f"{storage.absolute(spec)}/") for spec in inputs):
            return False
        shard, _, _ = row.uri.rpartition("#")
        return not shards.format_of(shard) or version_of(shard) not in (row.version, None)
    path = row.uri
    while storage.is_missing(names.file_of(path)):
        path, found, _ = path.rpartition("#")
        if not found:
            return True
    if path == row.uri:
        return False
    return storage.find(names.file_of(path)).version not in (row.version, storage.UNSEEN)
