"""What a user sees: progress during a run, and a table at its end."""

import logging
import os
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from models.engines.options import Precision
from models.texts import printable_lines
from transforms.flow import progress
from transforms.output import columns, precisions
from transforms.output.run_records import RunRecord
from transforms.output.summary import read_summary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.evaluation import Metrics
    from models.importing.checking import Tried
    from models.importing.settling import Understood
    from models.known import KnownModel
    from models.meanings import Common
    from models.objects import ObjectCounts
    from models.packages import ModelPackage

QUIET, NORMAL, VERBOSE = range(3)

LINE_INTERVAL = 10.0
"""Seconds between the progress lines where no terminal shows a bar."""

PACKAGES = ("pipeline", "transforms", "models")
"""Whose log records are citymask's own; every module has a logger of its name."""

logger = logging.getLogger(__name__)


def level_of(quiet: bool, verbose: bool) -> int:
    """How much the flags `--quiet` and `--verbose` let through; of both, verbose counts."""
    return VERBOSE if verbose else QUIET if quiet else NORMAL


def say(text: str, err: bool = False) -> None:
    """Print lines, to standard error with `err`; nothing is printed for the empty text."""
    if text:
        click.echo(printable_lines(text), err=err)


def shown(text: str) -> Text:
    """Text on one line without markup; what a terminal would obey is shown as a question mark."""
    return Text("".join(c if c.isprintable() else "?" for c in " ".join(text.split())))


def set_up_logging(level: int) -> None:
    """Let through what the user asked for; call it before TensorFlow is imported.

    Unless verbose, the warnings of TensorFlow, Beam and their libraries stay out of the terminal:
    they speak to developers of those.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_PrintableFormatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(
        level=logging.INFO if level == VERBOSE else logging.ERROR, handlers=[handler], force=True
    )
    for package in PACKAGES:
        logging.getLogger(package).setLevel((logging.ERROR, logging.INFO, logging.DEBUG)[level])
    progress.logger.propagate = False
    # Its warnings have whole URLs in them, and so the passwords of web hooks.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    if level != VERBOSE:
        # Beam logs what it then raises, up to "fatal"; the command line says it in one line.
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL + 1)
        handler.addFilter(_is_not_beams)  # Some of it by the root logger.
        warnings.simplefilter("ignore")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


class _PrintableFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


def _is_not_beams(record: logging.LogRecord) -> bool:
    return "apache_beam" not in Path(record.pathname).parts


class ProgressMonitor(logging.Handler):
    """Listens to progress records and keeps count; as a context it shows them while it is open.

    Attributes:
        counts: images `found`, `skipped`, `done` and `failed` so far.
    """

    def __init__(self, level: int):
        super().__init__(logging.DEBUG)
        self.counts = {"found": 0, "skipped": 0, "done": 0, "failed": 0}
        self._shown = level != QUIET
        self._bar: Progress | None = None
        self._started = self._line_at = time.monotonic()

    def __enter__(self) -> "ProgressMonitor":
        progress.logger.addHandler(self)
        progress.logger.setLevel(logging.DEBUG)
        if self._shown and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _RateColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("listing", total=None)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        progress.logger.removeHandler(self)
        if self._bar is not None:
            self._bar.stop()

    def emit(self, record: logging.LogRecord) -> None:
        """Count a progress record and show the state."""
        for name, number in getattr(record, progress.COUNTS).items():
            self.counts[name] += number
        if not self._shown:
            return
        finished = self.counts["done"] + self.counts["failed"]
        total = self.counts["found"] - self.counts["skipped"]
        if finished <= 1:  # The clock starts once the model is loaded.
            self._started = time.monotonic()
        if self._bar is not None:
            self._bar.update(
                self._task,
                description="segmenting" if finished else "listing",
                completed=finished,
                total=total if finished else None,
            )
        elif time.monotonic() - self._line_at >= LINE_INTERVAL:
            self._line_at = time.monotonic()
            logger.info("%s", self._line(finished, total))

    def _line(self, finished: int, total: int) -> str:
        if finished < 2:
            return f"{self.counts['found']} images found, {total} to do"
        rate = (finished - 1) / max(time.monotonic() - self._started, 1e-9)
        left = (total - finished) / rate
        return (
            f"{finished} of {total} images, {rate:.1f} images/s, "
            f"{left:.0f} s left, {self.counts['failed']} failed"
        )


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.1f} images/s")


def print_metrics(metrics: "Metrics") -> None:
    """Print a model's quality per class and as a whole, to standard output."""
    console = Console()
    table = Table("class", header_style="bold")
    table.add_column("IoU", justify="right")
    table.add_column("Dice", justify="right")
    for name, iou, dice in zip(metrics.names, metrics.ious, metrics.dices, strict=True):
        cells = ("-" if value is None else f"{value:.4f}" for value in (iou, dice))
        table.add_row(shown(name), *cells)
    console.print(table)
    console.print(
        f"mIoU {metrics.miou:.4f}, pixel accuracy {metrics.pixel_accuracy:.4f}, "
        f"mean class accuracy {metrics.mean_class_accuracy:.4f}, "
        f"frequency-weighted IoU {metrics.frequency_weighted_iou:.4f}, "
        + (f"border mIoU {metrics.border_miou:.4f}, " if metrics.border_miou is not None else "")
        + f"{metrics.images} images",
        highlight=False,
        soft_wrap=True,
    )
    _print_objects(console, metrics)


