"""Settings: what can be chosen about a run, each declared once.

The options of `citymask run`, the keys of the nightly file, the options in the run record and the
parameters of the Flex Template are all made from `Settings`: a setting needs no other place.
"""

import glob
import os
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from models.engines import EngineName, Precision
from models.packages import shipped_names
from transforms import storage
from transforms.flow.records import Projection
from transforms.photos.decoding import DEFAULT_MAX_PIXELS
from transforms.planning.policy import DEFAULT_MAX_ATTEMPTS
from transforms.planning.units import DEFAULT_UNIT_SIZE

BESIDE = "beside"
"""Key of the validation context: the file from whose folder relative paths start."""

LIMITS, THRESHOLDS, DATES = "limits", "thresholds", "dates"
"""Sections of the nightly file that settings stand in."""


@dataclass(frozen=True)
class Option:
    """How a setting is given outside Python.

    Attributes:
        label: its name for people, in the form of the Flex Template.
        metavar: what stands for its value in `--help`; empty: its type says it.
        expected: what its value must be, in words, for errors; empty: its type says it.
        regex: what its value must match in the template; empty: its type says it.
        choices: names of the values of an enum, for people.
        section: section of the nightly file; empty: none. None: the file does not have it.
        in_template: whether the Flex Template has it.
    """

    label: str
    metavar: str = ""
    expected: str = ""
    regex: str = ""
    choices: dict[str, str] = field(default_factory=dict)
    section: str | None = ""
    in_template: bool = True


def as_share(value: Any) -> float:
    """A share from 0 to 1, also written as a percentage; raises ValueError."""
    text = str(value)
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"{text!r} is not a share from 0 to 1 or a percentage such as 5%")
    return share


def seen_from_file(path: str, info: ValidationInfo) -> str:
    """A path as seen from the folder of the validation context's file; without one, as it is.

    Paths of other stores stay as they are.
    """
    file = (info.context or {}).get(BESIDE)
    if not file:
        return path
    seen = storage.beside(path, file)
    # A folder whose own name looks like a glob pattern must match itself.
    if glob.has_magic(path) and not storage.is_remote(seen) and not os.path.exists(seen):
        seen = storage.beside(path, glob.escape(file))
    return seen


def _shipped_or_seen_from_file(name_or_path: str, info: ValidationInfo) -> str:
    return name_or_path if name_or_path in shipped_names() else seen_from_file(name_or_path, info)


Text = Annotated[str, Field(min_length=1)]
PathText = Annotated[Text, AfterValidator(seen_from_file)]
ModelName = Annotated[Text, AfterValidator(_shipped_or_seen_from_file)]
Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(as_share)]


