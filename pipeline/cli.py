"""The command line: `citymask run`, `train`, `evaluate` and `models`."""

import json
import os
import re
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click

from models.classes import ClassTable
from models.engines import import_tensorflow
from models.inputs import SHAPE_MULTIPLE
from models.networks import ARCHITECTURES
from models.packages import ModelPackage, PackageError, load_package, shipped_names
from pipeline import __version__, console
from pipeline import run as runs
from pipeline.beam_options import pipeline_options, split_arguments
from pipeline.evaluation import evaluate_masks
from pipeline.signals import RaiseOnSignal, StopOnSignal
from transforms import columns
from transforms.locking import LockedError
from transforms.photos import DEFAULT_MAX_PIXELS
from transforms.planning import DEFAULT_UNIT_SIZE
from transforms.segmenting import DEFAULT_BATCH_SIZE

CLASS_FILE = "classes.csv"
"""The class table beside labelled photos."""

EXIT_UNEXPECTED = 1
EXIT_CONFIGURATION = 2
EXIT_TOO_MANY_FAILURES = 3
EXIT_LOCKED = 4
EXIT_SIGNAL = 128
"""What a shell adds to the number of the signal that ended a program."""


class _Refused(click.ClickException):
    """One clear line, and the exit code of wrong usage or configuration."""

    exit_code = EXIT_CONFIGURATION


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="citymask")
def cli() -> None:
    """Turn a city's image archive into class masks and per-class pixel statistics."""


class _Share(click.ParamType):
    """A share from 0 to 1, also written as a percentage."""

    name = "share"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        text = str(value)
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            self.fail(f"{text!r} is not a share from 0 to 1 or a percentage such as 5%", param, ctx)
        return share


class _Size(click.ParamType):
    """Width and height in pixels, multiples of what networks ask for."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        found = re.fullmatch(r"(\d+)x(\d+)", str(value))
        size = (int(found[1]), int(found[2])) if found else (0, 0)
        if not all(size) or any(side % SHAPE_MULTIPLE for side in size):
            self.fail(
                f"{value!r} is not WIDTHxHEIGHT in multiples of {SHAPE_MULTIPLE}, such as 512x384",
                param, ctx,
            )  # fmt: skip
        return size


class _RunCommand(click.Command):
    """A command whose line may also hold any option of Beam."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not {"-h", "--help"} & set(args):
            args, ctx.obj = split_arguments(args)
        return super().parse_args(ctx, args)


@cli.command(cls=_RunCommand)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--output", "-o", required=True, metavar="OUT", help="Folder for all results.")
@click.option(
    "--model", default="default", show_default=True, metavar="NAME_OR_PATH",
    help="A shipped model or the folder of a model package.",
)  # fmt: skip
@click.option("--overlay", is_flag=True, help="Write a blended JPEG beside each mask.")
@click.option(
    "--confidence", is_flag=True,
    help="Write an 8-bit confidence image beside each mask, and mean confidences into the rows.",
)  # fmt: skip
@click.option(
    "--max-failures", type=_Share(), metavar="SHARE",
    help="Exit with 3 if more than this share of the images failed, e.g. 0.05 or 5%. "
    "Default: only if all failed.",
)  # fmt: skip
@click.option(
    "--max-pixels", type=click.IntRange(1), default=DEFAULT_MAX_PIXELS, show_default=True,
    help="Refuse photos that claim more pixels.",
)  # fmt: skip
@click.option(
    "--batch-size", type=click.IntRange(1), default=DEFAULT_BATCH_SIZE, show_default=True,
    help="Photos per call of the network.",
)  # fmt: skip
@click.option(
    "--unit-size", type=click.IntRange(1), default=DEFAULT_UNIT_SIZE, show_default=True,
    help="Most images per work unit: the grain of commit and resume.",
)  # fmt: skip
@click.option(
    "--label-ids", is_flag=True,
    help="Write masks with the label ids of the classes' data set in place of 0, 1, 2, ...",
)  # fmt: skip
@click.option(
    "--merge", metavar="FILE.csv",
    help="Count merged classes as well; the columns class,merged say what goes into what.",
)  # fmt: skip
@click.option("--quiet", "-q", is_flag=True, help="Print errors only.")
@click.option("--verbose", "-v", is_flag=True, help="Print what libraries say, too.")
@click.pass_obj
def run(
    beam_arguments: dict[str, Any],
    inputs: tuple[str, ...],
    max_failures: float | None,
    quiet: bool,
    verbose: bool,
    **request: Any,
) -> None:
    """Segment the images of INPUT... into masks and statistics under OUT.

    INPUT is a directory (searched recursively), a glob pattern, an image, a .tar or .tfrecord
    shard, or a .csv, .parquet or .txt manifest. Images that are done already are skipped. All
    options of Apache Beam's runners are accepted as well (--runner, --direct_num_workers, ...).
    """
    level = console.VERBOSE if verbose else console.QUIET if quiet else console.NORMAL
    console.set_up_logging(level)
    started, start = runs.utc_now(), time.monotonic()
    run_id = runs.new_run_id(started)
    try:
        with runs.prepared(runs.RunRequest(inputs=inputs, **request), run_id) as (job, notes):
            for note in notes:
                console.logger.info("%s", note)
            with StopOnSignal(job.options.output) as stop, console.ProgressMonitor(level):
                result = runs.execute(job, pipeline_options(beam_arguments))
            seconds = time.monotonic() - start
            record = runs.make_record(job, beam_arguments, result, started, seconds)
            runs.write_record(record, job.options.output)
    except LockedError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_LOCKED)
    except (runs.ConfigurationError, PackageError) as error:
        raise _Refused(_first_line(error)) from error
    images, output = record["images"], job.options.output
    if not quiet:
        summary = json.loads(Path(output, columns.SUMMARY_JSON).read_text("utf-8"))
        console.print_closing_table(summary, record)
        click.echo(f"Results in {output}")
        if images["failed"]:
            failures = os.path.join(output, columns.FAILURES)
            click.echo(f"What failed, and why, is in {failures}")
    if stop.received:
        left = f"{images['left']} images are left for the next run"
        click.echo(f"Interrupted ({stop.received.name}): {left}", err=True)
        sys.exit(EXIT_SIGNAL + stop.received)
    share = images["failed"] / (images["done"] + images["failed"] + images["skipped"] or 1)
    if share > max_failures if max_failures is not None else share == 1:
        click.echo(f"Error: {images['failed']} images failed, {share:.1%} of all", err=True)
        sys.exit(EXIT_TOO_MANY_FAILURES)


