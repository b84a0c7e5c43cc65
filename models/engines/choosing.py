"""The choice of precision and streams on a CPU: measured on this machine, and kept.

A processor that has instructions for a precision may be slower with it, so what is possible is
tried: `OpenVinoEngine` in each precision whose loss of quality is known, then the fastest one with
a stream per core instead of one per thread, where these differ. TensorFlow is not tried: importing
it takes longer than all else here, and `benchmarks/engines.py` has yet to find it faster than the
fastest precision of OpenVINO.

What was found is kept beside the converted models, for each processor, number of threads, model and
version of OpenVINO; not if there was no time for all, as on a busy machine.
"""

import hashlib
import json
import logging
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from models.engines import devices, openvino
from models.engines.batches import BatchedEngine
from models.engines.conversion import cache_folder, is_convertible, openvino_model
from models.engines.options import EngineOptions, Precision
from models.engines.quantised import float_twin, int8_model
from models.packages import INT8, ModelPackage

logger = logging.getLogger(__name__)

LIMIT = 2.0
"""Seconds for all trials, with loading; none begins that is not expected to end in time."""

ROUNDS = 5
"""Times that each setting is timed, in turn; the median counts."""

WAIT_SECONDS = 10.0
"""Longest wait for another process that is measuring."""


@dataclass(frozen=True)
class Setting:
    """What is tried.

    Attributes:
        precision: of the network's arithmetic.
        threads: photos that are computed at a time, each by one thread.
    """

    precision: Precision
    threads: int

    def __str__(self) -> str:
        return f"{self.precision.value} in {self.threads} streams"


@dataclass(frozen=True)
class Trial:
    """A setting that was tried, and the photos per second that the network alone reached."""

    setting: Setting
    images_per_second: float


_TRIALS = TypeAdapter(list[Trial])

Load = Callable[[Setting], BatchedEngine]
"""Loads an engine that is as fast as a setting; its masks do not matter."""


def settled(package: ModelPackage, options: EngineOptions) -> EngineOptions:
    """Replace automatic precision, and threads that are not given, by what is fastest here.

    Raises:
        EngineError: OpenVINO is not installed or does not run here, or not this network.
        PackageError: the weights or the int8 network do not fit the package's description.
    """
    openvino.check_installed()
    threads = options.threads or devices.cores()
    fewer = threads if options.threads else min(threads, devices.physical_cores())
    precisions = [options.precision]
    if options.precision is Precision.AUTO:
        precisions = _possible(package)
    if len(precisions) == 1 and fewer == threads:
        return replace(options, precision=precisions[0], threads=threads)
    file = cache_folder() / f"{_key(package, precisions, threads, fewer)}.json"
    with _one_at_a_time(file):
        trials = _read(file)
        if not trials:
            load = _loader(package)
            trials = try_out(precisions, threads, fewer, load, package.nominal_shape)
            if len(trials) == len(precisions) + (fewer < threads):
                _keep(trials, file)
    for trial in trials:
        logger.debug("auto: %s: %.1f photos/s", trial.setting, trial.images_per_second)
    best = fastest(trials).setting
    logger.debug("auto: %s is chosen; %s keeps what was tried", best, file)
    return replace(options, precision=best.precision, threads=best.threads)


def try_out(
    precisions: Sequence[Precision],
    threads: int,
    fewer: int,
    load: Load,
    shape: tuple[int, int],
    clock: Callable[[], float] = time.perf_counter,
) -> list[Trial]:
    """Measure each precision, and then the fastest one with fewer threads, if `fewer` is fewer.

    Args:
        precisions: what to try, the most promising ones first: time may run out.
        threads: to compute in at a time.
        fewer: another number of them.
        load: loads the engines.
        shape: height and width of the photos.
        clock: gives the time in seconds.
    """
    end = clock() + LIMIT
    settings = [Setting(precision, threads) for precision in precisions]
    trials = _measure(settings, load, shape, clock, end)
    if fewer < threads:
        best = fastest(trials).setting
        trials += _measure([replace(best, threads=fewer)], load, shape, clock, end)
    return trials


def fastest(trials: Sequence[Trial]) -> Trial:
    """The trial with the most photos per second."""
    return max(trials, key=lambda trial: trial.images_per_second)


