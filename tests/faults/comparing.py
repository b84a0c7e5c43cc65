"""What is left after faults, compared with the output of a run that was left alone."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from PIL import Image

from tests.faults.runs import City, verify
from transforms import storage
from transforms.output import begun, columns, locking, stopping


@dataclass(frozen=True)
class Differences:
    """How an output folder differs from that of a run left alone.

    Attributes:
        lost: images without a row that should have one.
        doubled: rows beyond the first of an image.
        others: all else, in words.
    """

    lost: int = 0
    doubled: int = 0
    others: tuple[str, ...] = ()

    def __add__(self, other: "Differences") -> "Differences":
        return Differences(
            self.lost + other.lost, self.doubled + other.doubled, self.others + other.others
        )

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.others)


def differences(expected: Path, found: Path) -> Differences:
    """Compare an output folder with that of a run left alone, in all that does not name the run.

    What `summary.json` calls skipped is not compared: it is what the last run found done.
    """
    wanted, present = rows_of(expected), rows_of(found)
    of_image = {row[columns.IMAGE]: row for row in present}
    others = []
    for row in wanted:
        other = of_image.get(row[columns.IMAGE], row)
        if row != other:
            names = sorted(name for name in {*row, *other} if row.get(name) != other.get(name))
            others.append(f"the row of {row[columns.IMAGE]} differs in {', '.join(names)}")
    images = {row[columns.IMAGE] for row in wanted}
    others += [f"{image} has a row" for image in sorted(of_image.keys() - images)]
    others += _unlike("mask", _contents(expected / columns.MASKS), _contents(found / columns.MASKS))
    others += _unlike("failure", failures_of(expected), failures_of(found))
    for read in (_summary, _summary_table, _removed):
        if read(expected) != read(found):
            others.append(f"{read.__name__.strip('_')} differs")
    others += [f"{name} is unfinished" for name in os.listdir(found / storage.UNFINISHED)]
    others += [f"{name} is on record as begun" for name in os.listdir(found / begun.BEGUN)]
    if locking.holder(str(found)):
        others.append("the lock was not given back")
    if (found / stopping.STOP).exists():
        others.append("the run is asked to stop")
    lost = len(images - of_image.keys())
    return Differences(lost, len(present) - len(of_image), tuple(others))


def rows_of(output: Path) -> list[dict[str, Any]]:
    """All rows of `statistics/` by image, without the run and without columns that are empty."""
    rows = [
        {name: value for name, value in row.items() if value is not None}
        for file in sorted((output / columns.STATISTICS).glob("*"))
        for row in pq.ParquetFile(file).read().drop_columns(columns.RUN_ID).to_pylist()
    ]
    return sorted(rows, key=lambda row: row[columns.IMAGE])


def failures_of(output: Path) -> dict[str, Any]:
    """The failures that stand: the newest of each image that has no row."""
    done = {row[columns.IMAGE] for row in rows_of(output)}
    newest: dict[str, tuple[str, dict[str, Any]]] = {}
    for file in sorted((output / columns.FAILURES).glob("*")):
        for row in pq.ParquetFile(file).read().to_pylist():
            image, run_id = row[columns.IMAGE], row.pop(columns.RUN_ID)
            del row[columns.ATTEMPTS]
            if image not in done and run_id >= newest.get(image, ("",))[0]:
                newest[image] = run_id, row
    return {image: row for image, (_, row) in newest.items()}


def same_files(expected: Path, found: Path) -> Differences:
    """Whether the masks and rows of two output folders are the same files, byte for byte."""
    return Differences(
        others=tuple(
            difference
            for folder in (columns.MASKS, columns.STATISTICS, columns.FAILURES)
            for difference in _unlike(folder, *(_contents(o / folder) for o in (expected, found)))
        )
    )


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _unlike(what: str, expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    names = sorted({*expected, *found})
    return [f"the {what} {n} differs" for n in names if expected.get(n) != found.get(n)]


def _summary(output: Path) -> dict[str, Any]:
    summary = json.loads((output / columns.SUMMARY_JSON).read_text("utf-8"))
    for level in (summary, *summary["groups"].values()):
        del level["images"]["skipped"]
    return summary


def _summary_table(output: Path) -> str:
    return pd.read_csv(output / columns.SUMMARY_CSV).drop(columns="images_skipped").to_csv()


def _removed(output: Path) -> str:
    return pd.read_csv(output / columns.REMOVED_CSV).drop(columns="run_id").to_csv()


def judge(city: City, expected: Path, output: Path) -> Differences:
    """The differences of an output folder, and what `citymask verify` finds in it."""
    found = differences(expected, output)
    code = verify(output, city.log(output))
    return found + Differences(others=(f"verify ends with {code}",) if code else ())


def rows_without_mask(output: Path) -> Differences:
    """The rows whose mask is not there or not whole: at no moment may there be one."""
    wrong = []
    for row in rows_of(output):
        try:
            with Image.open(output / row[columns.MASK]) as mask:
                mask.load()
        except OSError as error:
            wrong.append(f"the row of {row[columns.IMAGE]} has no whole mask: {error}")
    return Differences(others=tuple(wrong))
