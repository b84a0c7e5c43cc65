"""The benchmark: its short form runs, and masks that differ are found."""

import json
import os
import re
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.archives import bring_to_size, make_archive
from benchmarks.arms import PYTORCH, Bench, Measured, SkippedError
from benchmarks.arms.python_lock import counted
from benchmarks.comparing import agreement, differing
from benchmarks.cores import Cost
from benchmarks.gpu_use import gpu_names
from benchmarks.reporting import Spread

ROOT = Path(__file__).resolve().parents[1]


def save_mask(path: Path, wrong_pixels: int = 0) -> Path:
    """A mask of 20 x 10 pixels, of which some have another class than they should."""
    path.parent.mkdir(exist_ok=True)
    mask = np.arange(200, dtype=np.uint8) % 11
    mask[:wrong_pixels] += 1
    Image.fromarray(mask.reshape(10, 20)).save(path)
    return path


def test_the_short_form_prints_a_ratio_and_finds_the_masks_equal(tmp_path):
    program = [sys.executable, "benchmarks/throughput.py", "--short", "--output", str(tmp_path)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    finished = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"citymask run to bare loop: \d\.\d{3}; their masks are equal, byte for byte",
                     finished.stdout)  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {
        "throughput.json", "throughput.md", "throughput.png",
    }  # fmt: skip


