"""The networks and the program on JAX: what `KERAS_BACKEND=jax` gives, in a process of its own."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from models.evaluation import evaluate
from models.networks import build_network
from models.packages import load_package
from tests.jax_process import on_jax

NETWORKS = ("deeplab_largefov", "efficientnet_fpn", "fcn8s", "segnet", "unet")
CLASSES, WIDTH, SHAPE = 3, 0.125, (1, 64, 96, 3)

PREDICT = """
import sys
import numpy as np
from models.networks import build_network
folder, classes, width, *names = sys.argv[1:]
images = np.load(f"{folder}/images.npy")
for name in names:
    network = build_network(name, int(classes), float(width))
    network.load_weights(f"{folder}/{name}.weights.h5")
    np.save(f"{folder}/{name}.npy", network.predict_on_batch(images))
"""


def test_networks_give_the_same_logits_on_jax_and_tensorflow(tmp_path):
    random = np.random.default_rng(0)
    images = random.normal(size=SHAPE).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    expected = {}
    for name in NETWORKS:
        keras.utils.set_random_seed(1)
        network = build_network(name, CLASSES, WIDTH)
        network.save_weights(tmp_path / f"{name}.weights.h5")
        expected[name] = np.asarray(network(images, training=False))
    on_jax("-c", PREDICT, tmp_path, CLASSES, WIDTH, *NETWORKS)
    for name, logits in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), logits, rtol=1e-3, atol=1e-4)


def test_the_command_line_trains_and_measures_on_jax(tmp_path):
    data, model = tmp_path / "data", tmp_path / "model"
    for split in ("train", "val"):
        label = np.repeat(np.uint8([0, 1]), 16)[None].repeat(32, 0)
        photo = np.where(label[..., None], np.uint8([0, 0, 200]), np.uint8([200, 0, 0]))
        for folder, pixels in ((split, photo), (f"{split}annot", label)):
            (data / folder).mkdir(parents=True)
            Image.fromarray(pixels).save(data / folder / "a.png")
    (data / "classes.csv").write_text("name,red,green,blue\nLeft,255,0,0\nRight,0,0,255\n")
    command = "-m pipeline train deeplab_largefov --width 0.1 --input-size 32x32 --epochs 2"
    on_jax(*command.split(), "--data", data, "--output", model)
    stated = json.loads((model / "model.json").read_text())["metrics"]
    measured = evaluate(load_package(model), data, "val")
    assert measured.pixel_accuracy == pytest.approx(stated["pixel_accuracy"], abs=0.01)