def _measure(
    settings: Sequence[Setting],
    load: Load,
    shape: tuple[int, int],
    clock: Callable[[], float],
    end: float,
) -> list[Trial]:
    """Load engines and time them in turn; at least the first one, others while there is time."""
    engines: dict[Setting, BatchedEngine] = {}
    seconds: dict[Setting, list[float]] = {}
    longest = 0.0
    for setting in settings:
        start = clock()
        if engines and start + longest > end:
            logger.debug("auto: %s: not tried, no time left", setting)
            continue
        engines[setting] = load(setting)
        seconds[setting] = [_time(engines[setting], shape, clock)]
        longest = max(longest, clock() - start)
    for _ in range(ROUNDS):
        for setting, engine in engines.items():
            if clock() + seconds[setting][0] > end:
                break
            seconds[setting].append(_time(engine, shape, clock))
    return [
        Trial(setting, setting.threads / statistics.median(of_rounds[1:] or of_rounds))
        for setting, of_rounds in seconds.items()
    ]


def _time(engine: BatchedEngine, shape: tuple[int, int], clock: Callable[[], float]) -> float:
    """Seconds for one photo in each stream."""
    photos = [np.zeros((1, *shape, 3), np.uint8)] * engine.streams
    with ThreadPoolExecutor(engine.streams) as pool:
        start = clock()
        list(pool.map(engine.predict, photos))
        return clock() - start


def _possible(package: ModelPackage) -> list[Precision]:
    """The precisions that can be had, and are known to cost little; the most promising ones first.

    Without TensorFlow nothing can be converted; then the int8 network is all there is. An imported
    network may be in int8 itself.
    """
    if openvino.is_int8(package):
        return [Precision.INT8]
    known = [
        precision
        for precision in openvino.PRECISIONS
        if precision is Precision.F32
        or (package.loss(precision.value) is not None and openvino.runs_in(precision))
    ]
    if not package.network_in(INT8):
        return [precision for precision in known if precision is not Precision.INT8]
    if Precision.INT8 in known and not is_convertible(package):
        return [Precision.INT8]
    return known


def _loader(package: ModelPackage) -> Load:
    """Loads engines of a package; floating point by a twin of the int8 network, if there is one."""
    if package.network_in(INT8):
        int8 = int8_model(package)
        floating = float_twin(int8)
    else:
        int8 = floating = openvino_model(package)

    def load(setting: Setting) -> BatchedEngine:
        model = int8 if setting.precision is Precision.INT8 else floating
        options = EngineOptions(precision=setting.precision, threads=setting.threads)
        return openvino.OpenVinoEngine(model, package.nominal_shape, options)

    return load


def _key(package: ModelPackage, precisions: Sequence[Precision], threads: int, fewer: int) -> str:
    """Name of the file of what was found: a hash of everything that affects it."""
    text = json.dumps(
        [
            openvino.processor(),
            openvino.version(),
            package.fingerprint,
            [network.files for network in package.networks],
            [precision.value for precision in precisions],
            threads,
            fewer,
        ]
    )
    source = Path(__file__).read_bytes()
    return f"choice-{hashlib.sha256(text.encode() + source).hexdigest()[:32]}"


@contextmanager
def _one_at_a_time(file: Path) -> Iterator[None]:
    """As a context, let no other process measure; without a place to keep anything, let them."""
    with ExitStack() as stack:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(file.with_suffix(".lock"), timeout=WAIT_SECONDS))
        except (OSError, Timeout) as error:
            logger.debug("auto: %s cannot be locked: %s", file, error)
        yield


def _read(file: Path) -> list[Trial]:
    """What was found earlier; nothing if there is no such file, or none that is whole."""
    try:
        return _TRIALS.validate_json(file.read_bytes())
    except (OSError, ValueError):
        return []


def _keep(trials: list[Trial], file: Path) -> None:
    unfinished = file.with_suffix(".part")
    try:
        unfinished.write_bytes(_TRIALS.dump_json(trials, indent=1))
        unfinished.replace(file)
    except OSError as error:
        logger.debug("auto: what was measured cannot be kept: %s", error)
