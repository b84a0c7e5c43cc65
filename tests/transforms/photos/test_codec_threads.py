"""Codecs that release the GIL: while one works, other threads go on."""

import io
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest
from PIL import Image

from models.classes import CAMVID
from transforms.photos.decoding import DEFAULT_MAX_PIXELS, decode_full, decode_photo
from transforms.photos.mask_files import encode_grey, encode_mask

REPEATS = 5
TURNS = 20
"""A codec that holds the GIL gives others none."""


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    return Image.fromarray(pixels).resize((4000, 3000), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def jpeg(photo) -> bytes:
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def turns_of_another_thread(call) -> int:
    """How often another thread had its turn because `call` let go of the GIL."""
    turns = 0
    started, ended = threading.Event(), threading.Event()

    def take_turns():
        nonlocal turns
        started.set()
        while not ended.is_set():
            turns += 1
            time.sleep(0)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    other = threading.Thread(target=take_turns)
    other.start()
    started.wait()
    try:
        before = turns
        call()
        return turns - before
    finally:
        ended.set()
        other.join()
        sys.setswitchinterval(interval)


def assert_other_threads_go_on(call):
    assert max(turns_of_another_thread(call) for _ in range(REPEATS)) > TURNS


def test_other_threads_go_on_while_a_photo_is_decoded(jpeg):
    def shape_for(width, height):
        return 384, 512

    assert_other_threads_go_on(partial(decode_photo, jpeg, shape_for, DEFAULT_MAX_PIXELS))
    assert_other_threads_go_on(partial(decode_full, jpeg, DEFAULT_MAX_PIXELS))


def test_other_threads_go_on_while_a_mask_is_encoded(photo):
    mask = np.asarray(photo.convert("L"))
    assert_other_threads_go_on(partial(encode_mask, mask, CAMVID.palette()))
    assert_other_threads_go_on(partial(encode_grey, mask))
