"""Judge a training recipe by places that it was not trained on, on all folds of some data sets.

    python benchmarks/judge.py OUTPUT --data FOLDS/camvid \\
        --data FOLDS/facades:examples/mappings/facades.csv \\
        --data FOLDS/idd_lite:examples/mappings/idd_lite.csv:0.5 \\
        -- efficientnet_fpn --epochs 20 --seed 0

FOLDS/camvid holds fold-1, fold-2 and so on, as `benchmarks/folds.py` writes them; a number after
the mapping is the data set's weight in the training. What follows `--` goes to `citymask train`,
once per fold: it trains on the split `train` of the fold of each data set, and `citymask evaluate`
measures the places left out, `val`. The model of a fold is OUTPUT/fold-1, and what was measured
OUTPUT/fold-1.json. Folds that were measured are kept, and an interrupted training is resumed.

The table has the mean over the folds and their standard deviation (divisor: folds less one). Its
last row is the mean over the data sets, in which each counts alike: the number to choose by.

The epoch is chosen on the places left out, in all recipes alike. So a figure is good for comparing
recipes; as a forecast for a new city it flatters by what this choice brings.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.evaluation import MEASURES
from pipeline.commands.data_sets import DataSet

FOLD = "fold-"
"""Start of the name of a fold's folder; its number from 1 follows."""


def count_folds(data: Sequence[DataSet]) -> int:
    """The number of folds, which all data sets have to have alike.

    Raises:
        ValueError: there are no folds, or one data set has more than another.
    """
    numbers = {entry.folder: len(list(Path(entry.folder).glob(f"{FOLD}*"))) for entry in data}
    if 0 in numbers.values() or len(set(numbers.values())) > 1:
        found = ", ".join(f"{folder} has {number}" for folder, number in numbers.items())
        raise ValueError(f"data sets must have equally many folds; {found}")
    return next(iter(numbers.values()))


def measure(fold: str, data: Sequence[DataSet], recipe: Sequence[str], output: Path) -> dict:
    """Train on a fold and measure what it leaves out, unless that is done; return the document."""
    result = output / f"{fold}.json"
    if not result.exists():
        folders = [f"{entry.folder}/{fold}" for entry in data]
        trained, measured = [], []
        for entry, folder in zip(data, folders, strict=True):
            mapping = entry.mapping or ""
            trained += ["--data", f"{entry.name}={folder}:{mapping}:{entry.weight:g}"]
            measured += ["--data", f"{entry.name}={folder}" + (f":{mapping}" if mapping else "")]
        model, unfinished = str(output / fold), result.with_suffix(".tmp")
        _citymask("train", *recipe, *trained, "--output", model, "--resume")
        _citymask("evaluate", "--model", model, *measured, "--json", str(unfinished))
        unfinished.rename(result)
    return json.loads(result.read_text())


def _citymask(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pipeline", *arguments], check=True)


def table(names: Sequence[str], folds: Sequence[dict[str, Any]]) -> str:
    """Mean and spread over the folds, in Markdown.

    Args:
        names: of the data sets.
        folds: what `citymask evaluate --json` wrote for each fold, for the data sets in this order.
    """
    # Of one data set the document is that of the data set itself.
    of_fold = [document.get("data_sets", [document]) for document in folds]
    rows = {
        name: list(found) for name, found in zip(names, zip(*of_fold, strict=True), strict=True)
    }
    rows["mean"] = [
        {measure: statistics.mean(found[measure] for found in sets) for measure in MEASURES}
        for sets in of_fold
    ]
    titles = ("mIoU", "pixel accuracy", "mean class accuracy")
    lines = [f"| data set | photos | {' | '.join(titles)} |", "|---|---|---|---|---|"]
    for name, found in rows.items():
        photos = sum(of["images"] for of in found) if name in names else ""
        cells = [_mean_and_spread([of[measure] for of in found]) for measure in MEASURES]
        lines.append(f"| {name} | {photos} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean_and_spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path, help="folder of models and measurements")
    parser.add_argument(
        "--data", action="append", type=DataSet.parse, required=True,
        metavar="[NAME=]FOLDS[:[MAPPING.csv][:WEIGHT]]",
        help="folds of a data set; may be given more than once",
    )  # fmt: skip
    parser.add_argument("recipe", nargs="+", help="arguments of citymask train, after --")
    given = parser.parse_args()
    try:
        folds = count_folds(given.data)
    except ValueError as error:
        parser.error(str(error))
    given.output.mkdir(parents=True, exist_ok=True)
    try:
        found = [
            measure(f"{FOLD}{fold}", given.data, given.recipe, given.output)
            for fold in range(1, folds + 1)
        ]
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # The command has said why.
    print(table([entry.name for entry in given.data], found))


if __name__ == "__main__":
    main()
