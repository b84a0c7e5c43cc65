"""Train a network on labelled photos in the CamVid folder layout.

The optimizer is AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019)
with warm-up and cosine decay. The loss favours rare classes and thin objects. An exponential moving
average of all weights is validated and kept.
"""

from __future__ import annotations

import csv
import json
import logging
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from models import precisions
from models.classes import ClassTable
from models.crops import Augmentation, TrainingBatches
from models.distillation import Teacher
from models.engines import EngineError, Precision, load_engine
from models.evaluation import Metrics, evaluate, measure
from models.inputs import SHAPE_MULTIPLE, InputSize, normalise
from models.labelled_photos import LabelledPhotos, count_classes, list_split, read_photo
from models.losses import class_weights, segmentation_loss
from models.meanings import Common
from models.networks import build_network
from models.networks.efficientnet_lite import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    load_imagenet_weights,
)
from models.packages import ModelDescription, ModelPackage, load_package, write_package
from models.segmenter import Segmenter
from models.speed import images_per_second, machine

logger = logging.getLogger(__name__)

CROP_SHARE = 0.75
"""Side length of a training crop, as a fraction of the network input's."""

WARMUP_EPOCHS = 2
"""Epochs over which the learning rate rises from 0."""

WEIGHT_DECAY = 1e-2
"""Decoupled weight decay of kernels; biases and batch normalisation have none."""

AVERAGE_MOMENTUM = 0.995
"""Momentum of the moving average of the weights, after its own warm-up."""

BEST_WEIGHTS = "best.weights.h5"
LOG = "log.csv"
LOG_COLUMNS = ("epoch", "seconds", "learning_rate", "loss", "val_miou")
"""Columns of the log; epochs count from 1, and `val_miou` is empty without a validation."""

