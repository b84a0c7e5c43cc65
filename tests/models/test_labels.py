import io

import numpy as np
import pytest
from PIL import Image

from models.classes import IGNORE
from models.labels import decode_index_image, read_label


def encoded(image, kind="PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_both_values_of_no_class_are_read_as_one(tmp_path):
    Image.fromarray(np.uint8([[0, 1, 2, 255]])).save(tmp_path / "a.png")
    assert read_label(tmp_path / "a.png", 2).tolist() == [[0, 1, IGNORE, IGNORE]]


def test_a_label_value_outside_the_class_table_is_named(tmp_path):
    Image.fromarray(np.uint8([[0, 7]])).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a.png: holds \[7\]; expected class ids 0..1"):
        read_label(tmp_path / "a.png", 2)


def test_palette_and_grey_images_are_read_by_value():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    grey = Image.fromarray(values)
    palette = grey.copy()
    palette.putpalette(bytes(768))
    few = Image.fromarray(values % 3)
    few.putpalette(bytes(9))
    assert (decode_index_image(encoded(grey)) == values).all()
    assert (decode_index_image(encoded(palette)) == values).all()
    assert (decode_index_image(encoded(few), (16, 16)) == values % 3).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16", "1"])
def test_an_image_of_another_mode_is_no_index_image(mode):
    with pytest.raises(ValueError, match=f"has mode {mode}; expected .* Convert"):
        decode_index_image(encoded(Image.new(mode, (4, 4))))


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match="is 4x3, but its label is 3x4. Resize"):
        decode_index_image(encoded(Image.new("L", (4, 3))), (4, 3))


@pytest.mark.parametrize("kept", [0, 4, 20, 40, 60, 100])
def test_a_damaged_image_is_refused_whatever_is_left_of_it(kept):
    noise = np.random.default_rng(0).integers(0, 9, (50, 50), np.uint8)
    with pytest.raises(ValueError, match="damaged"):
        decode_index_image(encoded(Image.fromarray(noise))[:kept])


def test_a_jpeg_is_refused_since_it_does_not_keep_values():
    with pytest.raises(ValueError, match="no PNG image"):
        decode_index_image(encoded(Image.new("L", (4, 4)), "JPEG"))
