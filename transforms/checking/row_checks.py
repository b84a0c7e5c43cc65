"""Row checks: whether a file of rows can be read, its rows are valid, and its masks match them.

Each check takes one file and the masks that its rows name; checks across files are in
`transforms.checking.verifying`.
"""

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any

import pyarrow as pa
from PIL import Image

from transforms import storage
from transforms.flow.concurrency import REQUESTS, map_requests
from transforms.output import archives, columns, names, parquet, schemas
from transforms.output.archives import ArchiveError
from transforms.output.class_columns import class_columns
from transforms.output.findings import MASK_DAMAGED, MASK_DIFFERS, MASK_MISSING, ROW_WRONG, Finding
from transforms.photos.mask_files import MODE, MaskError, check_chunks, load_mask, palette_of

logger = logging.getLogger(__name__)

MASKS_AT_ONCE = 512
"""Masks of a file that are checked at a time."""

IDENTITY = (columns.IMAGE, columns.MASK, columns.MODEL, columns.RUN_ID)
"""Columns that identify a row; no row may lack one."""

REQUIRED = {
    columns.STATISTICS: {
        **dict.fromkeys((*IDENTITY, columns.URI, columns.VERSION, columns.GROUP), pa.string()),
        columns.WIDTH: pa.int64(),
        columns.HEIGHT: pa.int64(),
    },
    columns.FAILURES: {field.name: field.type for field in schemas.FAILURE_SCHEMA},
    columns.GATED: {field.name: field.type for field in schemas.GATED_SCHEMA},
}
"""Columns that a run needs, by folder."""


@dataclass(frozen=True)
class Expected:
    """What the masks of a model have in common.

    Attributes:
        palette: their colours.
        values: the value of each class, in the order of the class ids; None if nothing says it.
    """

    palette: bytes
    values: tuple[int, ...] | None = None


@dataclass(frozen=True)
class MaskRow:
    """What a mask is compared with.

    Attributes:
        image, model, run_id, mask, width, height: as in the columns.
        pixels: the columns of pixels per class with their values, in the order of the class ids.
        values: the value of each class in the mask, in the same order; None if nothing says it.
    """

    image: str
    model: str
    run_id: str
    mask: str
    width: int
    height: int
    pixels: tuple[tuple[str, int], ...]
    values: tuple[int, ...] | None

    def finding(self, kind: str, path: str, version: str, message: str) -> Finding:
        """A finding about this row."""
        return Finding(kind, path, version, self.image, self.model, self.run_id, message)


def why_unreadable(file: str, required: dict[str, pa.DataType]) -> str:
    """Why a Parquet file cannot be read as rows with some columns; empty if it can.

    Every column is read, and no row may lack a column of `IDENTITY`. The pixels per class are whole
    numbers.

    Args:
        file: path of the file.
        required: columns and what they can be cast to.
    """
    try:
        with parquet.opened(file) as opened:
            missing = required.keys() - set(opened.schema_arrow.names)
            if missing:
                return f"without the column {', '.join(sorted(missing))}"
            if columns.MASK in required:
                counts = class_columns(opened.schema_arrow)
                required = required | {entry.column: pa.int64() for entry in counts}
            for batch in opened.iter_batches():
                batch.validate(full=True)
                for name, arrow_type in required.items():
                    column = batch.column(name).cast(arrow_type)
                    if name in IDENTITY and column.null_count:
                        return f"{column.null_count} rows without {name}"
    except parquet.DamagedError as error:
        return names.printable(error.reason)
    except storage.StorageError as error:
        return names.printable(str(error))
    return ""


def why_wrong(row: dict[str, Any], pixels: Sequence[str]) -> str:
    """What is wrong with a row in itself; empty if it is valid.

    Args:
        row: values by column.
        pixels: the columns of pixels per class.
    """
    unknown = sorted(name for name in (*REQUIRED[columns.STATISTICS], *pixels) if row[name] is None)
    if unknown:
        return f"without {', '.join(unknown)}"
    width, height = row[columns.WIDTH], row[columns.HEIGHT]
    total = sum(row[name] for name in pixels)
    if total != width * height or min(width, height) < 1:
        return f"its pixels per class add up to {total}, expected {width} x {height}"
    negative = [name for name in pixels if row[name] < 0]
    return f"{negative[0]} is {row[negative[0]]}" if negative else ""


