"""What is kept of a training, epoch by epoch: averaged weights, log, best weights, checkpoint."""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from models.engines import Precision
from models.evaluation import measure
from models.inputs import InputSize, normalise
from models.labelled_photos import LabelledPhotos, read_photo
from models.meanings import Common
from models.networks import build_network
from models.networks.efficientnet_lite import IMAGENET_MEAN, IMAGENET_STD
from models.segmenter import Segmenter
from models.training.settings import TrainingConfig

AVERAGE_MOMENTUM = 0.998
"""Momentum of the moving average of the weights, after its own warm-up."""

BEST_WEIGHTS = "best.weights.h5"
LOG = "log.csv"
VAL_MIOU = "val_miou"
LOG_COLUMNS = ("epoch", "seconds", "learning_rate", "loss")
"""First columns of the log; epochs count from 1. `val_miou` follows, the mean over the data sets,
and with several of them a column for each, such as `val_miou_camvid`. They are empty without a
validation."""

CHECKPOINT = "checkpoint-"
"""Start of the name of a checkpoint's folder; the number of finished epochs follows."""


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


class EpochKeeper(keras.callbacks.Callback):
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

    def __init__(self, config: TrainingConfig, validation: Sequence[LabelledPhotos]):
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
        scores: dict[str, float] = {}
        if done % self.config.validate_every == 0 or done == self.config.epochs:
            scores = self._validate()
            miou = scores[VAL_MIOU]
            if logs is not None:
                logs |= scores  # For the progress bar, which comes after this callback.
            if miou > self.best_miou:
                self.best_epoch, self.best_miou = done, miou
                self.averaged.save_weights(self.config.output_dir / BEST_WEIGHTS)
        loss = (logs or {}).get("loss")
        rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        seconds = round(time.monotonic() - self.started, 1)
        facts = zip(LOG_COLUMNS, (done, seconds, rate, loss), strict=True)
        self.log.append({**dict(facts), **scores})
        with (self.config.output_dir / LOG).open("w", newline="") as file:
            writer = csv.DictWriter(file, (*LOG_COLUMNS, VAL_MIOU, *self._columns_of_sets()))
            writer.writeheader()
            writer.writerows(self.log)
        self._save_checkpoint(done)
        self.model.stop_training = self.out_of_patience(done)

    def _network(self) -> str:
        config = self.config
        return f"{config.architecture}, width {config.width}, {len(config.classes)} classes"

    def _columns_of_sets(self) -> list[str]:
        names = [data.name for data in self.config.data]
        return [f"{VAL_MIOU}_{name}" for name in names] if len(names) > 1 else []

    def _validate(self) -> dict[str, float]:
        """The mIoU of the averaged weights by column of the log."""
        config = self.config
        size = InputSize(config.input_width, config.input_height)
        segmenter = Segmenter(_NetworkEngine(self.averaged), config.classes, size)
        mious = [
            measure(
                lambda path: segmenter.segment(read_photo(path)).mask,
                photos,
                Common.of_targets(config.classes, photos.targets),
            ).miou
            for photos in self.validation
        ]
        of_sets = dict(zip(self._columns_of_sets(), mious, strict=False))
        return {VAL_MIOU: float(np.mean(mious)), **of_sets}

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