CHECKPOINT = "checkpoint-"
"""Start of the name of a checkpoint's folder; the number of finished epochs follows."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training.

    Attributes:
        data_dir: folder in the CamVid layout with the splits `train` and `val`.
        output_dir: folder for checkpoint, log and best weights; a training found here is resumed.
        classes: the classes of the labels, in the order of their ids.
        architecture: name of a network in `models.networks.ARCHITECTURES`.
        width: factor on the network's channel counts.
        encoder_weights: `.npz` file of ImageNet weights, or None for random initial weights.
        start_from: model package whose layers of the same name and shape are the initial weights.
        teacher: model package for distillation, or None.
        input_height: nominal height of the network input, a multiple of 32. Photos are validated at
            the nominal size, and training crops are cut at random scales around it.
        input_width: nominal width of the network input, a multiple of 32.
        batch_size: crops in a step.
        epochs: passes over the training split.
        patience: stop after this many epochs without a better validated mIoU; None: never.
        learning_rate: highest learning rate, at the end of the warm-up.
        class_balance: exponent b of the class weights, frequency ** -b: 0 weights all pixels alike,
            1 all classes.
        border_weight: additional weight of a pixel near a class border, as a factor.
        dice_weight: factor on the Dice loss, which is added to the cross entropy.
        validate_every: epochs between validations; the last epoch is always validated.
        precision: a Keras dtype policy; the weights are float32 in all of them.
        seed: seed of initial weights, order of photos and augmentation.
    """

    data_dir: Path
    output_dir: Path
    classes: ClassTable
    architecture: str = "efficientnet_fpn"
    width: float = 1.0
    encoder_weights: Path | None = None
    start_from: str | None = None
    teacher: str | None = None
    input_height: int = 384
    input_width: int = 512
    batch_size: int = 8
    epochs: int = 40
    patience: int | None = None
    learning_rate: float = 1e-3
    class_balance: float = 0.4
    border_weight: float = 1.0
    dice_weight: float = 0.5
    validate_every: int = 4
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    seed: int = 0

    @property
    def crop(self) -> tuple[int, int]:
        """(height, width) of a training crop: `CROP_SHARE` of the input, in multiples of 32."""
        height, width = (
            max(SHAPE_MULTIPLE, int(side * CROP_SHARE) // SHAPE_MULTIPLE * SHAPE_MULTIPLE)
            for side in (self.input_height, self.input_width)
        )
        return height, width


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
    photos = list_split(config.data_dir, "train", len(config.classes))
    validation = list_split(config.data_dir, "val", len(config.classes))
    weights = class_weights(count_classes(photos), config.class_balance)
    # Reads all labels, so that a bad one is found now and not at the first validation.
    count_classes(validation)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        return _train(config, photos, validation, weights)
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


def _train(
    config: TrainingConfig, photos: LabelledPhotos, validation: LabelledPhotos, weights: np.ndarray
) -> TrainingResult:
    network = build_network(config.architecture, len(config.classes), config.width)
    if config.encoder_weights is not None:
        load_imagenet_weights(network, config.encoder_weights)
    if config.start_from is not None:
        copy_layers(load_package(config.start_from), network)
    network.compile(
        optimizer=_optimizer(config, max(1, len(photos) // config.batch_size)),
        loss=segmentation_loss(weights, config.border_weight, config.dice_weight),
        jit_compile=False,
    )
    network.optimizer.build(network.trainable_variables)
    keeper = _EpochKeeper(config, validation)
    keeper.set_model(network)
    first_epoch = keeper.resume()
    batches = TrainingBatches(
        photos,
        Augmentation((config.input_height, config.input_width), config.crop),
        batch_size=config.batch_size,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        seed=config.seed,
        first_epoch=first_epoch,
        teacher=Teacher(config.teacher, config.classes) if config.teacher else None,
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


def write_trained_package(
    directory: str | Path,
    network: keras.Model,
    config: TrainingConfig,
    name: str,
    training: dict[str, Any],
) -> ModelPackage:
    """Write `network` as a model package with its metrics on the split `val`.

    The metrics are those of the package itself: with its half-precision weights, by the engine of
    this machine.

    Args:
        directory: the package's folder.
        network: the trained network.
        config: the settings of its training.
        name: of the package.
        training: data, licence and other facts of the training for users.
    """

    description = ModelDescription(
        name=name,
        architecture=config.architecture,
        width=config.width,
        input_height=config.input_height,
        input_width=config.input_width,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        classes=config.classes,
        training=training,
        metrics={},
    )
    package = write_package(directory, network, description)
    metrics = evaluate(package, config.data_dir, "val")
    measured = metrics.to_dict()
    try:
        lost = precisions.losses(package, config.data_dir, "val", metrics, [Precision.BF16])
    except EngineError as error:
        lost = {}
        logger.info("What bf16 loses is not measured, so that auto does not take it: %s", error)
    speed = images_per_second(load_engine(package), config.input_height, config.input_width)
    measured |= {"images_per_second": round(speed, 1), "machine": machine()}
    metrics_of_val = {"split": "val", **measured}
    described = replace(description, metrics=metrics_of_val, precisions=lost)
    return write_package(directory, network, described)


def draw_curves(log: str | Path, path: str | Path) -> None:
    """Draw loss and validated mIoU over the epochs of a training's `log.csv`."""
    from matplotlib.figure import Figure

    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    epochs = [int(row["epoch"]) for row in rows]
    axes.plot(epochs, [float(row["loss"]) for row in rows], color="tab:blue", label="loss")
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")
    validated = [row for row in rows if row["val_miou"]]
    right = axes.twinx()
    right.plot(
        [int(row["epoch"]) for row in validated],
        [float(row["val_miou"]) for row in validated],
        "o--",
        color="tab:orange",
        label="val mIoU",
    )
    right.set_ylabel("val mIoU")
    right.set_ylim(0, 1)
    figure.legend(loc="outside upper center", ncols=2)
    figure.savefig(path, dpi=120)


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


@dataclass(frozen=True, eq=False)
class _NetworkEngine:
    """A network in training as an engine, one photo at a time."""

    network: keras.Model
    batch_size: int = 1
    streams: int = 1
    precision: Precision = Precision.F32

    def predict(self, images: np.ndarray) -> np.ndarray:
        """See `Engine.predict`."""
        return self.network.predict_on_batch(normalise(images, IMAGENET_MEAN, IMAGENET_STD))


class _EpochKeeper(keras.callbacks.Callback):
    """Averages the weights, validates the average, and writes log, best weights and checkpoint.

    Keras' own callbacks would lose something here:

    - `use_ema` of its optimizers has a constant momentum and leaves out the statistics of batch
      normalisation. In 12 epochs on CamVid at 160x128, that average had an mIoU of 0.19 after 6
      epochs and 0.52 at the end; the one below, with a warm-up, had 0.36 and 0.54.
    - `BackupAndRestore` overwrites the weights, and then the epoch's number in a second file. After
      a kill between the two, an epoch is trained twice.
    - `EarlyStopping` and `ModelCheckpoint` forget the best epoch when a training is resumed.
    - `CSVLogger` fixes its columns at the first epoch, which may have no validation.
    """

    def __init__(self, config: TrainingConfig, validation: LabelledPhotos):
        super().__init__()
        self.config = config
        self.validation = validation
        self.averaged = build_network(config.architecture, len(config.classes), config.width)
        self.average: list[np.ndarray] = []
        self.steps = 0
        self.best_epoch, self.best_miou = 0, -1.0
        self.started = 0.0
        self.log: list[dict[str, Any]] = []

    def resume(self) -> int:
        """Load the newest checkpoint, if there is one; return the number of finished epochs.

        Raises:
            ValueError: the checkpoint is that of another network.
        """
        folder = self.config.output_dir
        folder.mkdir(parents=True, exist_ok=True)
        found = sorted(path for path in folder.glob(f"{CHECKPOINT}*") if path.suffix != ".tmp")
        if not found:
            self.average = [np.array(weight) for weight in self.model.get_weights()]
            return 0
        state = json.loads((found[-1] / "state.json").read_text())
        if state["network"] != self._network():
            raise ValueError(
                f"{folder} holds a training of {state['network']}, not of {self._network()}; "
                "resume with the same settings, or train into another folder"
            )
        self.model.load_weights(found[-1] / "network.weights.h5")
        self.averaged.load_weights(found[-1] / "average.weights.h5")
        self.average = [np.array(weight) for weight in self.averaged.get_weights()]
        self.steps = state["steps"]
        self.best_epoch, self.best_miou = state["best_epoch"], state["best_miou"]
        # The log is written first, so it may have a row more than the checkpoint.
        with (folder / LOG).open(newline="") as file:
            rows = list(csv.DictReader(file))
        self.log = [row for row in rows if int(row["epoch"]) <= state["epoch"]]
        return state["epoch"]

    def out_of_patience(self, epoch: int) -> bool:
        """Whether the last of `epoch` epochs brought no better mIoU for too long."""
        patience = self.config.patience
        return patience is not None and epoch - self.best_epoch >= patience

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.started = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.steps += 1
        # A young average must not keep the random initial weights for long.
        momentum = min(AVERAGE_MOMENTUM, (1 + self.steps) / (10 + self.steps))
        for average, weight in zip(self.average, self.model.get_weights(), strict=True):
            average += (1 - momentum) * (weight - average)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        done = epoch + 1
        self.averaged.set_weights(self.average)
        miou: float | str = ""
        if done % self.config.validate_every == 0 or done == self.config.epochs:
            miou = self._validate().miou
            if logs is not None:
                logs["val_miou"] = miou  # For the progress bar, which comes after this callback.
            if miou > self.best_miou:
                self.best_epoch, self.best_miou = done, miou
                self.averaged.save_weights(self.config.output_dir / BEST_WEIGHTS)
        loss = (logs or {}).get("loss")
        rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        seconds = round(time.monotonic() - self.started, 1)
        row = (done, seconds, rate, loss, miou)
        self.log.append(dict(zip(LOG_COLUMNS, row, strict=True)))
        with (self.config.output_dir / LOG).open("w", newline="") as file:
            writer = csv.DictWriter(file, LOG_COLUMNS)
            writer.writeheader()
            writer.writerows(self.log)
        self._save_checkpoint(done)
        self.model.stop_training = self.out_of_patience(done)

    def _network(self) -> str:
        config = self.config
        return f"{config.architecture}, width {config.width}, {len(config.classes)} classes"

    def _validate(self) -> Metrics:
        config = self.config

        engine = _NetworkEngine(self.averaged)
        size = InputSize(config.input_width, config.input_height)
        segmenter = Segmenter(engine, config.classes, size)
        return measure(
            lambda path: segmenter.segment(read_photo(path)).mask,
            self.validation,
            Common.of(config.classes, config.classes),
        )

    def _save_checkpoint(self, epoch: int) -> None:
        """Write the new checkpoint under a temporary name, rename it, and remove the old ones."""
        old = list(self.config.output_dir.glob(f"{CHECKPOINT}*"))
        path = self.config.output_dir / f"{CHECKPOINT}{epoch:05d}"
        unfinished = path.with_suffix(".tmp")
        unfinished.mkdir(exist_ok=True)
        self.model.save_weights(unfinished / "network.weights.h5")
        self.averaged.save_weights(unfinished / "average.weights.h5")
        state = {
            "network": self._network(),
            "epoch": epoch,
            "steps": self.steps,
            "best_epoch": self.best_epoch,
            "best_miou": self.best_miou,
        }
        (unfinished / "state.json").write_text(json.dumps(state))
        unfinished.rename(path)
        for folder in old:
            shutil.rmtree(folder)
