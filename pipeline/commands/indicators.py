"""`citymask indicators`: shares and indicators as a table, per photo or as means."""

from collections.abc import Callable, Iterator
from functools import partial

import click
import pyarrow as pa

from models.csv_cells import as_text, lines
from models.indicators import IndicatorError, Indicators
from models.texts import printable
from pipeline.commands.common import Refused
from transforms import storage
from transforms.measures import aggregating
from transforms.measures.deriving import derive
from transforms.measures.hexagons import cell_keys
from transforms.output import columns, parquet
from transforms.output.archives import Archive, ArchiveError, open_archive, statistics_of

IMAGE, GROUP, HEXAGON, ARCHIVE = "image", "group", "hexagon", "archive"


@click.command()
@click.argument("output", metavar="OUT")
@click.option(
    "--by", type=click.Choice([IMAGE, GROUP, HEXAGON, ARCHIVE]), default=IMAGE, show_default=True,
    help="A line per photo, or means per group or hexagon.",
)  # fmt: skip
@click.option(
    "--resolution", type=click.IntRange(0, 15), default=9, show_default=True, metavar="R",
    help="H3 resolution of the hexagons: 0 to 15.",
)  # fmt: skip
@click.option(
    "--indicators", "file", metavar="FILE", help="Indicators that replace the built-in ones."
)
@click.option(
    "--model", metavar="M", help="Model whose results to use. Default: the model that ran last."
)
def indicators(output: str, by: str, resolution: int, file: str | None, model: str | None) -> None:
    """Print shares and indicators of the photos in OUT, the output folder of earlier runs, as CSV.

    Nothing is written to OUT.
    """
    try:
        archive = open_archive(output, model)
        defined = Indicators.load(archive.classes, file)
        wanted = aggregating.measures(archive.classes, defined)
        derived = _derived(archive, defined)
        keys: dict[str, Callable[[pa.Table], pa.Array]] = {
            GROUP: aggregating.group_keys,
            HEXAGON: partial(cell_keys, resolution=resolution),
            ARCHIVE: aggregating.archive_keys,
        }
        if by == IMAGE:
            tables = (table.select([columns.IMAGE, *wanted]) for table in derived)
        else:
            sums = (aggregating.sums_per_key(t, keys[by](t), wanted) for t in derived)
            tables = (aggregating.means(total) for total in [aggregating.add_sums(sums)])
        _print(tables, by, defined.version)
    except (ArchiveError, IndicatorError, storage.StorageError) as error:
        raise Refused(str(error)) from error


def _derived(archive: Archive, defined: Indicators) -> Iterator[pa.Table]:
    found = False
    for files in parquet.file_blocks(archive.output, columns.STATISTICS):
        for table in filter(len, statistics_of(archive, files)):
            found = True
            yield derive(table, archive.classes, defined)
    if not found:
        raise ArchiveError(f"{archive.output}: no rows of the model {archive.model}")


def _print(tables: Iterator[pa.Table], by: str, version: str) -> None:
    for number, table in enumerate(tables):
        if by == ARCHIVE:
            table = table.drop_columns(aggregating.KEY)
        if number == 0:
            header = [by if name == aggregating.KEY else name for name in table.column_names]
            click.echo(lines([[*header, columns.INDICATORS_VERSION]]), nl=False)
        values = (
            [as_text(printable(value)) for value in column.to_pylist()]
            if column.type == pa.string()
            else column.to_pylist()
            for column in table.columns
        )
        click.echo(lines((*row, version) for row in zip(*values, strict=True)), nl=False)
