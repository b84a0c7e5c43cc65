"""The contract: what stands in `data.js` is JSON, whatever was measured or named."""

import json

import pytest
from pydantic import ValidationError

from transforms.reporting import contract
from transforms.reporting.document import plain


def test_what_json_has_not_becomes_null():
    card = {"miou": float("nan"), "classes": [{"iou": float("inf")}, {"iou": 0.5}], "name": "a"}
    assert plain(card) == {"miou": None, "classes": [{"iou": None}, {"iou": 0.5}], "name": "a"}


def test_a_value_is_a_number_or_none():
    contract.Group(name="a", images=1, values=[0.5, None])
    with pytest.raises(ValidationError):
        contract.Group(name="a", images=1, values=[float("nan")])


@pytest.mark.parametrize("identity", ["0", "../1", "1.jpg", ""])
def test_an_id_is_a_number(identity):
    with pytest.raises(ValidationError):
        contract.Extremes(most=[identity], least=[])


def test_a_mask_is_handed_over_by_a_call():
    script = contract.mask_script("7", "data:image/png;base64,AA==").decode()
    found = script.removeprefix("citymaskMask(").removesuffix(");\n")
    assert json.loads(f"[{found}]") == ["7", "data:image/png;base64,AA=="]
