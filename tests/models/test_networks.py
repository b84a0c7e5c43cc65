import keras
import numpy as np
import pytest
import tensorflow as tf

from models.inputs import normalise
from models.networks import ARCHITECTURES, build_network, fcn, segnet, unet
from models.networks.efficientnet_lite import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    SKIP_CONNECTIONS,
    encode,
    load_imagenet_weights,
)
from models.networks.resizing import BilinearUpSampling2D

OUTPUT_STRIDES = {"efficientnet_fpn": 4, "deeplab_largefov": 8}
NEEDS_MULTIPLES_OF_32 = ("efficientnet_fpn",)


@pytest.fixture(scope="module")
def network():
    return build_network("efficientnet_fpn", classes=5)


@pytest.fixture(scope="module")
def encoder():
    image = keras.Input((None, None, 3))
    return keras.Model(image, encode(image))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_are_float32_at_the_output_stride_for_any_size(architecture):
    network = build_network(architecture, classes=5, width=0.125)
    stride = OUTPUT_STRIDES.get(architecture, 1)
    sizes = [(32, 64), (96, 32)] + [(45, 37)] * (architecture not in NEEDS_MULTIPLES_OF_32)
    for height, width in sizes:
        logits = network(np.zeros((2, height, width, 3), np.float32))
        assert logits.shape == (2, -(-height // stride), -(-width // stride), 5)
        assert keras.backend.standardize_dtype(logits.dtype) == "float32"


def test_fcn_8s_as_published_is_vgg16_and_little_more():
    # Long et al. 2015, table 1: 134 M; VGG-16 has 134.26 M without its 1000 classes.
    network = fcn.build_fcn8s(21, batch_normalisation=False)
    encoder = [layer for layer in network.layers if layer.name.startswith(("conv", "fc"))]
    assert sum(layer.count_params() for layer in encoder) == 134_260_544
    assert network.count_params() == pytest.approx(134.49e6, rel=1e-3)


def test_segnet_has_the_parameters_of_the_paper():
    # Badrinarayanan et al. 2017, table III: 29.45 M with 11 classes.
    assert build_network("segnet", 11).count_params() == pytest.approx(29.46e6, rel=1e-3)


def test_u_net_as_published_has_its_parameters_and_loses_its_border():
    # Ronneberger et al. 2015, figure 1: 572 x 572 in, 388 x 388 out; one channel, two classes.
    network = unet.build(2, batch_normalisation=False, padding="valid")
    two_more_channels = 2 * 3 * 3 * 64
    assert network.count_params() == 31_030_658 + two_more_channels
    assert network.compute_output_shape((1, 572, 572, 3)) == (1, 388, 388, 2)


def test_fcn_starts_as_bilinear_interpolation():
    network = build_network("fcn8s", classes=3, width=0.125)
    kernel = np.asarray(network.get_layer("logits_deconv").kernel)
    assert kernel.shape == (16, 16, 3, 3)
    row = np.arange(5, dtype=np.float32)
    scores = np.zeros((1, 5, 5, 3), np.float32)
    scores[0, :, :, 1] = row
    upsampled = np.asarray(network.get_layer("logits_deconv")(scores))[0, 20]
    inside = np.arange(8, 32)
    np.testing.assert_allclose(upsampled[inside, 1], (inside + 0.5) / 8 - 0.5, atol=1e-5)
    assert not upsampled[:, [0, 2]].any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_traced_graph_takes_every_size(architecture):
    network = build_network(architecture, classes=2, width=0.125)
    graph = tf.function(
        lambda image: network(image, training=False),
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)],
    )
    for height, width in [(32, 64), (96, 32)]:
        image = np.random.default_rng(0).normal(size=(1, height, width, 3)).astype(np.float32)
        np.testing.assert_allclose(graph(image), network(image, training=False), atol=1e-4)


@pytest.mark.parametrize(
    ("build", "option"), [(segnet.build, "index_unpooling"), (unet.build, "skips")]
)
def test_networks_for_the_ablation_leave_out_one_connection(build, option):
    logits = build(5, 0.125, **{option: False})(np.zeros((1, 45, 37, 3), np.float32))
    assert logits.shape == (1, 45, 37, 5)


def test_upsampling_is_bilinear_with_half_pixel_centres():
    row = np.array([0.0, 4.0, 8.0], np.float32)
    upsampled = BilinearUpSampling2D()(np.tile(row, (1, 2, 1))[..., np.newaxis])
    assert np.asarray(upsampled)[0, :, :, 0].tolist() == [[0, 1, 3, 5, 7, 8]] * 4


def test_default_network_is_compact(network):
    assert 2.5e6 < network.count_params() < 3.5e6
    assert build_network("efficientnet_fpn", 5, width=0.5).count_params() < 1e6


def test_encoder_returns_a_feature_map_for_each_stride(encoder):
    features = encoder(np.zeros((1, 64, 96, 3), np.float32))
    assert {stride: tuple(features[stride].shape[1:]) for stride in SKIP_CONNECTIONS} == {
        2: (32, 48, 16),
        4: (16, 24, 24),
        8: (8, 12, 40),
        16: (4, 6, 112),
        32: (2, 3, 320),
    }


def test_unknown_architecture_lists_what_exists():
    with pytest.raises(ValueError, match="'segformer'.*efficientnet_fpn"):
        build_network("segformer", classes=5)


@pytest.mark.parametrize("arguments", [{"classes": 0}, {"classes": 2, "width": 0.0}])
def test_impossible_network_is_refused(arguments):
    with pytest.raises(ValueError, match="found 0"):
        build_network("efficientnet_fpn", **arguments)


@pytest.fixture
def imagenet_weights(shared_data):
    return shared_data / "weights" / "efficientnet_lite0_imagenet.npz"


def test_imagenet_weights_recognise_what_stands_in_streets(encoder, imagenet_weights, shared_data):
    """The encoder with the checkpoint's own classifier on top sees a tram or a car."""
    from PIL import Image

    load_imagenet_weights(encoder, imagenet_weights)
    with Image.open(shared_data / "camvid" / "train" / "0016E5_04620.png") as photo:
        pixels = np.asarray(photo.convert("RGB").resize((320, 224)))
    features = encoder(normalise(pixels[np.newaxis], IMAGENET_MEAN, IMAGENET_STD))[32]
    with np.load(imagenet_weights) as tensors:
        x = np.asarray(features) @ tensors["_conv_head.weight"][:, :, 0, 0].T
        x = (x - tensors["_bn1.running_mean"]) / np.sqrt(tensors["_bn1.running_var"] + 1e-3)
        x = np.clip(x * tensors["_bn1.weight"] + tensors["_bn1.bias"], 0, 6).mean(axis=(0, 1, 2))
        scores = tensors["_fc.weight"] @ x + tensors["_fc.bias"]
    streetcar = 829
    assert scores.argmax() == streetcar


def test_imagenet_weights_do_not_fit_another_width(imagenet_weights):
    with pytest.raises(ValueError, match="stem_conv.*width 1.0"):
        load_imagenet_weights(build_network("efficientnet_fpn", 5, width=0.5), imagenet_weights)


def test_checkpoint_with_other_tensors_names_them(network, tmp_path):
    np.savez(tmp_path / "other.npz", **{"_conv_stem.weight": np.zeros(3), "extra": np.zeros(1)})
    with pytest.raises(ValueError, match=r"other\.npz.*missing _blocks\.0.*unexpected extra"):
        load_imagenet_weights(network, tmp_path / "other.npz")
