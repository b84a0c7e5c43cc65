"""What is done to runs: each scenario ends in the differences from runs that were left alone."""

import os
import random
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.faults.archives import (
    LARGE,
    PHOTOS,
    SHARD,
    change_archive,
    photo_bytes,
    photo_path,
    put,
    shard_bytes,
)
from tests.faults.comparing import (
    Differences,
    failures_of,
    judge,
    rows_of,
    rows_without_mask,
    same_files,
)
from tests.faults.injecting import BOUND, Bundles, SmallDisk, read_only, segment_in_processes
from tests.faults.runs import (
    MASKS,
    UNIT_SIZE,
    City,
    Moment,
    finish,
    go_on,
    kill_after,
    kill_at,
    stand_still_at,
)
from transforms import storage
from transforms.output import columns

TEN_YEARS = timedelta(days=3652)
PAGES_FOR_A_FAILURE = 6
"""Room for the lock, the model card and the row of a failure, but not for a large mask."""


@dataclass(frozen=True)
class Story:
    """A way to an output folder, gone once by runs that were left alone.

    Attributes:
        city: the archive and model.
        expected: the output of runs that were left alone.
        begun: an output folder to go on from; None: there is none.
        options: further options of the runs that are disturbed and of the one that ends them.
        disturbed: options of the disturbed runs alone.
    """

    city: City
    expected: Path
    begun: Path | None = None
    options: tuple[object, ...] = ()
    disturbed: tuple[str, ...] = ()

    def new_output(self, name: str) -> Path:
        output = self.city.work / name
        if self.begun:
            shutil.copytree(self.begun, output)
        return output


def first_run(work: Path) -> Story:
    """An archive that is done for the first time."""
    city = City.make(work)
    expected = work / "expected"
    succeed(city, expected)
    return Story(city, expected)


def first_unit_of_shard(story: Story) -> Story:
    """The shard alone; disturbed runs take its first work unit only, so none is written beside."""
    city = replace(story.city, archive=story.city.archive / SHARD)
    expected = city.work / "expected of the shard"
    succeed(city, expected)
    return Story(city, expected, disturbed=("--max-images", str(UNIT_SIZE)))


def first_run_with_all(story: Story) -> Story:
    """The same with all that can be asked for beside the masks."""
    options = ("--overlay", "--confidence")
    expected = story.city.work / "expected with all"
    succeed(story.city, expected, *options)
    return Story(story.city, expected, options=options)


def done_anew(story: Story) -> Story:
    """The same when it is done, and all is done anew."""
    return Story(story.city, story.expected, story.expected, disturbed=("--force",))


def changed_archive(work: Path) -> tuple[Story, Story]:
    """An archive that changes between two runs; and the same with a first run in the far future."""
    city = City.make(work)
    week, future = work / "a week ago", work / "in the future"
    succeed(city, week)
    finish(city.start(future, clock=TEN_YEARS))
    expected = work / "expected"
    shutil.copytree(week, expected)
    change_archive(city.archive)
    succeed(city, expected)
    return Story(city, expected, week), Story(city, expected, future)


def succeed(city: City, output: Path, *options: object) -> None:
    """Run to the end, which has to be a good one.

    Raises:
        RuntimeError: it is not.
    """
    code = city.run(output, *options)
    if code:
        raise RuntimeError(f"exit code {code}:\n{city.log(output).read_text()}")


def ends_well(story: Story, output: Path) -> Differences:
    """Let a run end what others have left, and judge it."""
    code = story.city.run(output, *story.options)
    failed = Differences(others=(f"the last run ends with {code}",) if code else ())
    return failed + judge(story.city, story.expected, output)


def killed(
    story: Story,
    name: str,
    moments: Sequence[Moment | float | None],
    random: random.Random,
    **how: Any,
) -> tuple[Differences, Counter[str]]:
    """Kill a run at each of the moments in turn, always the next one into the same output folder.

    Args:
        story: what is done.
        name: of the output folder.
        moments: as they are; or after so many seconds; or, for None, while Python starts.
        random: what is left to chance.
        how: further arguments of `runs.start`.

    Returns:
        The differences in the end, and how often runs were killed at which moment.
    """
    output = story.new_output(name)
    kills: Counter[str] = Counter()
    found = Differences()
    for moment in moments:
        cold = () if moment is None else None
        process = story.city.start(output, *story.options, *story.disturbed, cold=cold, **how)
        if isinstance(moment, Moment):
            hit, said = kill_at(process, moment, output, random), moment.name
        elif moment is None:
            hit, said = kill_after(process, random.uniform(0, 8)), "Python starts"
        else:
            hit, said = kill_after(process, moment), "at a random time"
        kills[said] += hit
        found += rows_without_mask(output)
    return found + ends_well(story, output), kills


def run_together(story: Story, name: str) -> Differences:
    """Start two runs into one output folder at the same time: one is refused, one does all."""
    output = story.new_output(name)
    processes = [story.city.start(output, *story.options) for _ in range(2)]
    codes = sorted(map(finish, processes))
    refused = Differences(others=(f"exit codes {codes}",) if codes != [0, 4] else ())
    return refused + judge(story.city, story.expected, output)


