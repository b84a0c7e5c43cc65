"""Run records and the summary: read back, also those of older and newer versions."""

import json
import logging

import pytest

from transforms.output.run_records import FORMAT, RunRecord, read_records, write_record
from transforms.output.summary import read_summary
from transforms.storage import StorageError


def document(day: int, **more) -> dict:
    """A record of November as it stands in its file."""
    return {
        "run_id": f"202611{day:02}T010000Z-{day:06x}",
        "started_at": f"2026-11-{day:02}T01:00:00+00:00",
        **more,
    }


@pytest.fixture
def store(tmp_path):
    """Writes run records into an output folder."""

    def of(*records: dict):
        (tmp_path / "runs").mkdir(exist_ok=True)
        for record in records:
            (tmp_path / "runs" / f"{record['run_id']}.json").write_text(json.dumps(record))
        return str(tmp_path)

    return of


def test_records_are_read_oldest_first(store):
    records = read_records(store(*[document(day) for day in (9, 2, 30)]))
    assert [record.started_at[8:10] for record in records] == ["02", "09", "30"]


def test_an_output_folder_without_records_has_none(tmp_path):
    assert read_records(str(tmp_path)) == []


@pytest.mark.parametrize(
    "content",
    [b"", b'{"run_id"', b"[1]", b"{}", b'{"run_id": 3}', b"\xff",
     b'{"run_id": "a", "started_at": "b", "images": {"done": "many"}}'],
)  # fmt: skip
def test_a_record_that_cannot_be_read_is_passed_over_with_a_warning(store, caplog, content):
    output = store(document(1))
    with open(f"{output}/runs/damaged.json", "wb") as file:
        file.write(content)
    with caplog.at_level(logging.WARNING, "transforms"):
        assert len(read_records(output)) == 1
    assert f"{output}/runs/damaged.json" in caplog.text


def test_a_record_of_an_older_version_has_defaults_for_what_it_lacks(store):
    (record,) = read_records(store(document(1, images={"done": 4})))
    assert (record.format, record.images, record.pixels) == (FORMAT, {"done": 4}, {})
    assert (record.model, record.comparison, record.seconds) == ("", None, 0.0)


def test_a_record_of_a_newer_version_is_read_and_its_unknown_fields_are_kept(store, caplog):
    newer = document(1, format=FORMAT + 1, images={"done": 4}, weather={"rain": True})
    with caplog.at_level(logging.INFO, "transforms"):
        (record,) = read_records(store(newer))
    assert record.images == {"done": 4}
    assert json.loads(record.to_json())["weather"] == {"rain": True}
    assert f"format {FORMAT + 1} of a newer version" in caplog.text


def test_a_record_is_written_under_its_run_and_read_back(tmp_path):
    given = document(1, options={"output": str(tmp_path), "inputs": ["/srv/K\udcf6ln"]})
    record = RunRecord.model_validate(given)
    write_record(record)
    assert read_records(str(tmp_path)) == [record]
    (file,) = (tmp_path / "runs").iterdir()
    assert file.name == f"{record.run_id}.json"
    assert "comparison" not in json.loads(file.read_text())


@pytest.mark.parametrize(
    ("started_at", "offset"),
    [("2026-11-01T01:00:00+02:00", 2), ("2026-11-01T01:00:00", 0), ("yesterday", None)],
)
def test_a_record_says_when_its_run_began(started_at, offset):
    began = RunRecord(run_id="r", started_at=started_at).began
    assert (began and began.utcoffset().total_seconds() / 3600) == offset


def test_a_summary_of_a_newer_version_is_read(tmp_path):
    entries = [{"name": "Sky", "pixels": 7, "fraction": 1.0, "images": 1, "hue": "blue"}]
    images = {"done": 1, "failed": 0, "skipped": 0, "lost": 0}
    written = {"images": images, "classes": entries, "groups": {}, "format": 9}
    (tmp_path / "summary.json").write_text(json.dumps(written))
    summary = read_summary(str(tmp_path))
    assert [(entry.name, entry.pixels) for entry in summary.classes] == [("Sky", 7)]
    assert summary.to_document() == written


@pytest.mark.parametrize("text", ["", "[]", '{"classes": 1}', '{"images": {}, "classes": [1]}'])
def test_what_is_not_a_summary_is_named(tmp_path, text):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(StorageError, match=r"summary\.json: not a summary"):
        read_summary(str(tmp_path))