def _print_objects(console: Console, metrics: "Metrics") -> None:
    for class_id, objects in metrics.objects.items():
        _print_line(console, f"{metrics.names[class_id]}: {_objects_in_words(objects)}")


def _objects_in_words(counts: "ObjectCounts") -> str:
    touched, found = (
        "-" if share is None else f"{share:.4f}"
        for share in (counts.recall_touched, counts.recall_found)
    )
    return (
        f"{counts.labelled} objects, recall {touched} by a pixel or more and {found} by half or "
        f"more of an object, {counts.false} areas where there is no object"
    )


def print_data_sets(metrics: "Mapping[str, Metrics]", commons: "Sequence[Common]") -> None:
    """Print a model's quality on several data sets, then the IoU of the classes of each.

    Args:
        metrics: of each data set, by its name.
        commons: what the model and the labels have in common, of each data set.
    """
    from models.evaluation import MEASURES, mean_and_spread

    console = Console()
    table = Table("data set", header_style="bold")
    for column in ("photos", "mIoU", "pixel accuracy", "mean class accuracy"):
        table.add_column(column, justify="right")
    for name, of in metrics.items():
        cells = (f"{getattr(of, measure):.4f}" for measure in MEASURES)
        table.add_row(shown(name), str(of.images), *cells)
    table.add_section()
    for name, values in zip(
        ("mean", "standard deviation"), mean_and_spread(list(metrics.values())), strict=True
    ):
        table.add_row(name, "", *(f"{values[measure]:.4f}" for measure in MEASURES))
    console.print(table)
    for (name, of), common in zip(metrics.items(), commons, strict=True):
        classes = Table(Column(shown(name)), header_style="bold")
        classes.add_column("IoU", justify="right")
        for group, iou in zip(of.names, of.ious, strict=True):
            classes.add_row(shown(group), "-" if iou is None else f"{iou:.4f}")
        console.print(classes)
        _print_objects(console, of)
        print_left_out(common)


def print_left_out(common: "Common") -> None:
    """Print which classes of a model and of labels have no counterpart; nothing if all have."""
    console = Console()
    if common.left_out_of_masks:
        names = ", ".join(common.left_out_of_masks)
        _print_line(console, f"Not among the labels' classes, so wrong where predicted: {names}.")
    if common.left_out_of_labels:
        names = ", ".join(common.left_out_of_labels)
        _print_line(console, f"Labels that the model has no class for, so left out: {names}.")


def _quality_in_int8(package: "ModelPackage") -> str:
    measured = package.precisions.get(Precision.INT8.value)
    return f"{measured['miou']:.3f}" if measured else "-"


