"""Verifying: whether the files of an output folder are whole, and its masks are what the rows say.

What is wrong is a result, a `Finding` each, and everything is looked at. Only names and findings
are shuffled, never pixels.
"""

import json
import os
import re
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindows
from PIL import Image

from models.packages import load_package, shipped_names
from transforms import columns, names, rows, storage
from transforms.findings import (
    FILE_UNREADABLE,
    MASK_DAMAGED,
    MASK_DIFFERS,
    MASK_MISSING,
    MASK_ORPHAN,
    ROW_DOUBLED,
    ROW_WRONG,
    Finding,
    write_findings,
)
from transforms.planning import BLOCK_SIZE, NAME_BUCKETS
from transforms.records import Block

COUNTERS = "citymask.verifying"
"""Namespace of the Beam counters of these steps: `MASKS`, and `ROWS_OF` and the model."""

MASKS = "masks"
ROWS_OF = "rows: "

LABEL_IDS = "+label_ids"
"""Ending of the `model_id` where masks hold label ids; see `ModelPackage.model_id`."""

MASK_ENDING = ".png"

READABLE = "readable"
FINDINGS = "findings"
DOUBLED = "doubled"
FILES = "files"
ROWS = "rows"

_IDENTITY = (columns.IMAGE, columns.MASK, columns.MODEL, columns.RUN_ID)
REQUIRED = {
    columns.STATISTICS: {
        **dict.fromkeys((*_IDENTITY, columns.URI, columns.VERSION, columns.GROUP), pa.string()),
        columns.WIDTH: pa.int64(),
        columns.HEIGHT: pa.int64(),
    },
    columns.FAILURES: {field.name: field.type for field in rows.FAILURE_SCHEMA},
}
"""Columns that a run cannot do without, by folder."""

_MASK_FOLDER = re.compile(rf"{columns.MASKS}(-.+@[0-9a-f]{{12}}({re.escape(LABEL_IDS)})?)?")
"""Folders that runs give to masks. What else begins with `masks-` is the user's own."""

_SHARED_BYTES = 200
"""Names that are cut for being too long still share this much."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class NamedRow:
    """What is joined of a row: of what it is, its mask, and where it stands.

    Attributes:
        image, model, run_id, mask: as in the columns.
        file: path of the statistics file.
        position: of the row in the file, from 0.
    """

    image: str
    model: str
    run_id: str
    mask: str
    file: str
    position: int


@dataclass(frozen=True)
class MaskRow:
    """What a mask is compared with.

    Attributes:
        image, model, run_id, mask, width, height: as in the columns.
        pixels: the columns of pixels per class with their values, in the order of the class ids.
    """

    image: str
    model: str
    run_id: str
    mask: str
    width: int
    height: int
    pixels: tuple[tuple[str, int], ...]

    def finding(self, kind: str, path: str, version: str, message: str) -> Finding:
        """A finding about this row."""
        return Finding(kind, path, version, self.image, self.model, self.run_id, message)


def why_unreadable(file: str, required: dict[str, pa.DataType]) -> str:
    """Why a Parquet file cannot be read as rows with some columns; empty where it can.

    Every column is read, and no row may lack what says of which image, model and run it is.

    Args:
        file: path of the file.
        required: columns and what they can be cast to.
    """
    try:
        parquet = pq.ParquetFile(file)
        missing = required.keys() - set(parquet.schema_arrow.names)
        if missing:
            return f"without the column {', '.join(sorted(missing))}"
        for batch in parquet.iter_batches():
            batch.validate(full=True)
            for name, arrow_type in required.items():
                column = batch.column(name).cast(arrow_type)
                if name in _IDENTITY and column.null_count:
                    return f"{column.null_count} rows without {name}"
    except Exception as error:  # pyarrow raises what it likes on damaged files.
        return names.printable(str(error).partition("\n")[0]) or type(error).__name__
    return ""


def named_rows(file: str) -> Iterator[NamedRow]:
    """The rows of a readable statistics file."""
    for position, row in enumerate(_read(file, _IDENTITY)):
        yield NamedRow(file=file, position=position, **row)


def mask_folders(output: str) -> list[str]:
    """The folders of masks in an output folder."""
    return sorted(filter(_MASK_FOLDER.fullmatch, os.listdir(output)))


def mask_files(output: str) -> Iterator[str]:
    """Paths below `output` of the masks, overlays and confidence images in its mask folders.

    Links to folders are not followed: what is found here may be removed. Nor are names given that
    are not UTF-8, since citymask makes none.
    """
    for mask_folder in mask_folders(output):
        for folder, _, files in os.walk(os.path.join(output, mask_folder)):
            for name in files:
                path = os.path.relpath(os.path.join(folder, name), output)
                if name.endswith((MASK_ENDING, names.OVERLAY_ENDING)) and _is_text(path):
                    yield path


def doubled_rows(of_names: Iterable[NamedRow]) -> list[NamedRow]:
    """The rows whose image has a row of the same model that stands: as in planning, the newest."""
    standing: dict[tuple[str, str], NamedRow] = {}
    doubled = []
    for row in sorted(of_names, key=lambda row: (row.run_id, row.file, -row.position))[::-1]:
        if standing.setdefault((row.image, row.model), row) is not row:
            doubled.append(row)
    return doubled


def orphans(files: Iterable[str], masks: Iterable[str]) -> list[str]:
    """The files that are none of the masks, and stand beside none of them.

    Names that differ in case only are taken for one, as they are on some file systems.
    """
    known = {
        path.casefold()
        for mask in masks
        for path in (mask, names.overlay_path(mask), names.confidence_path(mask))
    }
    return sorted(path for path in files if path.casefold() not in known)


def shared_name(path: str) -> str:
    """What the path of a mask has in common with those of what stands beside it.

    That is the name of the image, up to where `transforms.names` may have put a hash.
    """
    folder, _, name = path.partition("/")[2].casefold().rpartition("/")
    for ending in (names.OVERLAY_ENDING, names.CONFIDENCE_ENDING, MASK_ENDING):
        if name.endswith(ending):
            name = name.removesuffix(ending)
            break
    name = name.partition("~")[0].encode()[:_SHARED_BYTES].decode(errors="ignore")
    return f"{folder}/{name}"


def count_palettes(file: str, output: str) -> Iterator[tuple[tuple[str, bytes], int]]:
    """How many masks of the rows in a readable statistics file have which palette, by model."""
    counts: dict[tuple[str, bytes], int] = defaultdict(int)
    for row in _read(file, [columns.MODEL, columns.MASK]):
        palette = _palette_of(os.path.join(output, row[columns.MASK]))
        if palette:
            counts[row[columns.MODEL], palette] += 1
    yield from counts.items()


def expected_palettes(counts: Iterable[tuple[tuple[str, bytes], int]]) -> dict[str, bytes]:
    """The palette of each model: that of most of its masks, or what a shipped model says."""
    expected = {
        model: palette
        for (model, palette), _ in sorted(counts, key=lambda counted: (counted[1], counted[0]))
    }
    for name in shipped_names():
        for label_ids in (False, True):
            package = replace(load_package(name), label_ids=label_ids)
            expected[package.model_id] = package.palette
    return expected


def why_wrong(row: dict[str, Any], pixels: Sequence[str]) -> str:
    """What is wrong with a row in itself; empty where nothing is.

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


