"""Output of benchmarks: tables for terminal and Markdown, a bar chart, and JSON."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as RichTable

JSON_FILE = "throughput.json"
MARKDOWN_FILE = "throughput.md"
CHART_FILE = "throughput.png"


@dataclass(frozen=True)
class Table:
    """A table; its first column is text, the others are figures.

    Attributes:
        title: heading.
        columns: column names.
        rows: cells as text.
        notes: paragraphs below the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        lines = [self.columns, ["---"] + ["---:"] * (len(self.columns) - 1), *self.rows]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        notes = "".join(f"\n\n{note}" for note in self.notes)
        return f"## {self.title}\n\n{table}{notes}\n"

    def show(self, console: Console) -> None:
        table = RichTable(title=self.title, title_justify="left", box=SIMPLE)
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for cells in self.rows:
            table.add_row(*cells)
        console.print(table)
        for note in self.notes:
            console.print(note, soft_wrap=True, highlight=False)


@dataclass(frozen=True)
class Section:
    """Results of one part of the benchmark.

    Attributes:
        name: key in the JSON file.
        table: the results as a table.
        data: the results as JSON values.
        wrong: errors, such as names of masks that differ; empty if there are none.
    """

    name: str
    table: Table
    data: Any
    wrong: Sequence[str] = ()


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of values."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int) -> str:
        """Format the median and, if they differ, minimum and maximum."""
        median, least, most = (f"{v:.{digits}f}" for v in (self.median, self.least, self.most))
        return median if least == most else f"{median} ({least} - {most})"


def write(folder: Path, setting: dict[str, Any], sections: Sequence[Section]) -> None:
    """Write the results so far: all values as JSON, and the tables in Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {"setting": setting, **{section.name: section.data for section in sections}}
    (folder / JSON_FILE).write_text(json.dumps(found, indent=2) + "\n")
    about = "".join(f"- {name}: {value}\n" for name, value in setting.items())
    tables = "\n".join(section.table.markdown() for section in sections)
    (folder / MARKDOWN_FILE).write_text(f"{about}\n{tables}")


def draw(path: Path, speeds: dict[str, Spread], subtitle: str) -> None:
    """Draw images per second as bars, with error bars from minimum to maximum.

    Args:
        path: a PNG file.
        speeds: values by the name of the bar.
        subtitle: photos and machine of the measurement.
    """
    figure = Figure(figsize=(8, 0.7 + 0.55 * len(speeds)), layout="constrained")
    axes = figure.subplots()
    names, found = list(speeds), list(speeds.values())
    medians = [spread.median for spread in found]
    below = [spread.median - spread.least for spread in found]
    above = [spread.most - spread.median for spread in found]
    colors = ["#1b7f5c"] + ["#9aa5a0"] * (len(names) - 1)
    bars = axes.barh(names, medians, xerr=[below, above], color=colors, capsize=3)
    axes.bar_label(bars, fmt="%.1f", padding=6)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("images per second")
    axes.set_title(subtitle, fontsize=9, loc="left")
    axes.margins(x=0.12)
    figure.savefig(path, dpi=150)