def test_the_report_of_made_rows_is_built_and_measured(tmp_path):
    program = [sys.executable, "benchmarks/report.py", "--images", "600", "--output", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert re.search(
        r"600 photos, \d+ cores: built in [\d.]+ s, peak \d+ MiB; the page has [\d.]+ MB, "
        r"of which data.js 0\.\d+ MB",
        finished.stdout,
    )
    assert re.search(r"can be used after [\d.]+ s|not timed in a browser: ", finished.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="timers of CPU time as Linux has them")
def test_ticks_tell_who_holds_pythons_lock():
    with counted() as python:
        _until(0.4, lambda: sum(range(1000)))
    with counted() as compressing:
        noise = os.urandom(1 << 20)
        _until(0.4, lambda: zlib.compress(noise))
    for most, few in ((python.with_lock, python.without_lock),
                            (compressing.without_lock, compressing.with_lock)):  # fmt: skip
        assert most > 10
        assert few < most / 4


def _until(seconds, work):
    """Work for some seconds of CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        work()


def test_the_lock_bounds_one_process_on_many_cores():
    cost = Cost(total=20, lock=2)
    assert cost.speed(1) == pytest.approx(50)
    assert 90 < cost.speed(2) < 100
    assert cost.speed(64) == pytest.approx(500, rel=1e-3)


@pytest.mark.skipif(bool(gpu_names()), reason="it would take minutes on a GPU")
def test_the_check_of_a_gpu_goes_as_far_as_a_cpu_can(run_without_tensorflow, tmp_path, tiny_model):
    file = tmp_path / "found.json"
    sizes = ["--size", "192x128", "--images", "2", "--seconds", "0.01"]
    done = run_without_tensorflow(
        "benchmarks/gpu_check.py", *sizes, "--model", tiny_model, "--output", file,
        JAX_DISABLE_MOST_OPTIMIZATIONS="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {(row["check"], row["engine"]): row for row in json.loads(file.read_text())["rows"]}
    assert rows["all", "tensorflow"]["note"] == "not installed: tensorflow"
    on_jax = {check: row for (check, engine), row in rows.items() if engine == "jax"}
    missing = {check for check, row in on_jax.items() if row["value"] is None}
    assert missing == {"batch that fits, of 512 photos", "GPU busy meanwhile"}
    assert len(on_jax) == 14
    assert on_jax["pixels as in f32 on the CPU, in f32"]["value"] > 0.999
    assert rows["JPEG decoding on the CPU", ""]["value"] > 0
    assert all(row["note"] for row in rows.values() if row["value"] is None)


def test_folders_of_the_same_masks_do_not_differ(tmp_path):
    save_mask(tmp_path / "one" / "a.png")
    save_mask(tmp_path / "other" / "a.png")
    assert differing(tmp_path / "one", tmp_path / "other") == []
    assert agreement(tmp_path / "one", tmp_path / "other") == 1


def test_a_mask_with_a_wrong_pixel_is_found(tmp_path):
    for name in ("a.png", "b.png"):
        save_mask(tmp_path / "one" / name)
    save_mask(tmp_path / "other" / "a.png")
    save_mask(tmp_path / "other" / "b.png", wrong_pixels=1)
    assert differing(tmp_path / "one", tmp_path / "other") == ["b.png"]
    assert agreement(tmp_path / "one", tmp_path / "other") == pytest.approx(1 - 1 / 400)


def test_a_mask_that_only_one_folder_has_is_found(tmp_path):
    for name in ("a.png", "b.png"):
        save_mask(tmp_path / "one" / name)
    save_mask(tmp_path / "other" / "a.png")
    assert differing(tmp_path / "one", tmp_path / "other") == ["b.png"]
    assert differing(tmp_path / "other", tmp_path / "one") == ["b.png"]


def test_masks_of_slow_arms_are_compared_by_name(tmp_path):
    for name in ("a.png", "b.png"):
        save_mask(tmp_path / "one" / name)
    save_mask(tmp_path / "other" / "a.png", wrong_pixels=20)
    assert agreement(tmp_path / "one", tmp_path / "other") == pytest.approx(0.9)


def test_masks_of_different_sizes_are_an_error(tmp_path):
    one = save_mask(tmp_path / "one" / "a.png")
    other = save_mask(tmp_path / "other" / "a.png")
    Image.open(one).resize((10, 5)).save(other)
    with pytest.raises(ValueError, match=r"has \(20, 10\) pixels, .* has \(10, 5\)"):
        agreement(one.parent, other.parent)


def test_an_archive_repeats_the_photos_at_one_size(tmp_path, make_photo):
    for number in range(3):
        (tmp_path / "photos").mkdir(exist_ok=True)
        make_photo(tmp_path / "photos" / f"{number}.jpg", seed=number)
    sized = bring_to_size(tmp_path / "photos", 40, 20, tmp_path / "sized")
    archive = make_archive(sized, 7, tmp_path / "archive")
    found = sorted(archive.iterdir())
    assert [path.name for path in found] == [f"{number:06}.jpg" for number in range(7)]
    assert found[6].read_bytes() == found[0].read_bytes() != found[1].read_bytes()
    assert Image.open(found[5]).size == (40, 20)


def test_a_peer_that_is_not_installed_is_skipped_with_a_word(tmp_path):
    bench = Bench("default", peers=tmp_path / "python")
    with pytest.raises(SkippedError, match="no .*python; `make bench` installs it"):
        bench.run(PYTORCH, tmp_path, tmp_path / "out")


def test_a_peer_whose_library_is_missing_is_skipped_with_the_reason(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "import no_such_library"\n')
    python.chmod(0o755)
    with pytest.raises(SkippedError, match="exit code 1: .*No module named 'no_such_library'"):
        Bench("default", peers=python).run(PYTORCH, tmp_path, tmp_path / "out")


def test_what_lies_beyond_start_up_is_a_difference():
    start = Measured(8, began=0, seconds=4, cpu_seconds=3, peak_mib=100, details={})
    full = Measured(108, began=0, seconds=9, cpu_seconds=12, peak_mib=200, details={})
    running = full.beyond(start)
    assert running.speed == pytest.approx(20)
    assert running.cpu_seconds == pytest.approx(9)


def test_a_spread_is_told_only_where_there_is_one():
    assert Spread.of([2, 1, 4]).text(1) == "2.0 (1.0 - 4.0)"
    assert Spread.of([2]).text(1) == "2.0"
