"""Nights: what a run's record says beside those of the nights before, and what failed most."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from pipeline.nights.config import Thresholds
from transforms.output.failures import failure_kinds, failures_of_run
from transforms.output.run_records import RunRecord
from transforms.output.summary import Summary

DONE = "done"
FAILED = "failed"
IMAGE_COUNTS = ("new", DONE, FAILED, "skipped", "quarantined", "removed", "left")
"""Counts of images in a run record that nights are compared by."""

MOST_FAILURES = 5


@dataclass(frozen=True)
class Figure:
    """A figure of tonight and what it usually is; None where nothing is known of it."""

    tonight: float | None
    usual: float | None


@dataclass(frozen=True)
class ClassShare:
    """A class's share of the pixels, 0 to 1; None where there are no pixels.

    Attributes:
        name: the class.
        tonight: of the images done tonight.
        before: of the images done in the last nights.
        archive: of all images of the archive.
    """

    name: str
    tonight: float | None
    before: float | None
    archive: float | None


@dataclass(frozen=True)
class Alarm:
    """A class whose share tonight is far from that of the last nights."""

    name: str
    tonight: float
    before: float
    drift: float

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.tonight:.1%} of the pixels tonight, {self.before:.1%} in the "
            f"last nights; the two may differ by {100 * self.drift:g} percentage points"
        )


@dataclass(frozen=True)
class Comparison:
    """A night beside the last nights that had work to do.

    Attributes:
        run_id: the run of the night.
        nights: how many nights it is compared with.
        images: images by what became of them; usual is the mean.
        images_per_second: usual is the median.
        classes: the shares of the classes, the largest first.
        nights_of_model: how many nights of the same model the classes are compared with.
        alarms: the classes that drifted.
    """

    run_id: str
    nights: int
    images: dict[str, Figure]
    images_per_second: Figure
    classes: tuple[ClassShare, ...]
    nights_of_model: int
    alarms: tuple[Alarm, ...]

    def to_json(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class FailureKind:
    """Failures of one kind in one run.

    Attributes:
        stage: where they happened.
        error: name of the error.
        failures: how many they are.
        image: one of the images.
        message: what was said of it.
    """

    stage: str
    error: str
    failures: int
    image: str
    message: str


def archive_pixels(summary: Summary) -> dict[str, int]:
    """Pixels per class of the whole archive."""
    return {entry.name: entry.pixels for entry in summary.classes}


def compare(
    record: RunRecord,
    archive_pixels: Mapping[str, int],
    earlier: Sequence[RunRecord],
    thresholds: Thresholds,
) -> Comparison:
    """Compare a night with the last ones that had work to do.

    Images are compared with all of those nights, class shares with those of the same model: other
    models see other classes.

    Args:
        record: the run record of the night.
        archive_pixels: pixels per class of the archive.
        earlier: run records, oldest first; that of the night may be among them.
        thresholds: how many nights to look back, and what is an alarm.
    """
    last = [night for night in earlier if night.run_id != record.run_id and _worked(night)]
    of_model = [night for night in last if night.model == record.model and _pixels(night)]
    of_model = of_model[-thresholds.drift_nights :]
    last = last[-thresholds.drift_nights :]
    before: dict[str, int] = {}
    for night in of_model:
        for name, pixels in _pixels(night).items():
            before[name] = before.get(name, 0) + pixels
    classes = _class_shares(_pixels(record), before, archive_pixels)
    enough = min(_count(record, DONE), sum(_count(night, DONE) for night in of_model))
    return Comparison(
        run_id=record.run_id,
        nights=len(last),
        images={
            name: Figure(
                _count(record, name),
                _mean([_count(night, name) for night in last if name in night.images]),
            )
            for name in IMAGE_COUNTS
        },
        images_per_second=Figure(
            _speed(record), _median([speed for night in last if (speed := _speed(night))])
        ),
        classes=classes,
        nights_of_model=len(of_model),
        alarms=tuple(_alarms(classes, thresholds.drift))
        if enough >= thresholds.drift_images
        else (),
    )


def worst_failures(output: str, run_id: str) -> list[FailureKind]:
    """The most frequent kinds of failure of a run, at most `MOST_FAILURES`, most frequent first."""
    kinds = failure_kinds(failures_of_run(output, run_id))[:MOST_FAILURES]
    return [
        FailureKind(kind.stage, kind.error, len(kind.images), kind.images[0], kind.message)
        for kind in kinds
    ]


def _worked(record: RunRecord) -> bool:
    return _count(record, DONE) + _count(record, FAILED) > 0


def _count(record: RunRecord, name: str) -> int:
    return record.images.get(name, 0)


def _pixels(record: RunRecord) -> Mapping[str, int]:
    return record.pixels if sum(record.pixels.values()) else {}


def _speed(record: RunRecord) -> float | None:
    return record.images_per_second if _count(record, DONE) else None


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _class_shares(*pixels: Mapping[str, int]) -> tuple[ClassShare, ...]:
    """Shares of the pixels of tonight, before and the archive, the largest first."""
    totals = [sum(of_part.values()) for of_part in pixels]
    shares = [
        ClassShare(
            name,
            *(
                of_part.get(name, 0) / total if total else None
                for of_part, total in zip(pixels, totals, strict=True)
            ),
        )
        for name in dict.fromkeys(name for of_part in pixels for name in of_part)
    ]
    return tuple(sorted(shares, key=lambda s: (s.archive or 0, s.tonight or 0), reverse=True))


def _alarms(classes: Sequence[ClassShare], drift: float | None) -> Iterator[Alarm]:
    for share in classes:
        if drift is None or share.tonight is None or share.before is None:
            continue
        # Rounded: a difference of 0.05 is not more than 0.05, whatever its last bits say.
        if round(abs(share.tonight - share.before), 9) > drift:
            yield Alarm(share.name, share.tonight, share.before, drift)
