"""Printing: a night beside the last nights, for people."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from pipeline.console import shown
from pipeline.nights.comparing import Comparison, FailureKind


def print_comparison(comparison: Comparison, failures: Sequence[FailureKind] = ()) -> None:
    """Print a night beside the last ones, and what failed most, to standard output."""
    console = Console()
    images = _table("images", "tonight", f"mean of {_nights(comparison.nights)}")
    for name, figure in comparison.images.items():
        images.add_row(name, _number(figure.tonight, 0), _number(figure.usual, 1))
    speed = comparison.images_per_second
    images.add_row("per second (median)", _number(speed.tonight, 1), _number(speed.usual, 1))
    console.print(images)

    alarms = {alarm.name for alarm in comparison.alarms}
    classes = _table("class", "tonight", _nights(comparison.nights_of_model), "archive")
    for share in comparison.classes:
        cells = (_share(value) for value in (share.tonight, share.before, share.archive))
        style = "bold red" if share.name in alarms else ""
        classes.add_row(shown(share.name), *cells, style=style)
    console.print(classes)

    if failures:
        kinds = _table("stage and error", "failures", "for example")
        kinds.columns[-1].justify = "left"
        for kind in failures:
            example = f"{kind.image}: {kind.message}"
            kinds.add_row(shown(f"{kind.stage} {kind.error}"), str(kind.failures), shown(example))
        console.print(kinds)


def _table(first: str, *others: str) -> Table:
    table = Table(first, header_style="bold")
    for name in others:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _nights(nights: int) -> str:
    if nights < 2:
        return "last night" if nights else "no earlier night"
    return f"the last {nights} nights"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