def print_models(packages: "Sequence[ModelPackage]") -> None:
    """Print what models there are, with the quality and speed that their packages state."""
    console = Console()
    table = Table(header_style="bold", box=SIMPLE)
    for column in ("model", "network"):
        table.add_column(column)
    for column in ("input", "size", "mIoU", "in int8", "images/s"):
        table.add_column(column, justify="right")
    for package in packages:
        metrics = package.metrics
        table.add_row(
            shown(package.name),
            shown(package.architecture),
            f"{package.input_width}x{package.input_height}",
            f"{package.network_bytes / 1e6:.1f} MB",
            f"{metrics['miou']:.3f}",
            _quality_in_int8(package),
            f"{metrics['images_per_second']:.0f}",
        )
    console.print(table)
    models: dict[tuple[str, ...], list[str]] = {}
    for package in packages:
        models.setdefault(package.classes.names, []).append(package.name)
    for names, of_classes in models.items():
        text = f"{len(names)} classes of {', '.join(of_classes)}: {', '.join(names)}"
        _print_line(console, text)
    machines = sorted({package.metrics["machine"] for package in packages})
    _print_line(
        console,
        f"mIoU on the val split. images/s: the network alone, on {' and '.join(machines)}.",
    )


def print_known_models(known: "Sequence[KnownModel]") -> None:
    """Print published networks: a table of their quality, then how to get and import each."""
    console = Console()
    table = Table(header_style="bold", box=SIMPLE)
    for column in ("network", "classes"):
        table.add_column(column, overflow="fold")
    table.add_column("mIoU", justify="right")
    for column in ("on", "licence of the weights"):
        table.add_column(column, overflow="fold")
    for each in known:
        miou = "-" if each.miou is None else f"{each.miou:g}"
        table.add_row(*map(shown, (each.name, each.classes, miou, each.data, each.licence)))
    console.print(table)
    for each in known:
        _print_line(console, f"{each.name}: {each.file}, from {each.source}")
        if each.miou is not None:
            _print_line(console, f"  mIoU: {each.reference}")
        if each.note:
            _print_line(console, f"  note: {each.note}")
        _print_line(console, f"  {each.command}")
    _print_line(
        console,
        "Nothing is downloaded by this command, and nothing of this was measured by citymask. Look "
        "at the licences yourself: those of the weights and those of the data they were trained "
        "on, of which several allow research only.",
    )


def print_understood(understood: "Understood") -> None:
    """Print what is understood of a network and where from, and what the user should see."""
    console = Console()
    table = Table(header_style="bold", box=SIMPLE)
    for column in ("", "found", "from"):
        table.add_column(column, overflow="fold")
    for name, fact in understood.told.items():
        style = "yellow" if fact.is_assumed else ""
        table.add_row(name, shown(fact.value), shown(fact.source), style=style)
    console.print(table)
    for warning in understood.warnings:
        _print_line(console, f"Note: {warning}.")


def print_shares(shares: dict[str, float]) -> None:
    """Print the shares of the classes in one photo, the largest first."""
    console = Console()
    table = Table(header_style="bold", box=SIMPLE)
    table.add_column("class")
    table.add_column("of the photo", justify="right")
    for name, share in sorted(shares.items(), key=lambda of: -of[1]):
        table.add_row(shown(name), f"{share:.1%}")
    console.print(table)


def print_tried(tried: "Sequence[Tried]") -> None:
    """Print the quality of a network as it is understood, and with likely mistakes corrected."""
    console = Console()
    table = Table(header_style="bold", box=SIMPLE)
    table.add_column("tried")
    for column in ("mIoU", "pixel accuracy"):
        table.add_column(column, justify="right")
    for each in tried:
        metrics = each.metrics
        row = (each.options or "as understood", f"{metrics.miou:.4f}")
        table.add_row(*row, f"{metrics.pixel_accuracy:.4f}")
    console.print(table)
    first, *others = tried
    images = f"on {first.metrics.images} labelled photos"
    if others and others[0].metrics.miou > first.metrics.miou:
        line = f"Better {images}: import again with {others[0].options}."
    else:
        line = f"Nothing that was tried is better {images}."
    _print_line(console, line)