def why_different(image: Image.Image, row: MaskRow) -> str:
    """How the pixels of a mask of the row's size differ from the row; empty where they do not.

    A mask's values are the positions of the classes. Where the row's model says that they are label
    ids, the row does not say which: then each class must be found by its count.
    """
    found, expected = image.histogram(), dict(enumerate(row.pixels))
    if row.model.endswith(LABEL_IDS):
        counts = sorted(filter(None, found))
        wanted = sorted(number for _, number in row.pixels if number)
        return "" if counts == wanted else f"has {counts} pixels per class, its row says {wanted}"
    for value, number in enumerate(found):
        name, wanted_number = expected.get(value, ("", 0))
        if number != wanted_number:
            says = f"{name} of its row is {wanted_number}" if name else "that is no class"
            return f"has {number} pixels of value {value}, but {says}"
    return ""


def check_mask(row: MaskRow, output: str, palettes: dict[str, bytes]) -> Finding | None:
    """Compare the mask of a row with the row; None where it is whole.

    Args:
        row: a row that is right in itself.
        output: the output folder.
        palettes: the palette of each model.
    """
    file = storage.find(os.path.join(output, row.mask))
    if file.size < 0:
        return row.finding(MASK_MISSING, row.mask, "", "there is no such file")
    about = partial(row.finding, path=row.mask, version=file.version)
    try:
        data = storage.read(file.path)
        check_chunks(data)
        with Image.open(BytesIO(data), formats=("PNG",)) as image:
            if image.mode != "P":
                return about(MASK_DAMAGED, message=f"has mode {image.mode}, expected P")
            palette = _palette(image)
            if image.size != (row.width, row.height):
                size = f"is {image.width}x{image.height}, its row says {row.width}x{row.height}"
                return about(MASK_DIFFERS, message=size)
            image.load()
            difference = why_different(image, row)
    except Exception as error:  # Pillow raises what it likes on damaged files.
        return about(MASK_DAMAGED, message=names.printable(str(error)) or type(error).__name__)
    if not difference and palette != palettes.get(row.model, palette):
        difference = "has other colours than the masks of its model"
    return about(MASK_DIFFERS, message=difference) if difference else None


