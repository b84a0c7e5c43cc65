"""Train a network on labelled photos in the CamVid folder layout.

The optimizer is AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019)
with warm-up and cosine decay. The loss favours rare classes and thin objects. An exponential moving
average of all weights is validated and kept.
"""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass

import keras

from models.inputs import InputSize
from models.label_mappings import possible_classes
from models.networks import build_network
from models.networks.efficientnet_lite import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    load_imagenet_weights,
)
from models.packages import ModelPackage, load_package
from models.training.crops import Augmentation, TrainingBatches
from models.training.data import TrainingData, load_data
from models.training.epochs import BEST_WEIGHTS, EpochKeeper
from models.training.losses import class_weights, segmentation_loss
from models.training.settings import TrainingConfig

WARMUP_EPOCHS = 2
"""Epochs over which the learning rate rises from 0."""

WEIGHT_DECAY = 1e-2
"""Decoupled weight decay of kernels; biases and batch normalisation have none."""


@dataclass(frozen=True)
class TrainingResult:
    """The network with the best validated weights, their epoch and their mIoU."""

    network: keras.Model
    epoch: int
    miou: float


def train(config: TrainingConfig) -> TrainingResult:
    """Train a network, resuming a training found in `config.output_dir`.

    The folder gets `log.csv` with a row per epoch, the weights of the best validated epoch, and a
    checkpoint that is replaced after each epoch.

    Raises:
        ValueError: data or initial weights do not fit (before the first step), or a step does not
            fit into memory.
    """
    keras.utils.set_random_seed(config.seed)
    data = load_data(config)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        return _train(config, data)
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        height, width = config.crop
        raise ValueError(
            f"out of memory with {config.batch_size} crops of {width}x{height} in a step: train "
            f"with a smaller batch size (such as {max(1, config.batch_size // 2)}), input or width"
        ) from error
    finally:
        keras.config.set_dtype_policy(policy)


def _train(config: TrainingConfig, data: TrainingData) -> TrainingResult:
    network = build_network(config.architecture, len(config.classes), config.width)
    if config.start_from is not None:
        copy_layers(load_package(config.start_from), network)
    if config.encoder_weights is not None:
        load_imagenet_weights(network, config.encoder_weights)
    if config.freeze_up_to is not None:
        freeze(network, config.freeze_up_to)
    network.compile(
        optimizer=_optimizer(config, max(1, data.photos // config.batch_size)),
        loss=segmentation_loss(
            class_weights(data.shares, config.class_balance),
            config.border_weight,
            config.dice_weight,
            possible_classes(data.targets, len(config.classes)),
        ),
        jit_compile=False,
    )
    network.optimizer.build(network.trainable_variables)
    keeper = EpochKeeper(config, data.validation)
    keeper.set_model(network)
    first_epoch = keeper.resume()
    batches = TrainingBatches(
        data.sets,
        Augmentation(
            InputSize(config.input_width, config.input_height), config.crop, grey=config.grey
        ),
        batch_size=config.batch_size,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        seed=config.seed,
        first_epoch=first_epoch,
        targets=data.targets,
        teachers=data.teachers,
    )
    network.fit(
        batches,
        initial_epoch=first_epoch,
        epochs=first_epoch if keeper.out_of_patience(first_epoch) else config.epochs,
        callbacks=[keeper],
        shuffle=False,
        verbose=1 if sys.stdout.isatty() else 2,
    )
    keeper.averaged.load_weights(config.output_dir / BEST_WEIGHTS)
    return TrainingResult(keeper.averaged, keeper.best_epoch, keeper.best_miou)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; each framework has its own exception for that."""
    said = f"{type(error).__name__} {error}".lower()
    return isinstance(error, MemoryError) or any(
        sign in said for sign in ("resourceexhausted", "resource_exhausted", "out of memory")
    )


def copy_layers(package: ModelPackage, network: keras.Model) -> list[str]:
    """Copy the weights of the layers of `package` that `network` has under the same name and shape.

    Returns:
        Names of the layers of `network` that keep their own weights, such as the last one where the
        classes differ.

    Raises:
        ValueError: no layer fits.
    """
    source = {layer.name: layer.get_weights() for layer in package.build_network().layers}
    kept, copied = [], 0
    for layer in network.layers:
        weights = layer.get_weights()
        found = source.get(layer.name, [])
        if [w.shape for w in found] != [w.shape for w in weights]:
            kept.append(layer.name)
        elif weights:
            layer.set_weights(found)
            copied += 1
    if not copied:
        raise ValueError(
            f"{package.path} is {package.architecture} of width {package.width}; no layer of it "
            f"fits the requested {network.name}. Start from a model of the same architecture and "
            "width"
        )
    return kept


def freeze(network: keras.Model, last: str) -> None:
    """Let all layers up to `last` keep their weights and statistics in a training.

    Raises:
        ValueError: the network has no such layer.
    """
    names = [layer.name for layer in network.layers]
    if last not in names:
        alike = difflib.get_close_matches(last, names) or names[-3:]
        raise ValueError(
            f"{network.name} has no layer {last!r} to freeze its weights up to; it has "
            f"{', '.join(alike)} and others"
        )
    for layer in network.layers[: names.index(last) + 1]:
        layer.trainable = False


def _optimizer(config: TrainingConfig, steps: int) -> keras.optimizers.Optimizer:
    warmup = min(WARMUP_EPOCHS, config.epochs - 1) * steps
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else config.learning_rate,
        decay_steps=config.epochs * steps - warmup,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer
