"""`citymask train`: from labelled photos to a model package."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from models.classes import ClassTable
from models.engines import EngineError, devices
from models.label_mappings import LabelMapping
from models.networks import ARCHITECTURES
from models.packages import limits
from pipeline import console, streams
from pipeline.commands.common import Refused, Size, class_table
from pipeline.commands.data_sets import DataSet, data_option
from transforms.storage import StorageError


@click.command()
@click.argument("architecture", type=click.Choice(sorted(ARCHITECTURES)))
@data_option(
    "Folder in the CamVid layout; may be given more than once. MAPPING.csv states what its labels "
    "say in the classes; WEIGHT is how often its photos are taken, relative to other data sets.",
    has_weight=True,
)
@click.option("--output", "-o", required=True, metavar="MODEL_DIR", help="Model package to write.")
@click.option(
    "--classes", metavar="NAME_OR_FILE",
    help="A class set, such as cityscapes, or a CSV file. Default: classes.csv in the first DIR, "
    "else camvid.",
)  # fmt: skip
@click.option("--encoder-weights", metavar="FILE", help="ImageNet weights of the encoder (.npz).")
@click.option("--start-from", metavar="NAME_OR_PATH", help="Model whose layers to start from.")
@click.option(
    "--freeze-up-to", metavar="LAYER",
    help="This layer and all before it keep the weights they start with, which is faster.",
)  # fmt: skip
@click.option(
    "--teacher", "teachers", multiple=True, metavar="MODEL[:MAPPING.csv]",
    help="Model to learn from beside the labels (distillation); may be given more than once. A "
    "model of other classes needs MAPPING.csv, whose values are its class ids.",
)  # fmt: skip
@click.option(
    "--unlabelled", multiple=True, metavar="DIR",
    help="Folder of photos that only the teachers label; may be given more than once.",
)  # fmt: skip
@click.option(
    "--unlabelled-weight", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
    help="How often the photos of such a folder are taken, relative to the data sets.",
)  # fmt: skip
@click.option(
    "--width", type=click.FloatRange(*limits("width")), default=1.0, show_default=True,
    help="Channel factor.",
)  # fmt: skip
@click.option(
    "--input-size", type=Size(), default="512x384", show_default=True, metavar="WxH",
    help="Size a photo is brought to for the network, multiples of 32.",
)  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), default=40, show_default=True)
@click.option(
    "--patience", type=click.IntRange(1), metavar="EPOCHS",
    help="Stop after so many epochs without a better mIoU on val.",
)  # fmt: skip
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True)
@click.option(
    "--learning-rate", type=click.FloatRange(0, min_open=True), default=1e-3, show_default=True
)
@click.option(
    "--class-balance", type=click.FloatRange(0, 1), default=0.4, show_default=True,
    help="0 weights all pixels alike, 1 all classes.",
)  # fmt: skip
@click.option(
    "--border-weight", type=click.FloatRange(0), default=1.0, show_default=True,
    help="Extra weight of the pixels near a class border.",
)  # fmt: skip
@click.option(
    "--dice-weight", type=click.FloatRange(0), default=0.5, show_default=True,
    help="Weight of the Dice loss beside the cross entropy.",
)  # fmt: skip
@click.option(
    "--grey", type=click.FloatRange(0, 1), default=0.05, show_default=True,
    help="Share of the photos that are made grey.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(["float32", "mixed_bfloat16", "mixed_float16"]),
    default="float32", show_default=True,
)  # fmt: skip
@click.option(
    "--validate-every", type=click.IntRange(1), default=4, show_default=True, metavar="EPOCHS"
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--licence", default="as the data's", help="Licence of the data, for the package.")
@click.option("--resume", is_flag=True, help="Go on with a training that was stopped.")
@click.option("--force", is_flag=True, help="Overwrite what is in MODEL_DIR.")
def train(
    architecture: str,
    data: tuple[DataSet, ...],
    output: str,
    classes: str | None,
    encoder_weights: str | None,
    teachers: tuple[str, ...],
    unlabelled: tuple[str, ...],
    input_size: tuple[int, int],
    licence: str,
    resume: bool,
    force: bool,
    **settings: Any,
) -> None:
    """Train a network on labelled photos and write a model package.

    DIR holds train/NAME.png, trainannot/NAME.png (class ids), val/ and valannot/ alike, and
    classes.csv with the columns name,red,green,blue and perhaps label_id. MAPPING.csv has the
    columns value,class or red,green,blue,class, and perhaps also: a row per label value.
    MODEL_DIR also gets training/log.csv and curves.png.
    """
    console.set_up_logging(console.NORMAL)
    streams.results_are_in_files()
    try:
        devices.import_backend()
    except EngineError as error:
        raise Refused(str(error)) from error
    from models import training

    work = Path(output, "training")
    if unlabelled and not teachers:
        raise Refused(
            "--unlabelled goes with --teacher, which labels these photos: state a teacher"
        )
    if settings["freeze_up_to"] and not (encoder_weights or settings["start_from"]):
        raise Refused(
            "--freeze-up-to would keep random weights: state --start-from or --encoder-weights"
        )
    if force:
        shutil.rmtree(work, ignore_errors=True)
    elif Path(output).exists() and not resume:
        raise Refused(
            f"{output} exists: --resume continues the training there, --force starts over"
        )
    try:
        table = class_table(data[0].folder, classes)
        for each in data:
            each.check_classes(table)
        config = training.TrainingConfig(
            data=tuple(
                training.DataSet(
                    each.name, Path(each.folder), _mapping(each.mapping, table), each.weight
                )
                for each in data
            ),
            output_dir=work,
            classes=table,
            architecture=architecture,
            encoder_weights=Path(encoder_weights) if encoder_weights else None,
            teachers=tuple(_teacher(each, table) for each in teachers),
            unlabelled=tuple(map(Path, unlabelled)),
            input_width=input_size[0],
            input_height=input_size[1],
            **settings,
        )
        trained = training.train(config)
        description = {
            "data": ", ".join(f"{each.folder}, split train" for each in data),
            "licence": licence,
            "start_from": config.start_from,
            "teachers": list(teachers),
            "unlabelled": list(unlabelled),
            "commands": [f"citymask {shlex.join(sys.argv[1:])}"],
            "seed": config.seed,
            "epochs": config.epochs,
            "best_epoch": trained.epoch,
        }
        name = Path(output).resolve().name
        package = training.write_trained_package(output, trained.network, config, name, description)
        training.draw_curves(work / training.LOG, Path(output, "curves.png"))
    except (ValueError, OSError, EngineError, StorageError) as error:
        raise Refused(str(error)) from error
    miou = package.metrics["miou"]
    console.say(f"{output}: mIoU {miou:.4f} on val, after {trained.epoch} epochs")


def _mapping(path: str | None, classes: ClassTable) -> LabelMapping | None:
    return None if path is None else LabelMapping.read(path, classes)


def _teacher(text: str, classes: ClassTable) -> Any:
    """A teacher as a user states it: MODEL or MODEL:MAPPING.csv."""
    from models.training import TeacherModel

    model, colon, mapping = text.rpartition(":")
    if not colon or not mapping.endswith(".csv"):
        return TeacherModel(text)
    return TeacherModel(model, LabelMapping.read(mapping, classes))