def check_chunks(data: bytes) -> None:
    """Check the frame of a PNG and the checksums of all its chunks, which Pillow does not.

    Raises:
        ValueError: no PNG, cut short or damaged; the message does not name the file.
    """
    if not data.startswith(_PNG_SIGNATURE):
        raise ValueError(f"no PNG image: {len(data)} bytes that start with {data[:8]!r}")
    position, kind = len(_PNG_SIGNATURE), b""
    while kind != b"IEND":
        if position + 12 > len(data):
            raise ValueError(f"cut short: ends after {len(data)} bytes, within the image")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise ValueError(
                f"cut short or damaged: {end} bytes expected, the file ends after {len(data)}"
            )
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != int.from_bytes(
            data[end - 4 : end], "big"
        ):
            raise ValueError(f"damaged: wrong checksum of the chunk at byte {position}")
        position = end
    if position != len(data):
        raise ValueError(f"damaged: {len(data) - position} bytes after the end of the image")


def check_file(
    file: str, output: str, doubled: set[int], palettes: dict[str, bytes]
) -> Iterator[Finding | None]:
    """Check the rows of a readable statistics file and their masks: a finding or None for each.

    Args:
        file: path of the statistics file.
        output: the output folder.
        doubled: positions of rows that are not looked at.
        palettes: the palette of each model.
    """
    pixels = class_columns(pq.read_schema(file))
    path, version = os.path.relpath(file, output), storage.find(file).version
    with ThreadPoolExecutor(os.cpu_count(), "verify") as pool:
        waiting: list[MaskRow] = []
        for position, row in enumerate(_read(file, [*REQUIRED[columns.STATISTICS], *pixels])):
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
            )
            problem = why_wrong(row, pixels)
            if problem:
                yield mask_row.finding(ROW_WRONG, path, version, problem)
                continue
            waiting.append(mask_row)
            if len(waiting) == BLOCK_SIZE:
                yield from pool.map(partial(check_mask, output=output, palettes=palettes), waiting)
                waiting.clear()
        yield from pool.map(partial(check_mask, output=output, palettes=palettes), waiting)


def class_columns(schema: pa.Schema) -> list[str]:
    """The columns of pixels per class, in the order of the class ids.

    They stand before the group; a column of that prefix behind it is one of the manifest's.
    """
    own = schema.names[: schema.names.index(columns.GROUP)]
    return [name for name in own if name.startswith(columns.PIXELS_PREFIX)]


def settle(findings: Sequence[Finding], output: str) -> None:
    """Write what was found; raises StorageError where that is impossible.

    While rows cannot be read, nobody knows which files belong to no row, and none is said to.
    """
    rows_unknown = any(
        finding.kind == FILE_UNREADABLE and finding.path.startswith(f"{columns.STATISTICS}/")
        for finding in findings
    )
    kept = (f for f in findings if not (rows_unknown and f.kind == MASK_ORPHAN))
    write_findings(output, kept)


def summary_note(output: str, rows_of_models: dict[str, int]) -> str:
    """A line that says that the summary differs from the rows; empty where it does not.

    The summary does not name its model: it is that of the newest run record.
    """
    try:
        newest = max(Path(output, columns.RUNS).glob("*.json"))
        model = json.loads(newest.read_text("utf-8"))["model"]
        summary = json.loads(Path(output, columns.SUMMARY_JSON).read_text("utf-8"))
        done, found = summary["images"]["done"], rows_of_models.get(model, 0)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    if done == found:
        return ""
    return (
        f"{columns.SUMMARY_JSON} counts {done} images of {model}, there are {found} rows of them; "
        "the next run writes it anew"
    )