def check_file(
    file: str, output: str, doubled: set[int], expected: Mapping[str, Expected]
) -> Iterator[Finding | None]:
    """Check the rows of a readable statistics file and their masks: a finding or None for each.

    Args:
        file: path of the statistics file.
        output: the output folder.
        doubled: positions of rows that are skipped.
        expected: what the masks of each model have in common.
    """
    classes = class_columns(parquet.read_schema(file))
    pixels = [entry.column for entry in classes]
    stated = tuple(entry.value for entry in classes if entry.value is not None)
    path, version = os.path.relpath(file, output), storage.find(file).version
    with ThreadPoolExecutor(REQUESTS, "verify") as pool:
        waiting: list[MaskRow] = []
        for position, row in enumerate(
            parquet.read_rows(file, [*REQUIRED[columns.STATISTICS], *pixels])
        ):
            if position in doubled:
                continue
            mask_row = MaskRow(
                row[columns.IMAGE],
                row[columns.MODEL],
                row[columns.RUN_ID],
                row[columns.MASK],
                row[columns.WIDTH],
                row[columns.HEIGHT],
                tuple((name, row[name]) for name in pixels),
                stated or _values_of(row[columns.MODEL], expected, len(pixels)),
            )
            problem = why_wrong(row, pixels)
            if problem:
                yield mask_row.finding(ROW_WRONG, path, version, problem)
                continue
            waiting.append(mask_row)
            if len(waiting) == MASKS_AT_ONCE:
                yield from pool.map(partial(check_mask, output=output, expected=expected), waiting)
                waiting.clear()
        yield from pool.map(partial(check_mask, output=output, expected=expected), waiting)


def check_mask(row: MaskRow, output: str, expected: Mapping[str, Expected]) -> Finding | None:
    """Compare the mask of a row with the row; None if they match.

    Args:
        row: a row that is valid in itself.
        output: the output folder.
        expected: what the masks of each model have in common.
    """
    file = storage.find(os.path.join(output, row.mask))
    if file.size < 0:
        return row.finding(MASK_MISSING, row.mask, "", "there is no such file")
    about = partial(row.finding, path=row.mask, version=file.version)
    try:
        data = storage.read(file.path)
        check_chunks(data)
        image, palette = load_mask(data), palette_of(BytesIO(data))
    except (storage.StorageError, MaskError) as error:
        return about(MASK_DAMAGED, message=names.printable(str(error)))
    if image.mode != MODE:
        return about(MASK_DAMAGED, message=f"has mode {image.mode}, expected {MODE}")
    if image.size != (row.width, row.height):
        size = f"is {image.width}x{image.height}, its row says {row.width}x{row.height}"
        return about(MASK_DIFFERS, message=size)
    difference = why_different(image, row)
    if not difference and row.model in expected and palette != expected[row.model].palette:
        difference = "has other colours than the masks of its model"
    return about(MASK_DIFFERS, message=difference) if difference else None


def why_different(image: Image.Image, row: MaskRow) -> str:
    """How the pixels of a mask of the row's size differ from the row; empty if they match.

    If nothing says which value in masks each class has, each class must be found by its count.
    """
    found = image.histogram()
    if row.values is None:
        counts = sorted(filter(None, found))
        wanted = sorted(number for _, number in row.pixels if number)
        return "" if counts == wanted else f"has {counts} pixels per class, its row says {wanted}"
    expected = dict(zip(row.values, row.pixels, strict=True))
    for value, number in enumerate(found):
        name, wanted_number = expected.get(value, ("", 0))
        if number != wanted_number:
            says = f"{name} of its row is {wanted_number}" if name else "that is no class"
            return f"has {number} pixels of value {value}, but {says}"
    return ""


def count_palettes(file: str, output: str) -> Iterator[tuple[tuple[str, bytes], int]]:
    """How many masks of the rows in a readable statistics file have which palette, by model."""
    counts: dict[tuple[str, bytes], int] = defaultdict(int)
    of_file = parquet.read_rows(file, [columns.MODEL, columns.MASK])
    for model, palette in map_requests(partial(_palette_of, output=output), of_file):
        if palette:
            counts[model, palette] += 1
    yield from counts.items()


def expected_masks(
    counts: Iterable[tuple[tuple[str, bytes], int]], output: str
) -> dict[str, Expected]:
    """What the masks of each model have in common, as the model cards of an output folder say.

    A model without a card is expected to have the palette of most of its masks.

    Args:
        counts: how many masks have which palette, by model.
        output: the output folder.
    """
    expected = {
        model: Expected(palette)
        for (model, palette), _ in sorted(counts, key=lambda counted: (counted[1], counted[0]))
    }
    try:
        cards = archives.read_archives(output)
    except ArchiveError as error:
        logger.warning("%s", error)
        return expected
    for card in cards:
        palette = card.classes.palette(card.mask_values)
        expected[card.model] = Expected(palette, card.mask_values)
    return expected


def _values_of(
    model: str, expected: Mapping[str, Expected], classes: int
) -> tuple[int, ...] | None:
    values = expected[model].values if model in expected else None
    return values if values and len(values) == classes else None


def _palette_of(row: dict[str, Any], output: str) -> tuple[str, bytes]:
    """The model of a row, and the palette of its mask; empty if that cannot be read."""
    try:
        with storage.open_file(f"{output}/{row[columns.MASK]}") as file:
            return row[columns.MODEL], palette_of(file)
    except (storage.StorageError, OSError, MaskError):  # Reported by `check_mask`.
        return row[columns.MODEL], b""
