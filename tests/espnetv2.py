"""ESPNetv2 (Mehta et al., CVPR 2019): a published network that the project itself does not have.

The segmentation network of width 2.0 for Cityscapes, in Keras, with its published weights under
their PyTorch names. It takes photos of 1024x512 pixels with the usual ImageNet mean and standard
deviation, and gives logits of half their size for the 19 train ids and a `background`.
"""

import math
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

INPUT_SIZE = (1024, 512)
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
BACKGROUND = 19
WEIGHTS = Path("weights") / "espnetv2_s_2.0_city_1024x512.npz"

SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)
LEAST_SIDE = 5
EPSILON = 1e-5


def build_espnetv2(weights: Path) -> keras.Model:
    """Build the network with the weights of a .npz file.

    It takes float32 `(N, 512, 1024, 3)` and gives float32 logits `(N, 256, 512, 20)`.
    """
    with np.load(weights) as arrays:
        parts = _Parts({name: arrays[name] for name in arrays if not name.endswith("_tracked")})
    network = parts.network()
    assert not parts.weights, f"weights without a place: {sorted(parts.weights)}"
    return network


class _Parts:
    """Parts of the network. Each takes its weights out of `weights`, by their names."""

    def __init__(self, weights: dict[str, np.ndarray]):
        self.weights = weights

    def network(self) -> keras.Model:
        width, height = INPUT_SIZE
        photo = keras.Input((height, width, 3))
        half = self.conv_norm_act(photo, "base_net.level1", stride=2)
        quarter = self.down(half, photo, "base_net.level2_0")
        eighth = self.down(quarter, photo, "base_net.level3_0")
        for index in range(3):
            eighth = self.unit(eighth, f"base_net.level3.{index}")
        x = self.down(eighth, photo, "base_net.level4_0")
        for index in range(7):
            x = self.unit(x, f"base_net.level4.{index}", dilations=(1, 1, 2, 3))
        x = self.norm_act(self.pyramid(x, "bu_dec_l1"), "bu_dec_l1.br.br.0", "bu_dec_l1.br.br.1")
        for number, skip in ((2, eighth), (3, quarter), (4, half)):
            x = _resize(x, skip.shape[1:3]) + self.skip(skip, f"merge_enc_dec_l{number}")
            x = self.norm_act(x, f"bu_br_l{number}.0", f"bu_br_l{number}.1")
            name = f"bu_dec_l{number}"
            x = self.pyramid(x, name)
            if number < 4:
                x = self.norm_act(x, f"{name}.br.br.0", f"{name}.br.br.1")
        return keras.Model(photo, x, name="espnetv2")

    def down(self, x, photo, name: str):
        """To half the size: pooled features beside convolved ones, reinforced by the photo."""
        x = ops.concatenate([_pool(x), self.unit(x, f"{name}.eesp", stride=2)], axis=-1)
        while photo.shape[1] > x.shape[1]:
            photo = _pool(photo)
        photo = self.conv_norm_act(photo, f"{name}.inp_reinf.0")
        photo = self.conv(photo, f"{name}.inp_reinf.1.conv")
        return self.act(x + self.norm(photo, f"{name}.inp_reinf.1.bn"), f"{name}.act")

    def unit(self, x, name: str, stride: int = 1, dilations: tuple[int, ...] = (1, 2, 3, 4)):
        """The paper's EESP: parallel dilated convolutions, each added to the one before."""
        reduced = self.conv_norm_act(x, f"{name}.proj_1x1")
        levels = []
        for index, dilation in enumerate(dilations):
            level = self.depthwise(reduced, f"{name}.spp_dw.{index}.conv", dilation)
            level = level[:, ::stride, ::stride]
            levels.append(level + levels[-1] if levels else level)
        y = ops.concatenate(levels, axis=-1)
        y = self.norm_act(y, f"{name}.br_after_cat.bn", f"{name}.br_after_cat.act")
        y = self.norm(self.conv(y, f"{name}.conv_1x1_exp.conv"), f"{name}.conv_1x1_exp.bn")
        if stride == 1:
            return self.act(x + y, f"{name}.module_act")
        del self.weights[f"{name}.module_act.weight"]  # Published, and not used.
        return y

    def pyramid(self, x, name: str):
        """Depthwise convolutions of the same features at several sizes, merged."""
        names = (f"{name}.projection_layer.cbr.{index}" for index in range(3))
        x = self.cbr(x, *names)
        size = x.shape[1:3]
        levels = []
        for index, scale in enumerate(SCALES):
            scaled = [max(math.ceil(side * scale), LEAST_SIDE) for side in size]
            to, back = (_resize, _average) if scale > 1 else (_average, _resize)
            level = self.depthwise(to(x, scaled), f"{name}.stages.{index}")
            levels.append(back(level, size))
        merge = f"{name}.merge_layer"
        x = ops.concatenate(levels, axis=-1)
        x = self.norm_act(x, f"{merge}.0.br.0", f"{merge}.0.br.1")
        x = ops.reshape(x, (-1, *size, len(SCALES), x.shape[-1] // len(SCALES)))
        x = ops.transpose(x, (0, 1, 2, 4, 3))
        x = ops.reshape(x, (-1, *size, x.shape[3] * len(SCALES)))
        x = self.cbr(x, *(f"{merge}.2.cbr.{index}" for index in range(3)))
        return self.conv(x, f"{merge}.3")

    def skip(self, x, name: str):
        """Features of the encoder, each channel weighted by what is in the whole photo."""
        weight = ops.mean(x, axis=(1, 2), keepdims=True)
        weight = ops.sigmoid(self.conv(weight, f"{name}.wt_layer.1"))
        return weight * self.cbr(x, *(f"{name}.expansion_layer.cbr.{index}" for index in range(3)))

    def conv_norm_act(self, x, name: str, stride: int = 1):
        x = self.norm(self.conv(x, f"{name}.conv", stride), f"{name}.bn")
        return self.act(x, f"{name}.act")

    def cbr(self, x, conv: str, norm: str, act: str):
        return self.norm_act(self.conv(x, conv), norm, act)

    def norm_act(self, x, norm: str, act: str):
        return self.act(self.norm(x, norm), act)

    def conv(self, x, name: str, stride: int = 1):
        """With its groups as zeros in the kernel: Keras cannot export grouped ones to ONNX."""
        grouped = self.weights.pop(f"{name}.weight").transpose(2, 3, 1, 0)
        bias = self.weights.pop(f"{name}.bias", None)
        side, _, inputs, outputs = grouped.shape
        groups = x.shape[-1] // inputs
        kernel = np.zeros((side, side, groups, inputs, groups, outputs // groups), np.float32)
        for group, part in enumerate(np.split(grouped, groups, axis=-1)):
            kernel[:, :, group, :, group] = part
        layer = layers.Conv2D(outputs, side, stride, use_bias=bias is not None)
        y = layer(layers.ZeroPadding2D(side // 2)(x))
        kernel = kernel.reshape(side, side, x.shape[-1], outputs)
        layer.set_weights([kernel] if bias is None else [kernel, bias])
        return y

    def depthwise(self, x, name: str, dilation: int = 1):
        layer = layers.DepthwiseConv2D(3, padding="same", dilation_rate=dilation, use_bias=False)
        y = layer(x)
        layer.set_weights([self.weights.pop(f"{name}.weight").transpose(2, 3, 0, 1)])
        return y

    def norm(self, x, name: str):
        layer = layers.BatchNormalization(epsilon=EPSILON)
        y = layer(x)
        parts = ("weight", "bias", "running_mean", "running_var")
        layer.set_weights([self.weights.pop(f"{name}.{part}") for part in parts])
        return y

    def act(self, x, name: str):
        layer = layers.PReLU(shared_axes=[1, 2])
        y = layer(x)
        layer.set_weights([self.weights.pop(f"{name}.weight").reshape(1, 1, -1)])
        return y


def _pool(x):
    """Half the size, as PyTorch's `AvgPool2d(3, 2, padding=1)`, which counts the padding."""
    return layers.AveragePooling2D(3, 2)(layers.ZeroPadding2D(1)(x))


def _resize(x, size):
    """Bilinear resizing that maps corners to corners, which `keras.ops.image` does not have."""
    return _apply(x, [_interpolation(*sides) for sides in zip(x.shape[1:3], size, strict=True)])


def _average(x, size):
    """Means of the `size` parts that the axes are divided into, as `AdaptiveAvgPool2d`."""
    return _apply(x, [_means(*sides) for sides in zip(x.shape[1:3], size, strict=True)])


def _apply(x, matrices: list[np.ndarray]):
    """Multiply rows and columns of features by a matrix each."""
    rows, columns = matrices
    height, width, channels = x.shape[1:]
    x = ops.matmul(rows, ops.reshape(x, (-1, height, width * channels)))
    return ops.matmul(columns, ops.reshape(x, (-1, len(rows), width, channels)))


def _interpolation(source: int, target: int) -> np.ndarray:
    """Weights of the source pixels for each target pixel, float32 `(target, source)`."""
    positions = np.linspace(0, source - 1, target)[:, None]
    return np.maximum(0, 1 - np.abs(positions - np.arange(source))).astype(np.float32)


def _means(source: int, target: int) -> np.ndarray:
    """Weights of the source pixels for each target pixel, float32 `(target, source)`."""
    index = np.arange(target)[:, None]
    first, behind = index * source // target, -(-(index + 1) * source // target)
    pixels = np.arange(source)
    return ((pixels >= first) & (pixels < behind)).astype(np.float32) / (behind - first)