@dataclass
class VerifyOutput(beam.PTransform):
    """Looks for everything that is wrong in an output folder: a pipeline -> PCollection[Finding].

    Nobody may write there meanwhile.

    Attributes:
        output: the output folder.
    """

    output: str

    def expand(self, start: beam.pvalue.PBegin) -> beam.PCollection[Finding]:
        output = start.pipeline | "Output" >> beam.Create([self.output])
        statistics, unreadable = self._readable(output, columns.STATISTICS)
        _, unreadable_failures = self._readable(output, columns.FAILURES)
        palettes = (
            statistics
            | "CountPalettes" >> beam.FlatMap(count_palettes, self.output)
            | "AddUpPalettes" >> beam.CombinePerKey(sum)
            | "Palettes" >> beam.combiners.ToList()
            | "ExpectedPalettes" >> beam.Map(expected_palettes)
        )
        named = (
            statistics
            | "NameRows" >> beam.FlatMap(_named_rows).with_output_types(NamedRow)
            | "BlockRows" >> beam.ParDo(_Block())
        )
        files = (
            output | "FindMasks" >> beam.FlatMap(mask_files) | "BlockMasks" >> beam.ParDo(_Block())
        )
        joined = (
            {ROWS: named, FILES: files}
            | "JoinByName" >> beam.CoGroupByKey()
            | "Compare" >> beam.ParDo(_Compare(self.output)).with_outputs(DOUBLED, main=FINDINGS)
        )
        checked = (
            {FILES: statistics | "Files" >> beam.Map(_with_nothing), DOUBLED: joined[DOUBLED]}
            | "JoinByFile" >> beam.CoGroupByKey()
            | "CheckMasks"
            >> beam.FlatMap(_check_file, self.output, beam.pvalue.AsSingleton(palettes))
        )
        return (unreadable, unreadable_failures, joined[FINDINGS], checked) | beam.Flatten()

    def _readable(self, output: beam.PCollection[str], folder: str):
        """The Parquet files of a folder that can be read, and findings of the others."""
        found = (
            output
            | f"Find_{folder}" >> beam.FlatMap(rows.parquet_files, folder)
            | f"Spread_{folder}" >> beam.Reshuffle()
            | f"Read_{folder}"
            >> beam.FlatMap(_try_file, self.output, folder).with_outputs(FINDINGS, main=READABLE)
        )
        return found[READABLE], found[FINDINGS]


class _Block(beam.DoFn):
    """Gathers rows or paths of files into blocks: T -> (bucket of the name, Block of T)."""

    def start_bundle(self):
        self._blocks = defaultdict(list)

    def process(self, item: NamedRow | str) -> Iterator[tuple[int, Block]]:
        path = item if isinstance(item, str) else item.mask
        bucket = zlib.crc32(shared_name(path).encode()) % NAME_BUCKETS
        block = self._blocks[bucket]
        block.append(item)
        if len(block) == BLOCK_SIZE:
            yield bucket, Block(tuple(self._blocks.pop(bucket)))

    def finish_bundle(self):
        for bucket, items in self._blocks.items():
            yield GlobalWindows.windowed_value((bucket, Block(tuple(items))))
        del self._blocks


class _Compare(beam.DoFn):
    """Finds doubled rows and orphans among the rows and files of a bucket."""

    def __init__(self, output: str):
        self._output = output

    def process(self, element):
        _, joined = element
        of_bucket = [row for block in joined[ROWS] for row in block.items]
        files = (path for block in joined[FILES] for path in block.items)
        for path in orphans(files, (row.mask for row in of_bucket)):
            version = storage.find(os.path.join(self._output, path)).version
            message = "no row names it, nor the mask that it stands beside"
            yield Finding(MASK_ORPHAN, path, version, "", "", "", message)
        for row in doubled_rows(of_bucket):
            yield beam.pvalue.TaggedOutput(DOUBLED, (row.file, row.position))
            yield Finding(
                ROW_DOUBLED,
                os.path.relpath(row.file, self._output),
                storage.find(row.file).version,
                row.image,
                row.model,
                row.run_id,
                "another row of the image stands, as new or newer",
            )


def _try_file(file: str, output: str, folder: str) -> Iterator[Any]:
    reason = why_unreadable(file, REQUIRED[folder])
    if reason:
        path, version = os.path.relpath(file, output), storage.find(file).version
        finding = Finding(FILE_UNREADABLE, path, version, "", "", "", reason)
        yield beam.pvalue.TaggedOutput(FINDINGS, finding)
    else:
        yield file


def _named_rows(file: str) -> Iterator[NamedRow]:
    for row in named_rows(file):
        Metrics.counter(COUNTERS, ROWS_OF + row.model).inc()
        yield row


def _with_nothing(file: str) -> tuple[str, None]:
    return file, None


def _check_file(
    joined: tuple[str, dict[str, Iterable[Any]]], output: str, palettes: dict[str, bytes]
) -> Iterator[Finding]:
    file, sides = joined
    for finding in check_file(file, output, set(sides[DOUBLED]), palettes):
        if finding is None:
            Metrics.counter(COUNTERS, MASKS).inc()
        else:
            yield finding


def _read(file: str, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, with some of their columns, without holding all of them."""
    for batch in pq.ParquetFile(file).iter_batches(BLOCK_SIZE, columns=list(wanted)):
        yield from batch.to_pylist()


def _palette_of(path: str) -> bytes:
    """The palette of a mask, from its header; empty where it has none or cannot be read."""
    if not os.path.isfile(path):
        return b""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return _palette(image)
    except Exception:  # Told by `check_mask`.
        return b""


def _palette(image: Image.Image) -> bytes:
    """The palette of an image that is open but not loaded yet."""
    return bytes(image.palette.palette) if image.palette else b""


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
