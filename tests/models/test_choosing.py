"""What `auto` chooses on a CPU, with engines that take a made time; and what it keeps."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from models.engines import AUTOMATIC, EngineOptions, Precision, choosing, openvino
from models.engines.batches import BatchedEngine
from models.engines.choosing import Setting, fastest, try_out
from models.engines.conversion import CACHE
from models.packages import load_package

SHAPE = (8, 8)


class Clock:
    """Gives the time, which passes when somebody says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class TimedEngine(BatchedEngine):
    """Takes so many seconds for all of its streams together."""

    def __init__(self, setting: Setting, seconds: float, clock: Clock):
        super().__init__(1, setting.threads, setting.precision)
        self._seconds = seconds
        self._clock = clock

    def _predict(self, images: np.ndarray) -> np.ndarray:
        self._clock.now += self._seconds / self.streams
        return np.zeros((1, 1, 1, 3), np.float32)


def tried(seconds: dict[Precision, float], threads=2, fewer=2, loading=0.1, fewer_takes=1.0):
    """Photos per second by setting, with engines that take such times for a photo a stream."""
    clock = Clock()

    def load(setting: Setting) -> TimedEngine:
        clock.now += loading
        less = fewer_takes if setting.threads < threads else 1
        return TimedEngine(setting, seconds[setting.precision] * less, clock)

    trials = try_out(list(seconds), threads, fewer, load, SHAPE, clock)
    assert clock.now - 100 <= choosing.LIMIT or len(trials) == 1
    return trials


INT8, BF16, F32 = Precision.INT8, Precision.BF16, Precision.F32


@pytest.mark.parametrize("best", [INT8, BF16, F32])
def test_the_fastest_precision_wins_whatever_it_is(best):
    seconds = dict.fromkeys((INT8, BF16, F32), 0.02) | {best: 0.015}
    trials = tried(seconds)
    assert fastest(trials).setting == Setting(best, 2)
    assert {t.setting.precision: round(t.images_per_second) for t in trials} == {
        precision: round(2 / taken) for precision, taken in seconds.items()
    }


@pytest.mark.parametrize(("fewer_takes", "threads"), [(0.4, 8), (0.6, 16)])
def test_a_stream_per_core_is_tried_where_cores_have_more_threads(fewer_takes, threads):
    trials = tried({INT8: 0.02, F32: 0.04}, 16, 8, fewer_takes=fewer_takes)
    assert fastest(trials).setting == Setting(INT8, threads)
    assert [trial.setting for trial in trials] == [
        Setting(INT8, 16), Setting(F32, 16), Setting(INT8, 8)
    ]  # fmt: skip


def test_a_large_network_is_tried_as_long_as_there_is_time():
    trials = tried({INT8: 0.3, BF16: 0.6, F32: 1.2}, loading=0.3)
    assert [trial.setting.precision for trial in trials] == [INT8, BF16]
    assert [trial.setting.precision for trial in tried({INT8: 5, F32: 9})] == [INT8]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def times(monkeypatch):
    """Measurements that were made, with times that say that bf16 is the fastest."""
    made = []

    def measured(precisions, threads, fewer, load, shape):
        made.append(list(precisions))
        speeds = {INT8: 20.0, BF16: 30.0, F32: 10.0}
        return [choosing.Trial(Setting(p, threads), speeds[p]) for p in precisions]

    monkeypatch.setattr(choosing, "try_out", measured)
    monkeypatch.setattr(openvino, "runs_in", lambda precision: True)
    return made


def test_what_was_measured_is_kept(int8_model, cache, times):
    package = load_package(int8_model)
    assert choosing.settled(package, AUTOMATIC).precision is BF16
    assert choosing.settled(package, AUTOMATIC).precision is BF16
    assert times == [[INT8, BF16, F32]]
    (kept,) = cache.rglob("choice-*.json")
    kept.write_text(kept.read_text()[:50])
    assert choosing.settled(package, AUTOMATIC).precision is BF16
    assert len(times) == 2 and json.loads(kept.read_text())


def test_another_number_of_threads_or_another_network_is_measured_anew(
    int8_model, tmp_path, cache, times
):
    package = load_package(int8_model)
    choosing.settled(package, AUTOMATIC)
    choosing.settled(package, EngineOptions(threads=7))
    choosing.settled(replace(package, fingerprint="0" * 64), AUTOMATIC)
    assert len(times) == 3


def test_a_precision_whose_loss_is_unknown_is_not_tried(int8_model, tiny_model, cache, times):
    package = load_package(int8_model)
    without_bf16 = {name: of for name, of in package.precisions.items() if name != "bf16"}
    choosing.settled(replace(package, precisions=without_bf16), AUTOMATIC)
    assert times == [[INT8, F32]]
    assert choosing.settled(replace(package, precisions={}), AUTOMATIC).precision is F32
    assert choosing.settled(load_package(tiny_model), AUTOMATIC).precision is F32
    assert len(times) == 1


def test_a_precision_that_is_asked_for_is_taken_unmeasured(int8_model, cache, times):
    package = load_package(int8_model)
    for precision in (INT8, F32):
        options = choosing.settled(package, EngineOptions(precision=precision, threads=3))
        assert (options.precision, options.threads) == (precision, 3)
    assert not times


def test_a_cache_that_cannot_be_written_costs_only_time(int8_model, cache, times):
    cache.write_text("a file in place of the folder")
    for _ in range(2):
        assert choosing.settled(load_package(int8_model), AUTOMATIC).precision is BF16
    assert len(times) == 2


def test_real_engines_are_tried_without_a_conversion(int8_model, cache, tmp_path, caplog):
    caplog.set_level("DEBUG", "models")
    package = load_package(shutil.copytree(int8_model, tmp_path / "model"))
    settled = choosing.settled(package, EngineOptions(threads=1))
    assert settled.precision in (INT8, BF16, F32)
    said = "\n".join(caplog.messages)
    assert "auto: int8 in 1 streams: " in said and "auto: f32 in 1 streams: " in said
    assert not list(cache.rglob("*.xml"))