def print_classes(output: str) -> None:
    """Print the classes of an archive by share, to standard output.

    Args:
        output: the output folder, whose summary is read.
    """
    console = Console()
    table = Table(title=None, header_style="bold")
    table.add_column("class")
    table.add_column("share", justify="right")
    table.add_column("images", justify="right")
    for entry in sorted(read_summary(output).classes, key=lambda entry: -entry.pixels):
        table.add_row(shown(entry.name), f"{entry.fraction:.1%}", str(entry.images))
    console.print(table)


def print_closing(record: RunRecord) -> None:
    """Print what became of the images of a run, to standard output."""
    console, output = Console(), record.output
    images, rate = record.images, record.images_per_second
    passed_over = sum(record.passed_over.values())
    parts = [
        f"{images['done']} images done ({rate:.1f} images/s)" if images["done"] else "nothing new",
        f"{images['failed']} failed",
        f"{images['skipped']} skipped (done before)",
    ]
    for name, text in _MENTIONED.items():
        if images.get(name):
            parts.append(f"{images[name]} {text}")
    panoramas = record.panoramas
    if panoramas["done"]:
        parts.append(f"{panoramas['done']} of them panoramas")
    if panoramas["contradictions"]:
        parts.append(f"{panoramas['contradictions']} taken as flat (said to be panoramas)")
    if passed_over:
        reasons = (f"{count} {reason}" for reason, count in record.passed_over.items())
        parts.append(f"{passed_over} other files ignored ({', '.join(reasons)})")
    _print_line(console, ", ".join(parts))
    if len(record.output_precisions) > 1:
        made = precisions.in_words(record.output_precisions)
        same = f"--force --precision {Precision.F32.value}"
        _print_line(console, f"Masks in {output} by precision: {made}; {same} makes them alike")
    _print_line(console, f"Results in {output}")
    if images["failed"]:
        _print_line(console, f"What failed, and why, is in {output}/{columns.FAILURES}")
    if images.get("removed"):
        _print_line(console, f"What was removed is named in {output}/{columns.REMOVED_CSV}")


def print_plan(images: dict[str, int], max_images: int | None, speed: float | None) -> None:
    """Print what a run would do, to standard output.

    Args:
        images: counts by the names of the run record.
        max_images: most images a run takes.
        speed: images per second of the last run; None where there was none.
    """
    console = Console()
    table = Table(header_style="bold")
    table.add_column("images")
    table.add_column("", justify="right")
    for name, text in _PLANNED.items():
        if images[name]:
            table.add_row(text, str(images[name]))
    console.print(table)
    todo = sum(images[name] for name in ("new", "replaced", "retried", "redone"))
    todo -= images["outside_dates"]
    taken = todo if max_images is None else min(todo, max_images)
    line = f"A run would do {taken} of {images['found']} images"
    if taken and speed:
        line += f", in about {timedelta(seconds=round(taken / speed))} at {speed:.1f} images/s"
    elif taken:
        line += "; how long it takes is not known before the first run"
    _print_line(console, line)


_MENTIONED = {
    "unreadable": "of these for reasons of storage",
    "duplicate": "set aside as duplicates",
    "blurred": "set aside as blurred",
    "gated": "set aside before",
    "quarantined": "in quarantine (failed too often)",
    "left": "left for the next run",
    "outside_dates": "of other days",
    "removed": "removed since they were done",
}
_PLANNED = {
    "new": "new",
    "replaced": "changed since they were done",
    "retried": "failed before",
    "redone": "done, to be redone",
    "outside_dates": "of these, of other days",
    "quarantined": "in quarantine (failed too often)",
    "gated": "set aside before",
    "skipped": "done",
    "given_twice": "given twice",
    "removed": "removed since they were done",
}
"""Counts of images by their names in the run record, and what to call them."""


def _print_line(console: Console, line: str) -> None:
    console.print(Text(printable_lines(line)), soft_wrap=True)
