"""The precision on a GPU, by what the GPU can do and what the package states."""

from dataclasses import replace

import pytest

from models.engines import AUTOMATIC, EngineOptions, Precision
from models.engines.gpus import precision_on
from models.packages import load_package

VOLTA, PASCAL = (7, 0), (6, 1)


@pytest.mark.parametrize(
    ("known", "capability", "expected"),
    [
        (("bf16",), VOLTA, Precision.F16),
        (("f16",), VOLTA, Precision.F16),
        ((), VOLTA, Precision.F32),
        (("int8",), VOLTA, Precision.F32),
        (("bf16",), PASCAL, Precision.F32),
    ],
)
def test_half_precision_is_automatic_where_it_is_fast_and_its_loss_is_known(
    tiny_model, known, capability, expected
):
    losses = {name: {"loss": 0.001} for name in known}
    package = replace(load_package(tiny_model), precisions=losses)
    assert precision_on(package, AUTOMATIC, capability) is expected


@pytest.mark.parametrize("asked", [Precision.F16, Precision.BF16, Precision.F32])
def test_what_is_asked_for_is_taken(tiny_model, asked):
    package = load_package(tiny_model)
    assert precision_on(package, EngineOptions(precision=asked), VOLTA) is asked
