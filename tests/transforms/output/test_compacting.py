"""Compacting: fewer files, the same rows, whoever reads or kills meanwhile."""

import os
import random
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from transforms import storage
from transforms.output import columns, compacting
from transforms.output.compacting import Compacted, Limits, Source, pack
from transforms.output.parquet import files_in
from transforms.output.schemas import FAILURE_SCHEMA
from transforms.storage import StorageError, local

SCHEMA = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("captured_at", pa.timestamp("us")),
        pa.field("pixels_sky", pa.int64(), nullable=False),
        pa.field("confidence", pa.float64()),
    ]
)


LIMITS = Limits(rows_per_file=100, listing_seconds=0)
"""Files are full with 100 rows, and nobody lists them for long."""


def rows_of(first: int, count: int, schema: pa.Schema = SCHEMA) -> pa.Table:
    """Rows of which no two are alike, with gaps."""
    numbers = range(first, first + count)
    values = {
        "image": [f"lund/{n:05}.jpg" for n in numbers],
        "captured_at": [datetime(2024, 7, 9, 3, 25, 24, n) if n % 3 else None for n in numbers],
        "pixels_sky": [2**53 + n for n in numbers],
        "confidence": [n / 7 if n % 5 else None for n in numbers],
    }
    arrays = [pa.array(values.get(f.name, [None] * count), f.type) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def write_files(output: Path, *counts: int, folder: str = columns.STATISTICS, first: int = 0):
    """Files of so many rows each, under names as work units have them."""
    (output / folder).mkdir(parents=True, exist_ok=True)
    for number, count in enumerate(counts):
        table = rows_of(first, count)
        pq.write_table(table, output / folder / f"{number:020x}.parquet")
        first += count


def files(output: Path, folder: str = columns.STATISTICS) -> list[Path]:
    return [Path(path) for path in files_in(str(output), folder)]


def all_rows(output: Path) -> list[dict]:
    tables = [pq.ParquetFile(file).read().to_pylist() for file in files(output)]
    return sorted((row for table in tables for row in table), key=lambda row: row["image"])


def compact(output: str, limits: Limits = LIMITS) -> list[Compacted]:
    return compacting.compact(output, limits)


def compacted(output: Path, limits: Limits = LIMITS) -> Compacted:
    (statistics,) = compact(str(output), limits)
    return statistics


def snapshot(output: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below an output folder: what it is, and its content."""
    return {
        str(path.relative_to(output)): (path.stat().st_ino, path.read_bytes())
        for path in output.rglob("*")
        if path.is_file()
    }


class TestRows:
    def test_many_files_become_few_and_the_rows_stay_as_they_are(self, tmp_path):
        write_files(tmp_path, *[7] * 30)
        before = all_rows(tmp_path)
        assert compacted(tmp_path) == Compacted(columns.STATISTICS, before=30, after=3, rows=210)
        assert len(files(tmp_path)) == 3
        assert all_rows(tmp_path) == before
        assert all(pq.read_schema(file).equals(SCHEMA) for file in files(tmp_path))

    def test_the_rows_of_a_file_stay_together_in_the_order_of_the_files(self, tmp_path):
        write_files(tmp_path, 5, 5, 5)
        compact(str(tmp_path))
        (file,) = files(tmp_path)
        assert pq.ParquetFile(file).read().equals(rows_of(0, 15))

    def test_types_that_parquet_does_not_know_stay(self, tmp_path):
        schema = pa.schema(
            [
                pa.field("image", pa.large_string(), nullable=False, metadata={"of": "field"}),
                pa.field("group", pa.dictionary(pa.int8(), pa.string())),
                pa.field("arrived", pa.timestamp("s", "Europe/Berlin")),
                pa.field("nothing", pa.null()),
            ],
            metadata={"of": "table"},
        )
        (tmp_path / columns.STATISTICS).mkdir()
        table = pa.table([["a"], ["lund"], [datetime(2024, 1, 1)], [None]], schema=schema)
        for name in ("1", "2"):
            pq.write_table(table, tmp_path / columns.STATISTICS / f"{name}.parquet")
        before = pq.read_schema(files(tmp_path)[0])
        compact(str(tmp_path))
        (file,) = files(tmp_path)
        assert pq.read_schema(file).equals(before, check_metadata=True)
        assert all_rows(tmp_path) == table.to_pylist() * 2

    @pytest.mark.parametrize(
        "other",
        [
            SCHEMA.append(pa.field("camera", pa.string())),
            SCHEMA.remove(3),
            SCHEMA.set(3, pa.field("confidence", pa.float32())),
            SCHEMA.set(2, pa.field("pixels_sky", pa.int64(), nullable=True)),
            pa.schema(list(SCHEMA)[::-1]),
        ],
        ids=["one more", "one less", "other type", "may be null", "other order"],
    )
    def test_rows_of_different_columns_stay_apart(self, tmp_path, other):
        write_files(tmp_path, 2, 3)
        for name in ("8", "9"):
            pq.write_table(rows_of(50, 1, other), tmp_path / columns.STATISTICS / f"{name}.parquet")
        before = all_rows(tmp_path)
        assert compacted(tmp_path).after == 2
        schemas = [pq.read_schema(file) for file in files(tmp_path)]
        assert sorted(map(str, schemas)) == sorted([str(SCHEMA), str(other)])
        assert all_rows(tmp_path) == before

    def test_failures_are_merged_too(self, tmp_path):
        write_files(tmp_path, 1)
        (tmp_path / columns.FAILURES).mkdir()
        row = dict.fromkeys(FAILURE_SCHEMA.names, "x") | {columns.ATTEMPTS: 3}
        for name in ("1", "2"):
            pq.write_table(
                pa.Table.from_pylist([row], FAILURE_SCHEMA),
                tmp_path / columns.FAILURES / f"{name}.parquet",
            )
        statistics = snapshot(tmp_path / columns.STATISTICS)
        assert compact(str(tmp_path)) == [
            Compacted(columns.STATISTICS, 1, 1, 1),
            Compacted(columns.FAILURES, 2, 1, 2),
        ]
        (file,) = files(tmp_path, columns.FAILURES)
        assert pq.ParquetFile(file).read().to_pylist() == [row, row]
        assert snapshot(tmp_path / columns.STATISTICS) == statistics

    def test_no_row_group_takes_more_memory_than_is_set(self, tmp_path):
        write_files(tmp_path, *[5] * 8)
        limit = 8 * len(SCHEMA) * 45
        assert rows_of(0, 40).nbytes > limit
        before = all_rows(tmp_path)
        compact(str(tmp_path), replace(LIMITS, bytes_per_file=limit))
        (file,) = files(tmp_path)
        assert pq.ParquetFile(file).num_row_groups == 2
        assert all_rows(tmp_path) == before


class TestFiles:
    def test_a_large_file_gets_a_new_name_and_is_not_copied(self, tmp_path):
        write_files(tmp_path, 50, 3, 3)
        large = files(tmp_path)[0].stat().st_ino
        compact(str(tmp_path))
        inodes = {pq.read_metadata(f).num_rows: f.stat().st_ino for f in files(tmp_path)}
        assert inodes.keys() == {50, 6}
        assert inodes[50] == large

    def test_names_come_from_the_content_and_none_is_used_again(self, tmp_path):
        for name, first in (("a", 0), ("b", 0), ("c", 1)):
            write_files(tmp_path / name, 60, 3, 3, first=first)
        before = {file.name for file in files(tmp_path / "a")}
        names = {}
        for name in ("a", "b", "c"):
            compact(str(tmp_path / name))
            names[name] = {file.name for file in files(tmp_path / name)}
        assert names["a"] == names["b"]
        assert not names["a"] & names["c"] and not names["a"] & before
        assert all(name.startswith(compacting.PREFIX) for name in names["a"])

    def test_nothing_to_merge_changes_nothing(self, tmp_path):
        write_files(tmp_path, 99, 50, 3)
        before = snapshot(tmp_path)
        assert compacted(tmp_path) == Compacted(columns.STATISTICS, 3, 3, 152)
        assert snapshot(tmp_path) == before

    def test_new_files_are_merged_to_what_was_left_over(self, tmp_path):
        write_files(tmp_path, *[30] * 4)
        assert compacted(tmp_path).after == 2
        write_files(tmp_path, 2, 2, first=200)
        assert compacted(tmp_path) == Compacted(columns.STATISTICS, 4, 2, 124)
        assert sorted(pq.read_metadata(f).num_rows for f in files(tmp_path)) == [34, 90]

    def test_what_else_is_in_the_folder_stays_there(self, tmp_path):
        write_files(tmp_path, 1, 1)
        folder = tmp_path / columns.STATISTICS
        for name in ("notes.txt", ".hidden.parquet"):
            (folder / name).write_text(name)
        folder.chmod(0o750)
        compact(str(tmp_path))
        assert (folder / "notes.txt").read_text() == "notes.txt"
        assert (folder / ".hidden.parquet").exists() and len(files(tmp_path)) == 1
        assert folder.stat().st_mode & 0o777 == 0o750

    def test_nothing_is_left_unfinished(self, tmp_path):
        write_files(tmp_path, 1, 1)
        compact(str(tmp_path))
        assert os.listdir(tmp_path / storage.UNFINISHED) == []


class TestPacking:
    @staticmethod
    def sources(*counts: int, schema: pa.Schema = SCHEMA) -> list[Source]:
        serialized = schema.serialize().to_pybytes()
        return [Source(str(number), count, serialized) for number, count in enumerate(counts)]

    @staticmethod
    def sizes(packs) -> list[int]:
        return [sum(source.rows for source in sources) for sources in packs]

    @pytest.mark.parametrize("seed", range(20))
    def test_packs_are_full_but_for_one_and_packing_again_changes_nothing(self, seed):
        counts = random.Random(seed).choices(range(0, 120), k=200)
        once = self.sizes(pack(self.sources(*counts), LIMITS))
        assert sum(once) == sum(counts)
        assert max(size for size in once) < 120
        assert sum(size < 50 for size in once) <= 1
        random.Random(seed).shuffle(once)
        assert sorted(self.sizes(pack(self.sources(*once), LIMITS))) == sorted(once)

    def test_files_of_very_many_columns_have_fewer_rows(self):
        limits = replace(LIMITS, bytes_per_file=8 * 4 * 10)
        assert self.sizes(pack(self.sources(*[4] * 5), limits)) == [8, 8, 4]
        wide = pa.schema([pa.field(str(number), pa.int64()) for number in range(8)])
        assert self.sizes(pack(self.sources(*[2] * 5, schema=wide), limits)) == [4, 4, 2]


class TestRefusals:
    def refused(self, output: Path, match: str) -> None:
        """It is refused, and every file is the one it was."""
        before = snapshot(output)
        with pytest.raises(StorageError, match=match):
            compact(str(output))
        assert snapshot(output) == before
        assert os.listdir(output / storage.WORK_FOLDER / "unfinished") == []

    @pytest.fixture
    def output(self, tmp_path) -> Path:
        write_files(tmp_path, 20, 20, 60)
        (tmp_path / storage.UNFINISHED).mkdir(parents=True)
        return tmp_path

    @pytest.mark.parametrize("content", [b"", b"PAR1", b"not Parquet at all"])
    def test_a_damaged_file_is_named_and_the_way_to_look_closer(self, output, content):
        (output / columns.STATISTICS / "damaged.parquet").write_bytes(content)
        self.refused(output, r"damaged\.parquet: cannot be read \(.+\); `citymask verify /.+`")

    def test_a_file_whose_end_is_missing_is_named(self, output):
        file = files(output)[1]
        file.write_bytes(file.read_bytes()[:-20])
        self.refused(output, f"{file.name}: cannot be read")

    def test_a_file_that_is_damaged_inside_is_named(self, output):
        file = files(output)[1]
        data = bytearray(file.read_bytes())
        data[4:200] = b"\xff" * 196
        file.write_bytes(data)
        self.refused(output, f"{file.name}: cannot be read")

    def test_a_file_system_that_cannot_exchange_folders(self, output, monkeypatch):
        monkeypatch.setattr(local, "RENAME_EXCHANGE", 1 << 30)
        self.refused(output, "this file system cannot exchange two folders: Invalid argument")

    def test_a_folder_among_the_rows(self, output):
        (output / columns.STATISTICS / "old").mkdir()
        self.refused(output, "old: a folder among the rows")

    def test_a_link_in_place_of_the_folder(self, output, tmp_path_factory):
        elsewhere = tmp_path_factory.mktemp("elsewhere") / "statistics"
        shutil.move(output / columns.STATISTICS, elsewhere)
        (output / columns.STATISTICS).symlink_to(elsewhere)
        self.refused(output, "statistics: a link")
        assert len(files(output)) == 3


def images_by_pyarrow(folder: Path) -> list[str]:
    return ds.dataset(folder, format="parquet").to_table(["image"])["image"].to_pylist()


def images_by_duckdb(folder: Path) -> list[str]:
    with duckdb.connect() as connection:
        return [row[0] for row in connection.sql(f"FROM '{folder}/*.parquet'").fetchall()]


def missing(error: Exception) -> bool:
    """Whether an error says that files are gone: not a wrong answer, but none."""
    no_columns = isinstance(error, pa.ArrowInvalid) and "No match for FieldRef" in str(error)
    return isinstance(error, FileNotFoundError | duckdb.IOException) or no_columns


class TestReaders:
    def test_who_has_listed_the_old_files_is_told_that_they_are_gone(self, tmp_path):
        write_files(tmp_path, 60, 5, 5)
        folder = tmp_path / columns.STATISTICS
        listed = ds.dataset(folder, format="parquet")
        paths = files(tmp_path)
        with duckdb.connect() as connection:
            relation = connection.sql(f"FROM read_parquet({[str(path) for path in paths]})")
            compact(str(tmp_path))
            with pytest.raises(FileNotFoundError):
                listed.to_table()
            with pytest.raises(duckdb.IOException):
                relation.fetchall()
        for path in paths:
            assert not path.exists()

    @pytest.mark.parametrize("read", [images_by_pyarrow, images_by_duckdb])
    def test_who_reads_meanwhile_finds_every_row_once(self, tmp_path, read):
        limits = replace(LIMITS, listing_seconds=0.2)
        rounds, parts = 6, [60] + [2] * 60
        expected = [f"lund/{number:05}.jpg" for number in range(sum(parts))]
        output, spare = tmp_path / "out", tmp_path / "spare"
        write_files(output, *parts)
        folder = output / columns.STATISTICS
        wrong: list[object] = []
        answers = []
        ended = threading.Event()

        def read_on() -> None:
            while not ended.is_set():
                try:
                    images = read(folder)
                except Exception as error:
                    if not missing(error):
                        wrong.append(error)
                    continue
                answers.append(len(images))
                if sorted(images) != expected:
                    wrong.append(len(images))

        readers = [threading.Thread(target=read_on) for _ in range(2)]
        for reader in readers:
            reader.start()
        try:
            for _ in range(rounds):
                assert compacted(output, limits).after == 3
                write_files(spare, *parts)
                local.exchange(str(spare / columns.STATISTICS), str(folder))
                threading.Event().wait(0.2)
                shutil.rmtree(spare)
        finally:
            ended.set()
            for reader in readers:
                reader.join()
        assert wrong == []
        assert len(answers) > rounds


KILLED = """
import os, shutil, signal, sys
from transforms.output import compacting

template, outputs, moments = sys.argv[1], sys.argv[2], int(sys.argv[3])
limits = compacting.Limits(rows_per_file=100, listing_seconds=0)


def compact(output, ends_at=None):
    "In a process of its own, which kills itself as it begins its call number `ends_at`."
    shutil.copytree(template, output)
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")
        if calls == ends_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    compacting.compact(output, limits)
    sys.setprofile(None)
    with open(outputs + "/calls", "w") as file:
        file.write(str(calls))
    os._exit(0)


assert compact(outputs + "/whole") == 0
calls = int(open(outputs + "/calls").read())
for moment in range(moments):
    status = compact(f"{outputs}/{moment:03}", 1 + moment * (calls - 1) // moments)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
"""


class TestKilled:
    MOMENTS = 100

    @pytest.fixture(scope="class")
    def outputs(self, tmp_path_factory) -> list[Path]:
        """Output folders of compactions that were killed, each a little later."""
        template = tmp_path_factory.mktemp("template")
        folder = tmp_path_factory.mktemp("killed")
        write_files(template, 60, 4, 4, 4)
        write_files(template, 1, 1, folder=columns.FAILURES)
        arguments = [str(template), str(folder), str(self.MOMENTS)]
        subprocess.run([sys.executable, "-c", KILLED, *arguments], check=True)
        return sorted(folder.glob("[0-9]*"))

    def test_the_rows_are_the_same_and_the_next_compaction_does_the_rest(self, outputs):
        assert len(outputs) == self.MOMENTS
        expected = rows_of(0, 72)
        found = set()
        for output in outputs:
            for folder in (columns.STATISTICS, columns.FAILURES):
                found.add((folder, len(files(output, folder))))
            table = pa.concat_tables(pq.ParquetFile(f).read() for f in files(output))
            assert table.sort_by("image").equals(expected)
            compact(str(output))
            assert sorted(os.listdir(output / storage.UNFINISHED)) == []
        assert found == {("statistics", 4), ("statistics", 2), ("failures", 2), ("failures", 1)}
