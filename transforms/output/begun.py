"""Begun: which images are in progress is on record, so that a killed process leaves a trace.

Each record is a file of `.citymask/begun`. It is there before the first image of a work unit is
read, and is removed once the unit's rows are committed. A record that a run finds there when it
starts is of a process that was killed. One of its images may have killed it, so these are
suspects; and the mask of an image may be newer than its row.

Suspects are done one at a time, each on a record of its own and in a process of its own. An image
at which two processes died while it was the only one in progress is the killer. Two: the first may
have been killed by somebody else.
"""

import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import apache_beam as beam

from transforms import storage
from transforms.flow.alone import Alone, ProcessKilled
from transforms.flow.records import Aside, PlannedImage, UnitResult
from transforms.output import fencing

logger = logging.getLogger(__name__)

BEGUN = f"{storage.WORK_FOLDER}/begun"
ENDING = ".json"

MOST_TRIES = 2
"""Processes that may die of an image."""

T = TypeVar("T")


@dataclass(frozen=True)
class BegunImage:
    """An image of a record.

    Attributes:
        image: its name.
        uri, version: as listed.
        replaces: the run of the row that it has and that is to be replaced; empty if it has none.
    """

    image: str
    uri: str
    version: str
    replaces: str

    @classmethod
    def of(cls, planned: PlannedImage) -> "BegunImage":
        """What a record holds of an image."""
        ref = planned.ref
        return cls(ref.image, ref.uri, ref.version, planned.replaces)


@dataclass(frozen=True)
class Begun:
    """A record: images that are in progress.

    Attributes:
        run_id: the run that began them.
        model: the `model_id` they are segmented with.
        images: the images.
        tries: how often the image, if it is the only one in progress, was begun; else 0.
    """

    run_id: str
    model: str
    images: tuple[BegunImage, ...]
    tries: int = 0

    @classmethod
    def parse(cls, data: bytes) -> "Begun":
        """The record that a file holds; raises ValueError if it is damaged."""
        try:
            content = json.loads(data)
            images = tuple(BegunImage(**image) for image in content.pop("images"))
            return cls(images=images, **content)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a record of begun work: {error}") from error

    def to_json(self) -> bytes:
        """What `parse` reads."""
        # `asdict` would copy each value, which takes five times as long.
        return json.dumps({**vars(self), "images": [vars(i) for i in self.images]}).encode()


@dataclass(frozen=True)
class LeftOver:
    """An image of a record that a killed process has left.

    Attributes:
        name: name of the record.
        begun: the image; one without a name stands for a record that cannot be read.
        was_alone: whether it was the only one in progress.
    """

    name: str
    begun: BegunImage
    was_alone: bool = False

    @property
    def image(self) -> str:
        """Its name."""
        return self.begun.image


@dataclass(frozen=True)
class Settling:
    """When an image no longer needs to be on a left-over record.

    Attributes:
        name: name of the record.
        image: name of the image.
        now: it is settled already.
        once_done: a failure does not settle it, for its mask may be newer than its row.
    """

    name: str
    image: str
    now: bool = False
    once_done: bool = False


@dataclass(frozen=True)
class Records:
    """Where a run puts on record what it begins.

    Attributes:
        output: the output folder.
        run_id: the run.
        model: the `model_id` that images are segmented with.
        durable: whether a record survives a power cut.
        owner: who holds the lock of the folder, see `fencing.check`.
    """

    output: str
    run_id: str
    model: str
    durable: bool = True
    owner: str = ""

    def begin(self, name: str, images: Iterable[PlannedImage], tries: int = 0) -> None:
        """Put images on record under a name, the id of their unit; see `fencing.write`."""
        record = Begun(self.run_id, self.model, tuple(map(BegunImage.of, images)), tries)
        write(self.output, name, record, self.durable, self.owner)

    def end(self, name: str) -> None:
        """Take the images of a name off record; raises StorageError."""
        remove(self.output, name)

    @contextmanager
    def meanwhile(self, images: Sequence[PlannedImage]) -> Iterator[None]:
        """Context manager: images are on record while something is done that may kill; none is not.

        Raises:
            StorageError: the images cannot be put on record, or taken off.
        """
        if not images:
            yield
            return
        name = uuid.uuid4().hex
        self.begin(name, images)
        try:
            yield
        finally:
            self.end(name)

    def has_begun(self, name: str) -> bool:
        """Whether images are on record under a name because this run began them before.

        Raises:
            StorageError: the record cannot be read.
        """
        record = read(self.output, name)
        return record is not None and record.run_id == self.run_id

    def call_alone(
        self, process: Alone, planned: PlannedImage, function: Callable[..., T], *args: Any
    ) -> T:
        """What a function of an image, called in another process, returns or raises.

        Meanwhile the image is on a record of its own. It stays there once it is known to kill.

        Raises:
            ProcessKilled: processes died of the image `MOST_TRIES` times, by now or before.
            CannotStartError: a process died before the call.
            StorageError: the image cannot be put on record.
        """
        name = self.name_alone(planned)
        record = read(self.output, name)
        how = "was killed with all of the run"
        for tries in range(record.tries if record else 0, MOST_TRIES):
            self.begin(name, [planned], tries + 1)
            try:
                answer = process.call(function, *args)
            except ProcessKilled as error:
                how = str(error)
            except BaseException:
                self.end(name)
                raise
            else:
                self.end(name)
                return answer
        raise ProcessKilled(
            f"killed the process before: {MOST_TRIES} times one died while it did this photo "
            f"alone, the last one {how}; it is left alone until it changes or a run has "
            "--retry-failed"
        )

    def name_alone(self, planned: PlannedImage) -> str:
        """The name under which an image is on record alone, in all steps and all runs."""
        key = "\0".join((self.model, planned.ref.image, planned.ref.version))
        return hashlib.sha256(key.encode()).hexdigest()[:20]


