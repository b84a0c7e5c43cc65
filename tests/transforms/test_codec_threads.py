"""Codecs that release the GIL: while one works, other threads go on."""

import io
import itertools
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest
from PIL import Image

from models.classes import CAMVID
from transforms.masks import encode_confidence, encode_mask, encode_overlay
from transforms.photos import DEFAULT_MAX_PIXELS, decode_full, decode_photo

REPEATS = 5
SECONDS_OF_A_PAUSE = 1e-3


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    return Image.fromarray(pixels).resize((4000, 3000), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def jpeg(photo) -> bytes:
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def paused(call) -> float:
    """The share of the time of `call` that another thread, which wants to run, spends in pauses."""
    ticks: list[float] = []
    started, ended = threading.Event(), threading.Event()

    def tick():
        started.set()
        while not ended.is_set():
            ticks.append(time.perf_counter())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    other = threading.Thread(target=tick)
    other.start()
    started.wait()
    start = time.perf_counter()
    call()
    end = time.perf_counter()
    ended.set()
    other.join()
    sys.setswitchinterval(interval)
    moments = [start, *(moment for moment in ticks if start < moment < end), end]
    gaps = [b - a for a, b in itertools.pairwise(moments)]
    return sum(gap for gap in gaps if gap > SECONDS_OF_A_PAUSE) / (end - start)


def assert_other_threads_go_on(call):
    assert min(paused(call) for _ in range(REPEATS)) < 0.5


def test_other_threads_go_on_while_a_photo_is_decoded(jpeg):
    def shape_for(width, height):
        return 384, 512

    assert_other_threads_go_on(partial(decode_photo, jpeg, shape_for, DEFAULT_MAX_PIXELS))
    assert_other_threads_go_on(partial(decode_full, jpeg, DEFAULT_MAX_PIXELS))


def test_other_threads_go_on_while_a_mask_is_encoded(photo):
    mask = np.asarray(photo.convert("L"))
    assert_other_threads_go_on(partial(encode_mask, mask, CAMVID.palette()))
    assert_other_threads_go_on(partial(encode_confidence, mask))


def test_other_threads_go_on_while_an_overlay_is_encoded(photo):
    mask = np.asarray(photo.convert("L"))
    assert_other_threads_go_on(partial(encode_overlay, photo, mask, CAMVID.palette()))
