"""Suspects: photos that may have killed a process, segmented one at a time in another one.

The photos that kill do so in the other process only: this one does not have what kills them.
"""

import os
from io import BytesIO
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from PIL import Image

from models.engines import EngineOptions, Precision
from models.packages import load_package
from tests.faults.runs import KILLER, ROOT
from transforms import SegmentArchive, SegmentOptions
from transforms.flow.records import ImageRef
from transforms.inputs.listing import list_input, list_members
from transforms.output import begun, parquet
from transforms.planning.deciding import plan_new
from transforms.planning.units import make_units
from transforms.segmenting.unit import records_of


@pytest.fixture
def killing(monkeypatch):
    """Photos that end as killers do kill the processes that are started from now on."""
    monkeypatch.setenv("KILLER", KILLER.decode())
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "faults" / "killing"))


@pytest.fixture
def refs(tmp_path) -> list[ImageRef]:
    """Two photos, of which the first kills."""
    for name, ending in (("a.bmp", KILLER), ("b.bmp", b"")):
        data = BytesIO()
        level = 10 * len(ending)
        Image.fromarray(np.full((64, 96, 3), level % 256, np.uint8)).save(data, "BMP")
        path = tmp_path / "archive" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data.getvalue() + ending)
    listed = list_input(str(tmp_path / "archive"))
    return [ref for entry in listed for ref in list_members(entry) if isinstance(ref, ImageRef)]


@pytest.fixture
def package(tiny_model):
    return load_package(tiny_model)


@pytest.fixture
def options(tmp_path) -> SegmentOptions:
    return SegmentOptions(
        str(tmp_path / "out"), "run1", engine=EngineOptions(precision=Precision.F32, threads=2)
    )


def segment(refs, package, options, tmp_path: Path) -> dict[str, str]:
    """Segment as the bundle of a runner does; stage and error of the failures by image."""
    found = tmp_path / "failures.txt"

    def note(result):
        with open(found, "a") as file:
            for failure in result.failures:
                print(failure.planned.ref.image, failure.stage, failure.error, file=file)
            for done in result.segmented:
                print(done.planned.ref.image, "done", file=file)

    with beam.Pipeline(FnApiRunner()) as pipeline:
        results = pipeline | beam.Create(refs) | SegmentArchive(package, options)
        _ = results | beam.Map(note)
    return dict(line.split(" ", 1) for line in found.read_text().splitlines())


def begin(refs, package, options) -> begun.Records:
    """Leave the records of a process that died when it had begun the photos."""
    records = records_of(package, options)
    for unit in make_units(map(plan_new, refs), 128, records.model):
        records.begin(unit.unit_id, unit.images)
    return records


def test_a_unit_that_the_same_run_has_begun_before_is_done_photo_by_photo(
    refs, package, options, tmp_path, killing
):
    begin(refs, package, options)
    ended = segment(refs, package, options, tmp_path)
    assert ended == {"a.bmp": "alone ProcessKilled", "b.bmp": "done"}
    assert os.listdir(f"{options.output}/{begun.BEGUN}") == []


def test_a_photo_that_was_alone_when_two_processes_died_is_not_tried_again(
    refs, package, options, tmp_path
):
    records = begin(refs, package, options)
    killer = plan_new(refs[0])
    records.begin(records.name_alone(killer), [killer], begun.MOST_TRIES)
    ended = segment(refs, package, options, tmp_path)
    assert ended == {"a.bmp": "alone ProcessKilled", "b.bmp": "done"}
    assert os.listdir(f"{options.output}/{begun.BEGUN}") == []


def test_a_photo_that_was_alone_when_one_process_died_is_tried_again(
    refs, package, options, tmp_path
):
    records = begin(refs, package, options)
    killer = plan_new(refs[0])
    records.begin(records.name_alone(killer), [killer], begun.MOST_TRIES - 1)
    assert segment(refs, package, options, tmp_path) == {"a.bmp": "done", "b.bmp": "done"}
    files = parquet.files_in(options.output, "statistics")
    rows = [row for _, table in parquet.read_tables(files) for row in table.to_pylist()]
    assert [row["precision"] for row in rows] == ["f32", "f32"]


def test_photos_that_nobody_suspects_are_segmented_in_this_process(
    refs, package, options, tmp_path, killing
):
    assert segment(refs, package, options, tmp_path) == {"a.bmp": "done", "b.bmp": "done"}