def disk_full(story: Story, disk: SmallDisk, pages: int) -> tuple[Differences, str]:
    """Run on a disk with so many free pages, and again when there is room.

    Returns:
        The differences in the end, and what did not fit at first.
    """
    output = disk.path / f"{pages} pages"
    if story.begun:
        shutil.copytree(story.begun, output)
    output.mkdir(exist_ok=True)
    disk.leave(pages)
    code = story.city.run(output, *story.options, *story.disturbed)
    missing = what_is_missing(story.city, output)
    found = rows_without_mask(output)
    good = missing in (columns.MASKS, "nothing")  # The former is the failure of an image.
    if good != (code == 0):
        found += Differences(others=(f"exit code {code} without {missing}",))
    unfinished = output / storage.UNFINISHED
    left = os.listdir(unfinished) if unfinished.exists() else []
    found += Differences(others=tuple(f"{name} is left unfinished" for name in left))
    disk.empty()
    found += ends_well(story, output)
    shutil.rmtree(output)
    return found, missing


def disk_full_for_nights(story: Story, disk: SmallDisk, nights: int = 2) -> Differences:
    """Run over one photo whose mask has no room for some nights, then when there is room."""
    city = replace(story.city, archive=story.city.archive / LARGE)
    expected, output = disk.path / "expected", disk.path / "output"
    options = ("--max-attempts", nights)
    succeed(city, expected)
    output.mkdir()
    for _ in range(nights):
        disk.leave(PAGES_FOR_A_FAILURE)
        city.run(output, *options)
        disk.empty()
    failed = [row[columns.STAGE] for row in failures_of(output).values()]
    found = Differences(others=("the mask had room",) if failed != [columns.WRITE] else ())
    return found + ends_well(Story(city, expected, options=options), output)


def what_is_missing(city: City, output: Path) -> str:
    """What of an output could not be written, by what the newest run says."""
    printed = city.log(output).read_text()
    if f"{output} is not a folder that can be written" in printed:
        return "the lock"
    failed = (row[columns.STAGE] for row in failures_of(output).values())
    masks = [columns.MASKS] * (columns.WRITE in failed)
    names = re.findall(rf"{re.escape(str(output))}/(\S+?)(?:/\S+)?: cannot be written", printed)
    return ", ".join(masks + names[-1:]) or "nothing"


def made_read_only(story: Story, name: str, moment: Moment) -> Differences:
    """Make an output folder read-only from a moment to the end of a run, then let another run."""
    output = story.new_output(name)
    process = story.city.start(output, *story.options, cold=BOUND)
    found = Differences()
    if stand_still_at(process, moment.watch(output, random.Random(0))):
        with read_only(output):
            go_on(process)
            if finish(process) == 0:
                found = Differences(others=("exit code 0 although nothing could be written",))
    found += rows_without_mask(output)
    return found + ends_well(story, output)


def inputs_changed(work: Path, random: random.Random) -> Differences:
    """While a run stands still, many photos are replaced, overwritten, cut short and taken away.

    Then each row is of the version that it names, and the other images are failures. What is cut
    short or away is whole again before the next run, which sets all right.
    """
    city = City.make(work)
    archive, output = city.archive, work / "output"
    before, after = work / "before", work / "after"
    succeed(city, before)
    process = city.start(output, "--unit-size", 2 * UNIT_SIZE)
    stand_still_at(process, MASKS.watch(output, random))
    ahead = [
        path
        for path in (photo_path(archive, number) for number in range(PHOTOS))
        if not (output / columns.MASKS / f"{path.relative_to(archive)}.png").exists()
    ]
    replaced, same_size, cut, gone, *_ = (ahead[n::5] for n in range(5))
    for path in replaced:
        put(path, photo_bytes(random.randrange(10**6), 2))
    for path in same_size:
        path.write_bytes(photo_bytes(random.randrange(10**6)).ljust(path.stat().st_size, b"\0"))
    whole = {path: path.read_bytes() for path in (*cut, *gone)}
    for path in cut:
        os.truncate(path, path.stat().st_size // 2)
    for path in gone:
        path.unlink()
    put(archive / SHARD, shard_bytes(200))
    go_on(process)
    code = finish(process)
    found = Differences(others=(f"the run ends with {code}",) if code else ())
    found += Differences(others=() if whole else ("the run was too far to be disturbed",))
    for path, data in whole.items():
        put(path, data)
    succeed(city, after)
    found += untrue_rows(output, before) + unaccounted(output, before)
    return found + ends_well(Story(city, after), output)


def untrue_rows(output: Path, truth: Path) -> Differences:
    """The rows that another output, which is known to be true, does not have."""
    true_rows = rows_of(truth)
    return Differences(
        others=tuple(
            f"the row of {row[columns.IMAGE]} is not of the version that it names"
            for row in rows_of(output)
            if row not in true_rows
        )
    )


def unaccounted(output: Path, expected: Path) -> Differences:
    """The images that have neither a row nor a failure, of those that have in another output."""
    known = {row[columns.IMAGE] for row in rows_of(output)} | failures_of(output).keys()
    images = {row[columns.IMAGE] for row in rows_of(expected)} | failures_of(expected).keys()
    return Differences(lost=len(images - known))


def executed_again(story: Story, name: str, in_processes: bool = True) -> Differences:
    """Segment all units, then again one after the other, at once in threads and in processes."""
    bundles = Bundles(story.city)
    units = bundles.units()
    once, again, threads, processes = (
        story.city.work / f"{name}, {how}" for how in ("once", "again", "threads", "processes")
    )
    for unit in units:
        bundles.segment(unit, once)
    for unit in units:
        bundles.segment(unit, again)
        bundles.segment(unit, again)
    bundles.segment_at_once(units, threads)
    found = same_files(once, again) + same_files(once, threads)
    if in_processes:
        codes = segment_in_processes(story.city, processes)
        found += Differences(others=(f"exit codes {codes}",) if any(codes) else ())
        found += same_files(once, processes)
    return found
