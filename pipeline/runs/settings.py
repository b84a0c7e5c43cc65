"""Settings of a run, each declared once.

The options of `citymask run`, the keys of the nightly file, the options in the run record and the
parameters of the Flex Template are all derived from `Settings`.
"""

import glob
import os
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from models.engines import EngineName, Precision
from models.packages import shipped_names
from transforms import storage
from transforms.flow.records import Projection
from transforms.inputs.listing import DEFAULT_MAX_BYTES
from transforms.photos.decoding import DEFAULT_MAX_PIXELS
from transforms.planning.policy import DEFAULT_MAX_ATTEMPTS
from transforms.planning.units import DEFAULT_UNIT_SIZE

BESIDE = "beside"
"""Key of the validation context: the file whose folder relative paths are relative to."""

REASON = "reason"
"""Type of errors of the nightly file whose messages are shown as they are."""

LIMITS, THRESHOLDS, DATES = "limits", "thresholds", "dates"
"""Sections of the nightly file."""


@dataclass(frozen=True)
class Option:
    """How a setting appears on the command line, in the nightly file and in the Flex Template.

    Attributes:
        label: its display name in the Flex Template's form.
        metavar: placeholder of its value in `--help`; empty: derived from its type.
        expected: the expected value in words, for errors; empty: derived from its type.
        regex: pattern of its value in the template; empty: derived from its type.
        choices: display names of the values of an enum.
        section: section of the nightly file; empty: top level. None: not in the file.
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
    """A path relative to the folder of the context's file, resolved; unchanged without a file.

    It may be a URI. Paths of other stores are returned unchanged.
    """
    file = (info.context or {}).get(BESIDE)
    if not file:
        return path
    try:
        path = storage.path_of(path)
    except storage.StorageError as error:
        raise PydanticCustomError(REASON, "{reason}", {"reason": str(error)}) from error
    seen = storage.beside(path, file)
    # A folder whose own name looks like a glob pattern must match itself.
    if glob.has_magic(path) and storage.store_of(seen).local_paths and not os.path.exists(seen):
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
    """A mapping that forbids unknown keys and converts no types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


class Settings(Section):
    """The settings of a run. Each field has its description."""

    model: Annotated[
        ModelName,
        Option("Model", "NAME_OR_PATH", "a shipped model or a model package"),
    ] = Field("default", description="A shipped model or the folder of a model package.")
    overlay: Annotated[bool, Option("Overlays")] = Field(
        False, description="Write a blended JPEG beside each mask."
    )
    confidence: Annotated[bool, Option("Confidences")] = Field(
        False,
        description="Write an 8-bit confidence image beside each mask, and mean confidences to "
        "the rows.",
    )
    max_pixels: Annotated[Count, Option("Most pixels of a photo")] = Field(
        DEFAULT_MAX_PIXELS, description="Refuse photos with more pixels."
    )
    max_bytes: Annotated[Count, Option("Most bytes of a photo")] = Field(
        DEFAULT_MAX_BYTES, description="Refuse photos with more bytes, before they are read."
    )
    projection: Annotated[
        Projection,
        Option(
            "Projection",
            choices={
                "auto": "by metadata",
                "perspective": "flat photos",
                "equirectangular": "panoramas",
            },
        ),
    ] = Field(
        Projection.AUTO,
        strict=False,
        description="Projection of the photos: flat, or panoramas of 2:1; auto: by their metadata.",
    )
    engine: Annotated[
        EngineName,
        Option(
            "Engine",
            choices={
                "auto": "the fastest available",
                "tensorflow": "TensorFlow",
                "openvino": "OpenVINO",
                "jax": "Keras on JAX",
                "onnxruntime": "ONNX Runtime, for imported ONNX networks",
                "litert": "LiteRT, for imported TFLite networks",
            },
        ),
    ] = Field(
        EngineName.AUTO,
        strict=False,
        description="Engine that runs the network; auto: the fastest available.",
    )
    precision: Annotated[
        Precision,
        Option(
            "Precision",
            choices={
                "auto": "the fastest without a noticeable loss",
                "int8": "8-bit integers",
                "bf16": "bfloat16",
                "f16": "half",
                "f32": "single",
            },
        ),
    ] = Field(
        Precision.AUTO,
        strict=False,
        description="Arithmetic of the network; int8: of quantised models; f32: reproducible bit "
        "by bit on one machine.",
    )
    batch_size: Annotated[Count | None, Option("Batch size")] = Field(
        None,
        description="Photos per call of the network. Default: 1 on a CPU, by memory on a GPU.",
    )
    workers: Annotated[Count | None, Option("Workers", "N", in_template=False)] = Field(
        None,
        description="Segment in N processes, which share the cores of this machine. Default: one, "
        "and more for many photos on more than 8 cores.",
    )
    unit_size: Annotated[Count, Option("Work unit size")] = Field(
        DEFAULT_UNIT_SIZE,
        description="Maximum images per work unit, the unit of commit and resume.",
    )
    windows: Annotated[
        Annotated[float, Field(gt=0, le=1)] | None,
        Option("Windows", "SCALE", regex=r"^(0?\.[0-9]+|1|1\.0+)$"),
    ] = Field(
        None,
        description="Segment in overlapping windows at SCALE times each photo's own resolution "
        "(above 0, up to 1) instead of resizing it to the network's input: for aerial photos.",
    )
    label_ids: Annotated[bool, Option("Label ids")] = Field(
        False,
        description="Write masks with the label ids of the classes' data set instead of 0, 1, "
        "2, ...",
    )
    merge: Annotated[PathText | None, Option("Merged classes", "FILE.csv", "a CSV file")] = Field(
        None,
        description="Also count merged classes: a CSV file with the columns class,merged.",
    )
    durable: Annotated[
        Literal["always", "never"],
        Option("Durable", choices={"always": "survive a power cut", "never": "leave it to chance"}),
    ] = Field(
        "always",
        description="Flush masks and rows to the disk after each work unit; never: a power cut may "
        "cost the results of the last minutes.",
    )
    force: Annotated[bool, Option("Replace all results", section=None)] = Field(
        False, description="Segment all images again, also those that have results."
    )
    max_attempts: Annotated[Count, Option("Most attempts")] = Field(
        DEFAULT_MAX_ATTEMPTS,
        description="Quarantine an image after this number of failures of its version.",
    )
    retry_failed: Annotated[bool, Option("Retry failed")] = Field(
        False, description="Try images in quarantine as well."
    )
    skip_duplicates: Annotated[bool, Option("Skip duplicates")] = Field(
        False, description="Set aside photos that look like another one nearby; see gated/."
    )
    skip_blurred: Annotated[bool, Option("Skip blurred photos")] = Field(
        False, description="Set aside blurred photos."
    )
    max_images: Annotated[Count | None, Option("Most images", "N", section=LIMITS)] = Field(
        None, description="Process at most N images; leave the others for the next run."
    )
    max_minutes: Annotated[
        Positive | None, Option("Most minutes", "M", section=LIMITS, in_template=False)
    ] = Field(None, description="Start no work after M minutes; leave the rest for the next run.")
    max_failures: Annotated[
        Share | None, Option("Most failures", "SHARE", section=THRESHOLDS, in_template=False)
    ] = Field(
        None,
        description="Exit with 3 if more than this share of the images failed, e.g. 0.05 or 5%. "
        "Default: only if all failed.",
    )
    by: Annotated[Literal["arrival", "capture"], Option("Days of", section=DATES)] = Field(
        "arrival",
        description="Select days by arrival of the files (UTC), or by capture of the photos.",
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
        False, description="Fail if a worker finds no GPU."
    )