def write(output: str, name: str, record: Begun, durable: bool = True, owner: str = "") -> None:
    """Put images on record under a name, as a rule the id of a work unit; see `fencing.write`."""
    fencing.write(output, _path(name), record.to_json(), owner, durable)


def read(output: str, name: str) -> Begun | None:
    """The record of a name; None if there is none, or none that is whole.

    A power cut may leave a damaged one: a whole one precedes every mask.

    Raises:
        StorageError: it cannot be read.
    """
    path = f"{output}/{_path(name)}"
    try:
        return Begun.parse(storage.read(path))
    except storage.MissingError:
        return None
    except ValueError as error:
        logger.warning("%s: %s; it is ignored", path, error)
        return None


def remove(output: str, name: str) -> None:
    """Take the images of a name off record, if they still are; raises StorageError."""
    with suppress(storage.MissingError):
        storage.remove(output, _path(name))


def left_over(output: str, model: str) -> Iterator[LeftOver]:
    """The images of all records that are for a model; a damaged record gives one without a name.

    Call it before any work begins; then the records are of processes that were killed.

    Raises:
        StorageError: the records cannot be read.
    """
    for file in storage.list_folder(f"{output}/{BEGUN}", ENDING):
        name = file.path.rpartition("/")[2].removesuffix(ENDING)
        record = read(output, name)
        if record is None:
            yield LeftOver(name, BegunImage("", "", "", ""))
        elif record.model == model:
            for image in record.images:
                yield LeftOver(name, image, bool(record.tries))


def settle(output: str, name: str, images: Collection[str], owner: str = "") -> None:
    """Take images off a left-over record, and remove it once it is empty.

    Raises:
        LockLostError: `owner` has lost the lock of the folder, see `fencing.check`.
        StorageError: the record cannot be written or removed.
    """
    fencing.check(output, owner)
    record = read(output, name)
    kept = tuple(i for i in record.images if i.image not in images) if record else ()
    if record and kept:
        write(output, name, replace(record, images=kept), owner=owner)
    else:
        remove(output, name)


@dataclass
class SettleLeftOver(beam.PTransform):
    """Takes images off left-over records.

    `settling` PCollection[Settling], `results` PCollection[UnitResult] and, with a gate, `aside`
    PCollection[Aside] -> PCollection[str], the names of the records.

    Attributes:
        output: the output folder.
        owner: who holds its lock, see `fencing.check`.
    """

    output: str
    owner: str = ""

    def expand(self, inputs):
        ended = [inputs["results"] | "ImagesEnded" >> beam.FlatMap(_ended)]
        if "aside" in inputs:
            ended.append(inputs["aside"] | "ImagesAside" >> beam.Map(_ended_aside))
        settling = inputs["settling"] | "KeyByImage" >> beam.Map(lambda item: (item.image, item))
        return (
            {"settling": settling, "ended": ended | "Ended" >> beam.Flatten()}
            | "JoinByImage" >> beam.CoGroupByKey()
            | "Settled" >> beam.FlatMap(settled).with_output_types(tuple[str, str])
            | "GroupByRecord" >> beam.GroupByKey()
            | "Settle" >> beam.Map(_settle, self.output, self.owner)
        )


def settled(joined: tuple[str, dict[str, Iterable]]) -> Iterator[tuple[str, str]]:
    """The left-over records, and the image, where it is settled.

    Args:
        joined: the image, its `settling` on records, and as `ended` whether this run segmented it,
            or nothing if it neither did so, nor failed, nor set it aside.
    """
    image, sides = joined
    ended = list(sides["ended"])
    for item in sides["settling"]:
        if item.now or (any(ended) if item.once_done else ended):
            yield item.name, image


def _ended(result: UnitResult) -> Iterator[tuple[str, bool]]:
    for segmented in result.segmented:
        yield segmented.planned.ref.image, True
    for failure in result.failures:
        yield failure.planned.ref.image, False


def _ended_aside(aside: Aside) -> tuple[str, bool]:
    return aside.planned.ref.image, False


def _settle(of_record: tuple[str, Iterable[str]], output: str, owner: str) -> str:
    name, images = of_record
    settle(output, name, set(images), owner)
    return name


def _path(name: str) -> str:
    return f"{BEGUN}/{name}{ENDING}"