@cli.command()
@click.argument("architecture", type=click.Choice(sorted(ARCHITECTURES)), metavar="ARCHITECTURE")
@click.option("--data", required=True, metavar="DIR", help="Folder in the CamVid layout.")
@click.option("--output", "-o", required=True, metavar="MODEL_DIR", help="Model package to write.")
@click.option(
    "--classes", metavar="NAME_OR_FILE",
    help="camvid, cityscapes, ade20k or a CSV file. Default: DIR/classes.csv, else camvid.",
)  # fmt: skip
@click.option("--encoder-weights", metavar="FILE", help="ImageNet weights of the encoder (.npz).")
@click.option("--start-from", metavar="NAME_OR_PATH", help="Model whose layers to start from.")
@click.option(
    "--teacher", metavar="NAME_OR_PATH",
    help="Model to learn from beside the labels (distillation).",
)  # fmt: skip
@click.option("--width", type=float, default=1.0, show_default=True, help="Channel factor.")
@click.option(
    "--input-size", type=_Size(), default="512x384", show_default=True, metavar="WxH",
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
    data: str,
    output: str,
    classes: str | None,
    encoder_weights: str | None,
    input_size: tuple[int, int],
    licence: str,
    resume: bool,
    force: bool,
    **settings: Any,
) -> None:
    """Train ARCHITECTURE on labelled photos and write a model package.

    ARCHITECTURE is one of deeplab_largefov, efficientnet_fpn, fcn8s, fcn16s, fcn32s, segnet, unet.

    DIR holds train/NAME.png, trainannot/NAME.png (class ids), val/ and valannot/ alike, and
    classes.csv with the columns name,red,green,blue and perhaps label_id.
    MODEL_DIR also gets training/log.csv and curves.png.
    """
    console.set_up_logging(console.NORMAL)
    import_tensorflow()
    from models.training import LOG, TrainingConfig, draw_curves, write_trained_package
    from models.training import train as run_training

    work = Path(output, "training")
    if force:
        shutil.rmtree(work, ignore_errors=True)
    elif Path(output).exists() and not resume:
        raise _Refused(
            f"{output} exists: --resume goes on with the training there, --force starts anew"
        )
    try:
        config = TrainingConfig(
            data_dir=Path(data),
            output_dir=work,
            classes=_class_table(data, classes),
            architecture=architecture,
            encoder_weights=Path(encoder_weights) if encoder_weights else None,
            input_width=input_size[0],
            input_height=input_size[1],
            **settings,
        )
        trained = run_training(config)
        description = {
            "data": f"{data}, split train",
            "licence": licence,
            "start_from": config.start_from,
            "teacher": config.teacher,
            "commands": [f"citymask {shlex.join(sys.argv[1:])}"],
            "seed": config.seed,
            "epochs": config.epochs,
            "best_epoch": trained.epoch,
        }
        name = Path(output).resolve().name
        package = write_trained_package(output, trained.network, config, name, description)
        draw_curves(work / LOG, Path(output, "curves.png"))
    except (ValueError, OSError) as error:
        raise _Refused(str(error)) from error
    click.echo(f"{output}: mIoU {package.metrics['miou']:.4f} on val, after {trained.epoch} epochs")


