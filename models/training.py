"""Train a network on labelled photos in the CamVid folder layout.

AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019) with a warm-up and
a cosine decay, a loss for rare classes and thin things, and an exponential moving average of all
weights that is what is validated and kept.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from models.classes import ClassTable
from models.datasets import (
    Augmentation,
    LabelledPhotos,
    TrainingBatches,
    count_classes,
    list_split,
    read_photo,
)
from models.distillation import Teacher
from models.engines import load_engine
from models.evaluation import Metrics, evaluate, measure
from models.inputs import SHAPE_MULTIPLE, normalise
from models.losses import class_weights, segmentation_loss
from models.networks import build_network
from models.networks.efficientnet_lite import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    load_imagenet_weights,
)
from models.packages import ModelPackage, load_package, write_package
from models.segmenter import Segmenter
from models.speed import images_per_second, machine

CROP_SHARE = 0.75
"""Side of a training crop against that of the network's input."""

BEST_WEIGHTS = "best.weights.h5"
LOG = "log.csv"
LOG_COLUMNS = ("epoch", "seconds", "learning_rate", "loss", "val_miou")


@dataclass(frozen=True)
class TrainingConfig:
    """What a training depends on.

    Attributes:
        data_dir: folder in the CamVid layout with the splits `train` and `val`.
        output_dir: folder for checkpoints, log and best weights; a training found here is resumed.
        classes: the classes of the labels, in the order of their ids.
        architecture: name of a network in `models.networks.ARCHITECTURES`.
        width: factor on the network's channel counts.
        encoder_weights: `.npz` file of ImageNet weights, or None to start at random.
        start_from: model package to start from: its layers of the same name and shape.
        teacher: model package that says beside the labels what is in a photo, or None.
        input_height, input_width: nominal size of a photo at inference, multiples of 32; photos
            are validated at it and training crops are cut at scales around it.
        scales: smallest and largest random scale of a training photo.
        batch_size: crops in a step.
        epochs: passes over the training split.
        patience: stop after so many epochs without a better validated mIoU; None: never.
        learning_rate: highest learning rate, at the end of the warm-up.
        warmup_epochs: epochs over which the learning rate rises from 0.
        weight_decay: decoupled weight decay of kernels; biases and normalisation have none.
        class_balance: exponent b of the class weights, frequency ** -b; 0 treats pixels alike,
            1 treats classes alike.
        border_weight: what the weight of a pixel near a class border grows by, as a factor.
        dice_weight: share of the Dice loss beside the cross entropy.
        average_momentum: momentum of the moving average of the weights.
        validate_every: epochs between validations; the last epoch is always validated.
        precision: a Keras dtype policy; the weights stay float32 in all of them.
        seed: seed of initial weights, order and augmentation.
        mean, std: per RGB channel of photos scaled to 0..1; what the network's input is
            normalised by.
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
    scales: tuple[float, float] = (0.6, 1.8)
    batch_size: int = 8
    epochs: int = 40
    patience: int | None = None
    learning_rate: float = 1e-3
    warmup_epochs: int = 2
    weight_decay: float = 1e-2
    class_balance: float = 0.4
    border_weight: float = 1.0
    dice_weight: float = 0.5
    average_momentum: float = 0.995
    validate_every: int = 4
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    seed: int = 0
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @property
    def crop(self) -> tuple[int, int]:
        """(height, width) of a training crop: three quarters of the input, a multiple of 32."""
        height, width = (
            max(SHAPE_MULTIPLE, int(side * CROP_SHARE) // SHAPE_MULTIPLE * SHAPE_MULTIPLE)
            for side in (self.input_height, self.input_width)
        )
        return height, width


@dataclass(frozen=True)
class TrainingResult:
    """The network with the best validated weights, after which epoch, and their metrics."""

    network: keras.Model
    epoch: int
    miou: float


def train(config: TrainingConfig) -> TrainingResult:
    """Train as `config` says, resuming what `config.output_dir` holds.

    The folder gets `log.csv` with a row for each epoch, the weights of the best validated epoch and
    one checkpoint, replaced after each epoch.

    Raises ValueError where the data or the weights to start from do not fit, before the first step,
    and where the memory does not hold a step.
    """
    keras.utils.set_random_seed(config.seed)
    photos = list_split(config.data_dir, "train", len(config.classes))
    validation = list_split(config.data_dir, "val", len(config.classes))
    weights = class_weights(count_classes(photos), config.class_balance)
    # A bad validation label must not stop the training hours later.
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
        Augmentation((config.input_height, config.input_width), config.crop, config.scales),
        batch_size=config.batch_size,
        mean=config.mean,
        std=config.std,
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
    """Whether a framework ran out of memory; each has an exception of its own for that."""
    said = f"{type(error).__name__} {error}".lower()
    return isinstance(error, MemoryError) or any(
        sign in said for sign in ("resourceexhausted", "resource_exhausted", "out of memory")
    )


def copy_layers(package: ModelPackage, network: keras.Model) -> list[str]:
    """Copy the weights of all layers of `package` that `network` has in the same name and shape.

    Returns the names of the layers of `network` that keep their own weights, such as the last one
    where the classes are others. Raises ValueError where no layer fits.
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
            f"{package.path}: is {package.architecture} of width {package.width}; no layer of it "
            f"fits {network.name} as asked for. Start from a model of the same architecture and "
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
    """Write `network` as a model package with the metrics it has on the split `val`.

    The metrics are measured on the package itself: half-precision weights, the engine of this
    machine. `training` says what a user should know of the data, its licence and the training.
    """

    def write(metrics: dict[str, Any]) -> ModelPackage:
        return write_package(
            directory,
            network,
            name=name,
            architecture=config.architecture,
            width=config.width,
            input_height=config.input_height,
            input_width=config.input_width,
            mean=config.mean,
            std=config.std,
            classes=config.classes,
            training=training,
            metrics=metrics,
        )

    package = write({})
    metrics = evaluate(package, config.data_dir, "val").to_dict()
    speed = images_per_second(load_engine(package), config.input_height, config.input_width)
    return write(
        {"split": "val", **metrics, "images_per_second": round(speed, 1), "machine": machine()}
    )


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
    warmup = min(config.warmup_epochs, config.epochs - 1) * steps
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else config.learning_rate,
        decay_steps=config.epochs * steps - warmup,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer


