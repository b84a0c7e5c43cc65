"""Runs that are recorded, cut at many moments, and repaired by the next run."""

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.command_line import citymask
from tests.faults.archives import photo_bytes, put
from tests.faults.comparing import Differences, differences
from tests.faults.power_cuts import Disk, Recording, recorded
from transforms import storage

PHOTOS = 5
UNIT_SIZE = 2
COMMANDS = {
    "a first run": ("run",),
    "a run with changed photos": ("run",),
    "a run with --force": ("run", "--force"),
    "a run with --durable never": ("run", "--durable", "never"),
    "a run with the gate": ("run", "--skip-duplicates"),
    "compact": ("compact",),
}
"""What is cut, by its name."""

ON_A_DONE_ARCHIVE = ("a run with changed photos", "a run with --force", "compact")


@dataclass(frozen=True)
class Story:
    """A command that is cut.

    Attributes:
        name: one of `COMMANDS`.
        work: a folder for all of it.
        model: the model.
    """

    name: str
    work: Path
    model: Path

    @classmethod
    def begin(cls, name: str, work: Path, model: Path) -> "Story":
        """A small archive, and what commands that are left alone make of it."""
        story = cls(name, work, model)
        archive = work / "archive"
        for number in range(PHOTOS):
            put(archive / f"{number % 2}" / f"{number}.png", photo_bytes(number))
        put(archive / "0" / "same.png", photo_bytes(0))
        put(archive / "1" / "broken.png", b"not a photo")
        if name in ON_A_DONE_ARCHIVE:
            story.citymask("run", story.begun)
        if name == "a run with changed photos":
            for number in (0, 3):
                put(archive / f"{number % 2}" / f"{number}.png", photo_bytes(100 + number, 2))
            put(archive / "1" / "new.png", photo_bytes(200))
            (archive / "1" / "1.png").unlink()
        story.lay_out(story.expected)
        story.repair(story.expected)
        return story

    @property
    def begun(self) -> Path:
        """The output folder before the command."""
        return self.work / "begun"

    @property
    def expected(self) -> Path:
        """The output folder of runs that are left alone."""
        return self.work / "expected"

    def lay_out(self, output: Path) -> None:
        """Make an output folder as it is before the command."""
        if self.begun.exists():
            shutil.copytree(self.begun, output)

    def record(self, output: Path) -> Recording:
        """What the command asks of the disk."""
        self.lay_out(output)
        with recorded(output) as recording:
            self.citymask(*COMMANDS[self.name], output)
        return recording

    def repair(self, output: Path) -> None:
        """Do what a user does after a power cut: the next run."""
        _, *options = COMMANDS[self.name] if self.name == "a run with the gate" else ("run",)
        self.citymask("run", *options, output)

    def citymask(self, command: str, *arguments: object) -> None:
        """Run a command that has to end well; the last argument is the output folder."""
        *options, output = arguments
        words: Sequence[object] = (output,)
        if command == "run":
            words = [self.work / "archive", "--output", output, "--model", self.model, *options]
            words += ["--unit-size", UNIT_SIZE, "--max-attempts", 1000, "--quiet"]
        result = citymask(command, *words)
        if result.exit_code:
            raise RuntimeError(f"exit code {result.exit_code}: {result.output}")


def cut_and_repair(story: Story, recording: Recording, cuts: int, seed: int) -> Differences:
    """Cut a command at moments spread over it, and let the next run repair what is left.

    What two cuts have left alike, apart from unfinished files, is repaired once.
    """
    chance = random.Random(seed)
    repaired, found = set(), Differences()
    for number in range(cuts):
        after = round(number * len(recording) / max(1, cuts - 1))
        disk = recording.cut(after, chance)
        if (state := _state(disk)) in repaired:
            continue
        repaired.add(state)
        output = story.work / "cut"
        disk.write(output)
        try:
            story.repair(output)
            different = differences(story.expected, output)
        except Exception as error:
            different = Differences(others=(f"{type(error).__name__}: {error}",))
        if different:
            where = f"{story.name}, seed {seed}, cut {number} after {after} steps"
            different += Differences(others=(where,))
            found += different
        shutil.rmtree(output)
    return found


def _state(disk: Disk) -> tuple[tuple[str, bytes], ...]:
    """What the next run may find on a disk; it removes unfinished files unread."""
    unfinished = f"{storage.UNFINISHED}/"
    return tuple(item for item in disk.contents() if not item[0].startswith(unfinished))
