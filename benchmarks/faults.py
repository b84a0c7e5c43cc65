"""Check that runs with kills, full disks and races lose and duplicate no results.

Each fault is injected into real runs over a small archive; then a run finishes without faults. Its
output must equal that of an undisturbed run: masks byte for byte, all columns of rows but the run
id, failures and summary, and no unfinished files. Prints Markdown tables; the exit code is 1 if
anything differs.

    python benchmarks/faults.py [--kills 40] [--seed 0]
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# ruff: noqa: E402
from tests.faults import scenarios
from tests.faults.comparing import Differences
from tests.faults.injecting import SmallDisk
from tests.faults.runs import MASKS, MOMENTS, ROWS, SUMMARY, WRITING
from tests.faults.scenarios import TEN_YEARS, Story

KILLS_PER_FOLDER = 5
LONGEST_RUN = 4.0
"""Random moments lie within this many seconds from the start."""

PAGES = (0, 1, 3, 6)
"""Free pages of a full disk: none, or enough for the lock, two masks, masks but no rows."""


@dataclass(frozen=True)
class Row:
    """A fault, how often it was injected, and the differences found."""

    fault: str
    times: str
    found: Differences


def main() -> None:
    arguments = parse_arguments()
    chance = random.Random(arguments.seed)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        first = scenarios.first_run(work / "first")
        week, future = scenarios.changed_archive(work / "changed")
        stories = {
            "a first run": first,
            "a first run with --overlay and --confidence": scenarios.first_run_with_all(first),
            "a run over a changed archive": week,
            "a run with --force": scenarios.done_anew(first),
        }
        kills: Counter[str] = Counter()
        rows = []
        for faults in (
            killed(stories, arguments.kills, chance, kills),
            full_disk(first, work / "disk", chance),
            read_only(first),
            others(first, week, future, work, chance),
        ):
            for row in faults:
                rows.append(row)
                print(f"{time.monotonic() - start:.0f} s: {row}", file=sys.stderr, flush=True)
    print_tables(rows, kills)
    sys.exit(any(row.found for row in rows))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40, help="least number of kills")
    parser.add_argument("--seed", type=int, default=0, help="of random choices")
    return parser.parse_args()


def killed(
    stories: dict[str, Story], wanted: int, chance: random.Random, kills: Counter[str]
) -> Iterator[Row]:
    """Kill runs of each story in turn, until `wanted` kills are reached."""
    found: dict[str, Differences] = defaultdict(Differences)
    folders: Counter[str] = Counter()
    hit: Counter[str] = Counter()
    deck: list = []
    while kills.total() < wanted:
        name = list(stories)[folders.total() % len(stories)]
        moments = []
        for _ in range(KILLS_PER_FOLDER):
            if not deck:
                deck = [*MOMENTS, WRITING, MASKS, ROWS, None]
                deck += [chance.uniform(0, LONGEST_RUN) for _ in range(3)]
                chance.shuffle(deck)
            moments.append(deck.pop())
        # In the order of a run: after its end no masks are written any more.
        moments.sort(key=lambda moment: MOMENTS.index(moment) if moment in MOMENTS else -1)
        folders[name] += 1
        differences, of_folder = scenarios.killed(
            stories[name], f"killed {folders[name]} of {name}", moments, chance
        )
        found[name] += differences
        hit[name] += of_folder.total()
        kills += of_folder
        print(f"{kills.total()} kills", file=sys.stderr, flush=True)
    for name, differences in found.items():
        times = f"{hit[name]} kills, {folders[name]} folders"
        yield Row(f"SIGKILL: {name}", times, differences)


def full_disk(story: Story, folder: Path, chance: random.Random) -> Iterator[Row]:
    """Fill the disk at several moments."""
    found: dict[str, Differences] = defaultdict(Differences)
    times: Counter[str] = Counter()
    with SmallDisk(folder) as disk:
        for pages in (*PAGES, *sorted(chance.sample(range(7, 75), 12))):
            differences, missing = scenarios.disk_full(story, disk, pages)
            found[missing] += differences
            times[missing] += 1
        nights = scenarios.disk_full_for_nights(story, disk, 4)
    for missing, differences in found.items():
        yield Row(f"full disk: no room for {missing}", str(times[missing]), differences)
    yield Row("full disk: no room for a mask in four runs, with --max-attempts 4", "1", nights)


def read_only(story: Story) -> Iterator[Row]:
    for moment in (MASKS, ROWS):
        found = scenarios.made_read_only(story, f"read-only when {moment.name}", moment)
        yield Row(f"read-only from when {moment.name}", "1", found)


def others(
    first: Story, week: Story, future: Story, work: Path, chance: random.Random
) -> Iterator[Row]:
    def repeated(fault: str, times: int, inject: Callable[[int], Differences]) -> Row:
        return Row(fault, str(times), sum(map(inject, range(times)), Differences()))

    yield repeated(
        "photos and a shard replaced, overwritten, cut short, taken away during a run", 4,
        lambda n: scenarios.inputs_changed(work / f"inputs {n}", chance),
    )  # fmt: skip
    yield repeated(
        "two runs started together", 6,
        lambda n: scenarios.run_together((first, week)[n % 2], f"together {n}"),
    )  # fmt: skip
    moments = ((), (ROWS,), (ROWS, ROWS), (MASKS, SUMMARY))
    for story, shift, name in ((future, -TEN_YEARS, "back"), (week, TEN_YEARS, "ahead")):
        yield repeated(
            f"clock jumps {name} by years between runs, some of them killed", len(moments),
            lambda n, story=story, shift=shift, name=name: scenarios.killed(
                story, f"{name} {n}", moments[n], chance, clock=shift
            )[0],
        )  # fmt: skip
    yield repeated(
        "all work units done twice: in a row, in two threads, in two processes", 2,
        lambda n: scenarios.executed_again(first, f"again {n}"),
    )  # fmt: skip


def print_tables(rows: list[Row], kills: Counter[str]) -> None:
    """Print tables of the faults and of the moments of kills, and then all differences."""
    print("| injected | times | images lost | images doubled | other differences |")
    print("|---|---|---|---|---|")
    for row in rows:
        found = row.found
        print(
            f"| {row.fault} | {row.times} | {found.lost} | {found.doubled} | {len(found.others)} |"
        )
    print("\n| killed when | times |\n|---|---|")
    for name, times in kills.most_common():
        print(f"| {name} | {times} |")
    for row in rows:
        for difference in row.found.others:
            print(f"{row.fault}: {difference}")


if __name__ == "__main__":
    main()