@dataclass(frozen=True, eq=False)
class _NetworkEngine:
    """A network in training as an engine, one photo at a time."""

    network: keras.Model
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    batch_size: int = 1
    streams: int = 1

    def predict(self, images: np.ndarray) -> np.ndarray:
        """See `Engine.predict`."""
        return self.network.predict_on_batch(normalise(images, self.mean, self.std))


class _EpochKeeper(keras.callbacks.Callback):
    """Averages the weights, validates the average, logs, and keeps the best and a checkpoint."""

    def __init__(self, config: TrainingConfig, validation: LabelledPhotos):
        super().__init__()
        self.config = config
        self.validation = validation
        self.averaged = build_network(config.architecture, len(config.classes), config.width)
        self.average: list[np.ndarray] = []
        self.steps = 0
        self.best_epoch, self.best_miou = 0, -1.0
        self.started = 0.0

    def resume(self) -> int:
        """Load the newest checkpoint, if there is one; return the number of epochs done."""
        self.config.output_dir.mkdir(parents=True, exist_ok=True)
        found = sorted(self.config.output_dir.glob("checkpoint-*"))
        found = [path for path in found if path.suffix != ".tmp"]
        if not found:
            self.average = [np.array(weight) for weight in self.model.get_weights()]
            with (self.config.output_dir / LOG).open("w", newline="") as file:
                csv.writer(file).writerow(LOG_COLUMNS)
            return 0
        state = json.loads((found[-1] / "state.json").read_text())
        if state["network"] != self._network():
            raise ValueError(
                f"{self.config.output_dir}: holds a training of {state['network']}, not of "
                f"{self._network()}; resume with the same settings, or start anew elsewhere"
            )
        self.model.load_weights(found[-1] / "network.weights.h5")
        self.averaged.load_weights(found[-1] / "average.weights.h5")
        self.average = [np.array(weight) for weight in self.averaged.get_weights()]
        self.steps = state["steps"]
        self.best_epoch, self.best_miou = state["best_epoch"], state["best_miou"]
        return state["epoch"]

    def out_of_patience(self, epoch: int) -> bool:
        """Whether too many of the `epoch` epochs so far brought nothing better."""
        patience = self.config.patience
        return patience is not None and epoch - self.best_epoch >= patience

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.started = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.steps += 1
        # A young average must not remember the random start for long.
        momentum = min(self.config.average_momentum, (1 + self.steps) / (10 + self.steps))
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
        self._save_checkpoint(done)
        self.model.stop_training = self.out_of_patience(done)
        loss = (logs or {}).get("loss")
        rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        seconds = round(time.monotonic() - self.started, 1)
        with (self.config.output_dir / LOG).open("a", newline="") as file:
            csv.writer(file).writerow([done, seconds, rate, loss, miou])

    def _network(self) -> str:
        config = self.config
        return f"{config.architecture}, width {config.width}, {len(config.classes)} classes"

    def _validate(self) -> Metrics:
        config = self.config

        engine = _NetworkEngine(self.averaged, config.mean, config.std)
        segmenter = Segmenter(engine, config.classes, config.input_width, config.input_height)
        return measure(
            lambda path: segmenter.segment(read_photo(path)).mask, self.validation, config.classes
        )

    def _save_checkpoint(self, epoch: int) -> None:
        """Write the new checkpoint beside the old ones, then remove those."""
        old = list(self.config.output_dir.glob("checkpoint-*"))
        path = self.config.output_dir / f"checkpoint-{epoch:05d}"
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