class Section(BaseModel):
    """A mapping with no key but its own, and no value of another type than stated."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


class Settings(Section):
    """What can be chosen about a run. The description of each field says what it does."""

    model: Annotated[
        ModelName,
        Option("Model", "NAME_OR_PATH", "a shipped model or a model package"),
    ] = Field("default", description="A shipped model or the folder of a model package.")
    overlay: Annotated[bool, Option("Overlays")] = Field(
        False, description="Write a blended JPEG beside each mask."
    )
    confidence: Annotated[bool, Option("Confidences")] = Field(
        False,
        description="Write an 8-bit confidence image beside each mask, and mean confidences into "
        "the rows.",
    )
    max_pixels: Annotated[Count, Option("Most pixels of a photo")] = Field(
        DEFAULT_MAX_PIXELS, description="Refuse photos that claim more pixels."
    )
    projection: Annotated[
        Projection,
        Option(
            "Projection",
            choices={
                "auto": "as metadata and files say",
                "perspective": "flat photos",
                "equirectangular": "panoramas",
            },
        ),
    ] = Field(
        Projection.AUTO,
        strict=False,
        description="What photos are: flat, or panoramas of 2:1; auto: what metadata and files "
        "say.",
    )
    engine: Annotated[
        EngineName,
        Option(
            "Engine",
            choices={
                "auto": "the fastest that the worker has",
                "tensorflow": "TensorFlow",
                "openvino": "OpenVINO",
                "jax": "Keras on JAX",
            },
        ),
    ] = Field(
        EngineName.AUTO,
        strict=False,
        description="What runs the network; auto: the fastest that this machine has.",
    )
    precision: Annotated[
        Precision,
        Option(
            "Precision",
            choices={"auto": "half where it is faster", "bf16": "bfloat16", "f32": "single"},
        ),
    ] = Field(
        Precision.AUTO,
        strict=False,
        description="Arithmetic of the network; f32: bit-stable on one machine.",
    )
    batch_size: Annotated[Count | None, Option("Batch size")] = Field(
        None,
        description="Photos per call of the network. Default: 1 on a CPU, on a GPU by its memory.",
    )
    workers: Annotated[Count, Option("Workers", "N", in_template=False)] = Field(
        1, description="Segment in N processes, which share the cores of this machine."
    )
    unit_size: Annotated[Count, Option("Work unit size")] = Field(
        DEFAULT_UNIT_SIZE,
        description="Most images per work unit: the grain of commit and resume.",
    )
    windows: Annotated[
        Annotated[float, Field(gt=0, le=1)] | None,
        Option("Windows", "SCALE", regex=r"^(0?\.[0-9]+|1|1\.0+)$"),
    ] = Field(
        None,
        description="Segment in overlapping windows at SCALE times each photo's own resolution "
        "(above 0, up to 1), in place of stretching it to the network's input: for aerial photos.",
    )
    label_ids: Annotated[bool, Option("Label ids")] = Field(
        False,
        description="Write masks with the label ids of the classes' data set in place of 0, 1, "
        "2, ...",
    )
    merge: Annotated[PathText | None, Option("Merged classes", "FILE.csv", "a CSV file")] = Field(
        None,
        description="Count merged classes as well; the columns class,merged of a CSV file say "
        "what goes into what.",
    )
    force: Annotated[bool, Option("Replace all results", section=None)] = Field(
        False, description="Segment images again that have results already."
    )
    max_attempts: Annotated[Count, Option("Most attempts")] = Field(
        DEFAULT_MAX_ATTEMPTS,
        description="Leave an image in quarantine once its version has failed so often.",
    )
    retry_failed: Annotated[bool, Option("Retry failed")] = Field(
        False, description="Try images in quarantine as well."
    )
    skip_duplicates: Annotated[bool, Option("Skip duplicates")] = Field(
        False, description="Set photos aside that look like another one nearby; see gated/."
    )
    skip_blurred: Annotated[bool, Option("Skip blurred photos")] = Field(
        False, description="Set photos aside that are blurred."
    )
    max_images: Annotated[Count | None, Option("Most images", "N", section=LIMITS)] = Field(
        None, description="Take at most N images; leave the others for the next run."
    )
    max_minutes: Annotated[
        Positive | None, Option("Most minutes", "M", section=LIMITS, in_template=False)
    ] = Field(None, description="Begin no work after M minutes; leave the rest for the next run.")
    max_failures: Annotated[
        Share | None, Option("Most failures", "SHARE", section=THRESHOLDS, in_template=False)
    ] = Field(
        None,
        description="Exit with 3 if more than this share of the images failed, e.g. 0.05 or 5%. "
        "Default: only if all failed.",
    )
    by: Annotated[Literal["arrival", "capture"], Option("Days of", section=DATES)] = Field(
        "arrival",
        description="Days on which files arrived (UTC), or on which photos were taken.",
    )
    gpu: Annotated[
        Text | None,
        Option(
            "GPUs of a worker", "TYPE[:COUNT]", "TYPE or TYPE:COUNT, such as nvidia-tesla-t4",
            r"^[a-z0-9-]+(:[0-9]+)?$",
        ),
    ] = Field(
        None,
        description="On Dataflow: GPUs for the machines that run the network, such as "
        "nvidia-tesla-t4 or nvidia-l4:1. The workers' image must be one with CUDA.",
    )  # fmt: skip
    require_gpu: Annotated[bool, Option("Insist on a GPU")] = Field(
        False, description="Fail where a worker sees no GPU."
    )
