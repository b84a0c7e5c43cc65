"""Engines, workers and windows from the command line: the same results, another way to them."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from models.inputs import network_shape
from models.packages import load_package


@pytest.fixture
def photos(make_photo, tmp_path):
    for number in range(7):
        make_photo(tmp_path / "photos" / f"{number}.jpg", 160 + number, 120, seed=number)
    return tmp_path / "photos"


@pytest.fixture
def run(citymask, photos, tiny_model):
    """A function that segments the photos into a folder."""

    def run_to(out, *options):
        done = citymask("run", photos, "-o", out.path, "--model", tiny_model, *options)
        assert done.exit_code == 0, done.output
        return out

    return run_to


def masks_of(out) -> dict[str, bytes]:
    return {name: (out.path / name).read_bytes() for name in out.masks}


class TestSameMasks:
    """In single precision results do not depend on how the work is shared."""

    def test_whatever_the_units_the_threads_and_the_processes(self, run, output_at, tmp_path):
        variants = ([], ["--unit-size", 2], ["--workers", 2], ["--batch-size", 3])
        single = ["--precision", "f32"]
        outs = [
            run(output_at(tmp_path / str(number)), *single, *options)
            for number, options in enumerate(variants)
        ]
        expected = masks_of(outs[0])
        assert len(expected) == 7
        for out in outs[1:]:
            assert masks_of(out) == expected
            counts = [c for c in out.rows if c.startswith("pixels_")]
            assert out.rows[counts].equals(outs[0].rows[counts])

    def test_the_record_names_what_was_asked_for(self, run, output):
        options = run(output, "--engine", "tensorflow", "--precision", "f32").runs[0]["options"]
        assert (options["engine"], options["precision"]) == ("tensorflow", "f32")


class TestWorkers:
    def test_processes_report_their_progress_and_counts(self, run, output):
        record = run(output, "--workers", 2, "--unit-size", 2).runs[0]
        assert record["images"]["done"] == 7
        assert record["stages"]["decode"]["count"] == 7

    def test_ctrl_c_reaches_all_processes_and_ends_the_run_in_order(
        self, make_photo, tiny_model, output, tmp_path
    ):
        for number in range(600):
            make_photo(tmp_path / "many" / f"{number}.jpg", seed=number)
        line = ["run", tmp_path / "many", "-o", output.path, "--model", tiny_model]
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *line, "--workers", "2", "--unit-size", "2"],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        while not list(output.path.glob("statistics/*.parquet")) and process.poll() is None:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 128 + signal.SIGINT, said
        left = output.summary["interrupted"]["left"]
        assert 0 < len(output.rows) == 600 - left
        assert f"{left} images are left for the next run" in said

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--direct_num_workers", 2], "--workers and --direct_num_workers exclude each other"),
            (["--runner", "PortableRunner"], "--workers: only on this machine; PortableRunner"),
        ],
    )
    def test_what_contradicts_them_is_refused(self, citymask, photos, output, options, said):
        done = citymask("run", photos, "-o", output.path, "--workers", 2, *options)
        assert done.exit_code == 2
        assert said in done.output
        assert not output.path.exists()


class TestWindows:
    def test_a_photo_is_segmented_at_its_own_resolution(
        self, citymask, make_photo, tiny_model, output, output_at, tmp_path
    ):
        """Twice as many pixels in the same windows: other masks, and rows that say so."""
        make_photo(tmp_path / "aerial" / "a.png", 500, 300, seed=1)
        arguments = ("run", tmp_path / "aerial", "--model", tiny_model, "-o")
        plain = output_at(tmp_path / "plain")
        for out, options in ((plain, []), (output, ["--windows", 1])):
            done = citymask(*arguments, out.path, *options)
            assert done.exit_code == 0, done.output
        with Image.open(output.path / "masks" / "a.png.png") as mask:
            values = np.array(mask)
        assert values.shape == (300, 500)
        row = output.rows.loc["a.png"]
        assert row["model"] == f"{plain.rows.loc['a.png', 'model']}+windows1"
        assert sum(row[c] for c in output.rows if c.startswith("pixels_")) == 500 * 300
        assert masks_of(output) != masks_of(plain)

    def test_a_photo_of_one_window_has_the_mask_that_it_has_without(
        self, citymask, make_photo, tiny_model, output, output_at, tmp_path
    ):
        package = load_package(tiny_model)
        height, width = network_shape(96, 64, package.input_width, package.input_height)
        make_photo(tmp_path / "small" / "a.png", width, height, seed=1)
        plain = output_at(tmp_path / "plain")
        for out, options in ((plain, []), (output, ["--windows", 1])):
            arguments = ("run", tmp_path / "small", "-o", out.path, "--model", tiny_model)
            assert citymask(*arguments, *options).exit_code == 0
        assert masks_of(output) == masks_of(plain)

    def test_both_kinds_stand_side_by_side_and_verify(self, citymask, run, output):
        run(output)
        run(output, "--windows", 0.5)
        assert len(output.masks) == 14
        done = citymask("verify", output.path)
        assert done.exit_code == 0, done.output

    def test_there_is_no_confidence_of_windows(self, citymask, photos, output):
        done = citymask("run", photos, "-o", output.path, "--windows", 1, "--confidence")
        assert done.exit_code == 2
        assert "--confidence and --windows exclude each other" in done.output


def test_evaluate_measures_the_engine_it_is_told(citymask, shared_data, tmp_path):
    """On a few photos: all of them in `tests/models/test_agreement.py`."""
    data = tmp_path / "data"
    for folder in ("val", "valannot"):
        (data / folder).mkdir(parents=True)
        for file in sorted((shared_data / "camvid" / folder).glob("*.png"))[:3]:
            (data / folder / file.name).symlink_to(file)
    found = {}
    for engine in ("tensorflow", "openvino"):
        file = tmp_path / f"{engine}.json"
        done = citymask("evaluate", "--data", data, "--engine", engine, "--json", file)
        assert done.exit_code == 0, done.output
        found[engine] = json.loads(file.read_text())["miou"]
    assert found["openvino"] == pytest.approx(found["tensorflow"], abs=0.01)
