"""`citymask import`: from a network of another tool to a model package."""

from enum import Enum
from pathlib import Path
from typing import Any

import click

from models.classes import ClassTable
from models.engines import EngineError
from models.graphs import Channels, Resize
from models.importing.checking import MOST_PHOTOS
from models.importing.checking import check as try_mistakes
from models.importing.settling import Wishes
from models.importing.sources import Fact, Facts, ModelImportError
from pipeline import console, streams
from pipeline.commands.common import LABELS_ASSUMED, Refused, Size, Triple, class_table
from pipeline.errors import first_line
from pipeline.importing import OVERLAY, check_free, import_network, write
from transforms import storage


def _choice(option: str, enum: type[Enum], text: str) -> Any:
    """An option whose values are those of an enumeration."""
    return click.option(
        option,
        type=click.Choice([one.value for one in enum]),
        callback=lambda _, __, value: value and enum(value),
        help=text,
    )


@click.command("import")
@click.argument("source", metavar="SOURCE")
@click.option("--output", "-o", required=True, metavar="MODEL_DIR", help="Model package to write.")
@click.option("--name", metavar="NAME", help="Name of the model. Default: that of SOURCE.")
@click.option(
    "--classes", metavar="NAME_OR_FILE",
    help="Classes of the network, in the order of its outputs: a class set (cityscapes, ade20k, "
    "mapillary-vistas, ...) or a CSV file. Default: those that SOURCE names.",
)  # fmt: skip
@click.option(
    "--background", type=click.Choice(["first", "last"]),
    help="Which of the outputs is of no class, if one more than the classes.",
)  # fmt: skip
@click.option(
    "--input-size", type=Size(multiple=1), metavar="WxH", help="Size that photos are brought to."
)  # fmt: skip
@click.option(
    "--mean", type=Triple("mean"), metavar="R,G,B", help="Mean of photos, scaled to 0..1."
)  # fmt: skip
@click.option(
    "--std", type=Triple("std"), metavar="R,G,B", help="Deviation of photos, scaled to 0..1."
)  # fmt: skip
@_choice("--channels", Channels, "Order of the colours.")
@_choice("--resize", Resize, "How photos are brought to the input size.")
@click.option("--output-name", metavar="NAME", help="Output of the network to use, of several.")
@click.option("--license", "licence", metavar="TEXT", help="Licence of the network.")
@click.option(
    "--photo", type=click.Path(), metavar="FILE", help="Photo to try it on. Default: one of Trier."
)  # fmt: skip
@click.option(
    "--check", metavar="DIR",
    help=f"Measure it on up to {MOST_PHOTOS} labelled photos, in the CamVid layout, and try likely "
    "mistakes.",
)  # fmt: skip
@click.option("--split", default="val", show_default=True, metavar="S", help="Split of DIR.")
@click.option(
    "--label-classes", metavar="NAME_OR_FILE",
    help="Classes of the labels. Default: DIR/classes.csv, else those of the network.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the package in MODEL_DIR.")
def import_model(
    source: str,
    output: str,
    classes: str | None,
    background: str | None,
    output_name: str | None,
    photo: str | None,
    check: str | None,
    split: str,
    label_classes: str | None,
    force: bool,
    **stated: Any,
) -> None:
    """Make a model package of a network of another tool.

    SOURCE is an .onnx, .tflite or .keras file, an OpenVINO .xml file with its .bin file beside it,
    or a folder: a TensorFlow SavedModel, a KerasHub preset, or one of Hugging Face. A handle such
    as hf://NAME/MODEL is downloaded. Nothing of SOURCE is executed: what may carry
    code is refused.

    What the network takes and gives is found out and printed; options replace it. MODEL_DIR also
    gets overlay.jpg, the network's view of a photo.
    """
    console.set_up_logging(console.NORMAL)
    streams.results_are_in_files()
    options = {option.name: option.opts[0] for option in import_model.params}
    facts = {
        name: Fact(value, options[name]) for name, value in stated.items() if value is not None
    }
    try:
        check_free(Path(output), force)
        table = ClassTable.load(classes) if classes else None
        wishes = Wishes(Facts(**facts), table, f"--classes {classes}", output_name, background)
        imported = import_network(source, wishes, photo)
        console.print_understood(imported.understood)
        if check:
            labels = class_table(check, label_classes, imported.understood.named)
            console.print_tried(try_mistakes(imported, check, split, labels))
            if labels is imported.understood.named:
                console.say(LABELS_ASSUMED.format("--label-classes"))
        written = write(imported, photo, Path(output))
        console.print_shares(written.shares)
    except ModelImportError as error:  # Some show lines to type.
        raise Refused(str(error)) from error
    except (ValueError, OSError, EngineError, storage.StorageError) as error:
        raise Refused(first_line(error)) from error
    console.say(
        f"{written.model_id} is written to {output}; look at {Path(output, OVERLAY)}, then: "
        f"citymask run PHOTOS --output OUT --model {output}"
    )