@cli.command(cls=_RunCommand)
@click.option(
    "--model", metavar="NAME_OR_PATH",
    help="Segment the photos with this model. Default: the one that comes with citymask.",
)  # fmt: skip
@click.option(
    "--masks", multiple=True, metavar="MASKS",
    help="Take these masks instead; may be given more than once.",
)  # fmt: skip
@click.option("--data", required=True, metavar="DIR", help="Folder in the CamVid layout.")
@click.option("--split", default="val", show_default=True, metavar="S")
@click.option("--json", "json_file", type=click.Path(), metavar="FILE", help="Write metrics there.")
@click.option(
    "--confusion", type=click.Path(), metavar="FILE.csv",
    help="Write the confusion matrix there, and a chart of it beside it.",
)  # fmt: skip
@click.pass_obj
def evaluate(
    beam_arguments: dict[str, Any],
    model: str | None,
    masks: tuple[str, ...],
    data: str,
    split: str,
    json_file: str | None,
    confusion: str | None,
) -> None:
    """Measure a model on labelled photos, or masks that are there, at the labels' own size.

    MASKS is a directory (searched recursively), a glob pattern, a .tar or .tfrecord shard, or a
    manifest of index masks: PNG images of class ids, 255 for no class. A mask belongs to the label
    of its name. The classes are those of DIR/classes.csv, else CamVid's. All options of Apache
    Beam's runners are accepted with --masks.
    """
    if masks and model:
        raise _Refused("--masks and --model exclude each other: give the one to be measured")
    if beam_arguments and not masks:
        raise _Refused(f"Beam's options ({', '.join(beam_arguments)}) go with --masks only")
    console.set_up_logging(console.NORMAL)
    try:
        if masks:
            options = pipeline_options(beam_arguments)
            metrics = evaluate_masks(masks, data, split, _class_table(data), options)
        else:
            import_tensorflow()
            from models.evaluation import evaluate as measure

            package = load_package(model or "default")
            _check_classes(package, data)
            metrics = measure(package, data, split)
        if json_file:
            document = json.dumps(metrics.to_dict(), indent=2) + "\n"
            Path(json_file).write_text(document, encoding="utf-8")
        if confusion:
            metrics.write_confusion_csv(confusion)
            metrics.write_confusion_chart(Path(confusion).with_suffix(".png"))
    except (ValueError, OSError) as error:
        raise _Refused(_first_line(error)) from error
    console.print_metrics(metrics)


@cli.command()
def models() -> None:
    """List the models that come with citymask."""
    console.print_models([load_package(name) for name in shipped_names()])


def _class_table(data: str, classes: str | None = None) -> ClassTable:
    """The classes of labelled photos: those asked for, else what stands beside them, else CamVid's.

    Raises ValueError or OSError where the table is missing or wrong.
    """
    beside = Path(data, CLASS_FILE)
    return ClassTable.load(classes or (beside if beside.exists() else "camvid"))


def _check_classes(package: ModelPackage, data: str) -> None:
    """Raise ValueError where labelled photos say that their classes are not those of the model."""
    file = Path(data, CLASS_FILE)
    names = ClassTable.read(file).names if file.exists() else package.classes.names
    if names != package.classes.names:
        raise ValueError(
            f"{file}: the labels have the classes {', '.join(names)}, the model {package.name} has "
            f"{', '.join(package.classes.names)}; take labels and a model of the same classes"
        )


def main() -> None:
    """Run the command line; whatever goes wrong ends with one line and the contract's exit code."""
    signals = RaiseOnSignal()
    try:
        sys.exit(cli.main(prog_name="citymask", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (Exception, KeyboardInterrupt) as error:
        if signals.received:
            click.echo(
                f"Interrupted ({signals.received.name}); the next run goes on from what is "
                "committed.", err=True
            )  # fmt: skip
            sys.exit(EXIT_SIGNAL + signals.received)
        if {"--verbose", "-v"} & set(sys.argv):
            raise
        click.echo(
            f"Error: {type(error).__name__}: {_first_line(error)}\n"
            "Run with --verbose to see where.", err=True
        )  # fmt: skip
        sys.exit(EXIT_UNEXPECTED)


def _first_line(error: BaseException) -> str:
    """What an error says, without what Beam adds on where it was raised."""
    message = str(error).strip().split(" [while running")[0]
    return next(iter(message.splitlines()), "no further message")
