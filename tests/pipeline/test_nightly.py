"""Every night: the same file, an archive that grows, and what is said of it in the morning."""

import json
import os
from datetime import datetime, timezone

import pytest
import yaml

from pipeline.runs.request import locked


@pytest.fixture
def night(citymask, tmp_path, archive, output, tiny_model):
    """A function that runs a night with further keys and options and expects an exit code."""

    def night(*options, code=0, **keys):
        config = tmp_path / "nightly.yaml"
        defaults = {"inputs": ["archive"], "output": "out", "model": str(tiny_model)}
        config.write_text(yaml.safe_dump({**defaults, **keys}))
        result = citymask("nightly", config, *options)
        assert result.exit_code == code, result.output
        return result

    return night


def test_a_night_does_what_is_new_and_compares_it_with_those_before(
    night, output, archive, make_photo
):
    first = night()
    assert "4 images done" in first.stdout
    make_photo(archive / "lund" / "4.jpg", seed=3)
    second = night()
    assert "1 images done" in second.stdout and "4 skipped" in second.stdout
    comparison = output.runs[-1]["comparison"]
    assert comparison["images"]["done"] == {"tonight": 1, "usual": 4.0}
    shares = [entry["archive"] for entry in comparison["classes"]]
    assert sum(shares) == pytest.approx(1)


def test_a_class_that_drifts_raises_an_alarm_and_exit_code_3(night, output, archive, make_photo):
    thresholds = {"drift": "0%", "drift_images": 1}
    night(thresholds=thresholds)
    make_photo(archive / "lund" / "4.jpg", seed=99, width=200)
    result = night("--quiet", thresholds=thresholds, code=3)
    assert "Alarm: " in result.stderr and "of the pixels tonight" in result.stderr
    assert result.stdout == ""
    assert output.runs[-1]["comparison"]["alarms"]
    night(thresholds=thresholds)  # Nothing new, nothing to compare.


def test_too_many_failures_end_with_exit_code_3_and_are_named(night, output, archive):
    (archive / "lund" / "bad.jpg").write_bytes(b"no photo")
    result = night(thresholds={"max_failures": "5%"}, code=3)
    assert "1 images failed, 20.0% of all" in result.stderr
    (kind,) = output.runs[0]["worst_failures"]
    assert (kind["stage"], kind["failures"], kind["image"]) == ("decode", 1, "lund/bad.jpg")


def test_who_is_to_be_told_is_told(night, output, tmp_path):
    told = tmp_path / "told.json"
    script = f'cat > "{told}"; test "$CITYMASK_EXIT_CODE" = 0'
    night(notify={"command": ["sh", "-c", script]})
    assert json.loads(told.read_text())["run_id"] == output.runs[0]["run_id"]
    result = night(
        notify={"command": ["sh", "-c", "echo no line to the pager >&2; exit 7"]}, code=1
    )
    assert "ended with exit code 7: no line to the pager" in result.stderr


def test_limits_leave_the_rest_for_the_next_night(night, output):
    night(limits={"max_images": 2})
    assert len(output.rows) == 2
    night(limits={"max_images": 2})
    assert len(output.rows) == 4


def test_days_are_those_that_the_file_says(night, output, archive):
    moment = datetime(2026, 11, 2, 12, tzinfo=timezone.utc).timestamp()
    os.utime(archive / "lund" / "1.jpg", (moment, moment))
    night("--date", "2026-11-02")
    night("--date", "2026-11-02")
    assert list(output.rows.index) == ["lund/1.jpg"]
    night("--date", "2026-11-02", dates={"by": "capture"})
    assert len(output.rows) == 1


def test_old_records_go_but_the_newest_stay(night, output):
    night()
    (path,) = (output.path / "runs").glob("*.json")
    record = {**json.loads(path.read_text()), "started_at": "2020-01-01T00:00:00+00:00"}
    path.write_text(json.dumps(record))
    night(retention={"runs": 30})
    assert [record["started_at"][:4] for record in output.runs] != ["2020"]
    assert len(output.runs) == 1


def test_options_of_beam_go_before_those_of_the_file(night, output):
    night("--direct_num_workers", 2, beam={"direct_num_workers": 1, "job_name": "tonight"})
    options = output.runs[0]["options"]["beam"]
    assert options == {"direct_num_workers": 2, "job_name": "tonight"}


def test_a_dry_run_writes_nothing(night, output):
    assert "A run would do 4 of 4 images" in night("--dry-run").stdout
    assert not output.path.exists()


def test_a_wrong_file_is_refused_with_all_that_is_wrong(night, output, tmp_path):
    result = night(limit={"max_images": 2}, model=3, code=2)
    assert result.stderr.count(f"{tmp_path / 'nightly.yaml'}:") == 2
    assert "did you mean limits?" in result.stderr
    assert not output.path.exists()


def test_two_nights_never_overlap(night, output):
    with locked(str(output.path), "the night before"):
        assert "run the night before" in night(code=4).stderr
