"""The configuration of every night: a YAML file that is checked as a whole.

Whatever is wrong in it is said at once, a line for each error, with file, line and key.
"""

import difflib
import glob
import os
import re
from collections.abc import Sequence
from enum import Enum
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import click
from apache_beam.options.pipeline_options import PipelineOptions
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from models.engines import EngineName, Precision
from models.packages import shipped_names
from pipeline.commands.common import Share
from pipeline.errors import ConfigurationError
from pipeline.nights.yaml_lines import Document, Problem, key_of
from pipeline.runners.options import split_arguments
from transforms import storage
from transforms.flow.records import Projection
from transforms.photos.decoding import DEFAULT_MAX_PIXELS
from transforms.planning.policy import DEFAULT_MAX_ATTEMPTS
from transforms.planning.units import DEFAULT_UNIT_SIZE
from transforms.reporting import DEFAULT_GALLERY
from transforms.reporting.tiles import check_tiles

CONFIG = "config"
"""Key of the validation context: the file from whose folder relative paths start."""

BEAM_OPTION = "beam_option"
"""Type of the errors that Beam's parser finds."""

ITEM = "text"
"""What the items of all lists are."""


def _as_share(value: Any) -> float:
    try:
        return Share().convert(value, None, None)
    except click.BadParameter as error:
        raise ValueError(str(error)) from error


def _from_folder(path: str, info: ValidationInfo) -> str:
    """A path as seen from the folder of the configuration; other schemes stay as they are."""
    config = (info.context or {}).get(CONFIG, "")
    seen = storage.beside(path, config)
    if glob.has_magic(path) and storage.store_of(seen).local_paths and not os.path.exists(seen):
        seen = storage.beside(path, glob.escape(config))
    return seen


def _model(name_or_path: str, info: ValidationInfo) -> str:
    shipped = name_or_path in shipped_names()
    return name_or_path if shipped else _from_folder(name_or_path, info)


def _command(command: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    """A program that is named with a slash is a path; others are looked up in PATH."""
    program, *arguments = command
    if os.sep in program:
        program = _from_folder(program, info)
    return (program, *arguments)


def _url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("not an http(s) URL")
    return url


def _section(value: Any) -> Any:
    """A section whose keys are all commented out is there, but empty."""
    return {} if value is None else value


def _report(value: Any) -> Any:
    """`report: true` says no more than that it is to be written."""
    return {"write": value} if isinstance(value, bool) else _section(value)


def _beam_options(given: dict[str, Any]) -> dict[str, Any]:
    """Beam options as Beam's parser takes them; those with their defaults are left out."""
    options: dict[str, Any] = {}
    wrong: list[InitErrorDetails] = []
    for name, value in given.items():
        try:
            options |= _beam_option(name, value)
        except ValueError as error:
            kind = PydanticCustomError(BEAM_OPTION, "{reason}", {"reason": str(error)})
            wrong.append(InitErrorDetails(type=kind, loc=(name,), input=value))
    if wrong:
        raise ValidationError.from_exception_data("beam", wrong)
    return options


def _beam_option(name: str, value: Any) -> dict[str, Any]:
    if value is None or isinstance(value, (dict, list)):
        raise ValueError("expected text, a number, true or false")
    flag = isinstance(value, bool)
    argument = f"--{name}" if flag else f"--{name}={value}"
    try:
        rest, given = split_arguments([argument])
    except click.UsageError as error:
        reason = error.message.rpartition("argument ")[2].partition(": ")[2]
        raise ValueError(reason or error.message) from error
    if rest or not re.fullmatch(r"\w+", name):
        known = PipelineOptions(flags=[]).get_all_options()
        raise ValueError(f"unknown Beam option{_suggestion(name, sorted(known))}")
    return {} if flag and not value else given


def _suggestion(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _member_of(choices: type[Enum]) -> Any:
    """A field for a member of an enum, given by its value."""
    return Field(strict=False, description=f"one of {', '.join(c.value for c in choices)}")


Text = Annotated[str, Field(min_length=1, description=ITEM)]
LocalPath = Annotated[Text, AfterValidator(_from_folder)]
Command = Annotated[tuple[Text, ...], Field(strict=False, min_length=1), AfterValidator(_command)]
Url = Annotated[Text, AfterValidator(_url)]
Tiles = Annotated[Text, AfterValidator(check_tiles)]
Minutes = Annotated[float, Field(gt=0, allow_inf_nan=False)]
YesNo = Annotated[bool, Field(description="true or false")]
Count = Annotated[int, Field(gt=0, description="a whole number greater than 0")]
OptionalCount = Annotated[Count | None, Field(description="a whole number greater than 0")]
OptionalDays = Annotated[
    Annotated[int, Field(gt=0, le=36500)] | None,
    Field(description="a whole number of days, 1 to 36500"),
]
OptionalShare = Annotated[
    Annotated[float, BeforeValidator(_as_share)] | None,
    Field(description="a share from 0 to 1 or a percentage such as 5%"),
]


class Section(BaseModel):
    """A mapping of the file: no key but its own, and no value of another type than stated.

    The description of a field says what is expected there; errors repeat it.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Limits(Section):
    """How much one night may do; what is left is for the next.

    Attributes:
        max_images: most images; None: no limit.
        max_minutes: minutes after which no work unit is begun; None: no limit.
    """

    max_images: OptionalCount = None
    max_minutes: Annotated[Minutes | None, Field(description="a number greater than 0")] = None


class Thresholds(Section):
    """What makes a night an alarm.

    Attributes:
        max_failures: share of the images that may fail; None: all but not every one.
        drift: how much a class's share may differ from that of the last nights, as a difference of
            shares (0.05: five percentage points); None: no alarm.
        drift_nights: how many nights the last nights are.
        drift_images: with fewer images, tonight or before, there is no alarm of drift.
    """

    max_failures: OptionalShare = None
    drift: OptionalShare = None
    drift_nights: Count = 7
    drift_images: Count = 100


class Retention(Section):
    """For how many days what is not needed any more is kept; None: for ever.

    Attributes:
        runs: run records.
        failures: rows of failures; those that an image's count of attempts rests on always stay.
    """

    runs: OptionalDays = None
    failures: OptionalDays = None


class Notify(Section):
    """Who is told about a night when it has ended.

    Attributes:
        command: a program and its arguments, or None.
        webhook: where the run record is posted to, or None.
        on: after which nights.
    """

    command: Annotated[Command | None, Field(description="a list: a program and its arguments")] = (
        None
    )
    webhook: Annotated[Url | None, Field(description="an http:// or https:// URL")] = None
    on: Annotated[Literal["always", "alarm"], Field(description="always or alarm")] = "always"


class Dates(Section):
    """What the days of `--date`, `--from` and `--to` mean.

    Attributes:
        by: when a photo's file last changed, or when the photo was taken.
    """

    by: Annotated[Literal["arrival", "capture"], Field(description="arrival or capture")] = (
        "arrival"
    )


class Report(Section):
    """The page about all results.

    Attributes:
        write: whether each night ends with it.
        gallery: most photos that it shows.
        tiles: URL template of the map's background; None: none.
        attribution: whom the licence of the tiles asks to name; None: their host.
        indicators: YAML file of indicators; None: the usual ones.
    """

    write: YesNo = False
    gallery: Annotated[int, Field(ge=0, description="a whole number")] = DEFAULT_GALLERY
    tiles: Annotated[Tiles | None, Field(description="an http(s) URL with {z}, {x} and {y}")] = None
    attribution: Annotated[Text | None, Field(description=ITEM)] = None
    indicators: Annotated[LocalPath | None, Field(description="a YAML file")] = None


class NightlyConfig(Section):
    """The whole file. Paths are absolute; `beam` holds what `pipeline_options` takes."""

    inputs: Annotated[
        tuple[LocalPath, ...],
        Field(
            strict=False,
            min_length=1,
            description="a list of folders, glob patterns, images, shards or manifests",
        ),
    ]
    output: Annotated[LocalPath, Field(description="a folder")]
    model: Annotated[
        Text, AfterValidator(_model), Field(description="a shipped model or a model package")
    ] = "default"
    overlay: YesNo = False
    confidence: YesNo = False
    windows: Annotated[float | None, Field(gt=0, le=1, description="a number above 0, up to 1")] = (
        None
    )
    label_ids: YesNo = False
    merge: Annotated[LocalPath | None, Field(description="a CSV file")] = None
    engine: Annotated[EngineName, _member_of(EngineName)] = EngineName.AUTO
    precision: Annotated[Precision, _member_of(Precision)] = Precision.AUTO
    batch_size: OptionalCount = None
    workers: Count = 1
    unit_size: Count = DEFAULT_UNIT_SIZE
    max_pixels: Count = DEFAULT_MAX_PIXELS
    projection: Annotated[Projection, _member_of(Projection)] = Projection.AUTO
    max_attempts: Count = DEFAULT_MAX_ATTEMPTS
    skip_duplicates: YesNo = False
    skip_blurred: YesNo = False
    limits: Annotated[Limits, BeforeValidator(_section)] = Limits()
    thresholds: Annotated[Thresholds, BeforeValidator(_section)] = Thresholds()
    retention: Annotated[Retention, BeforeValidator(_section)] = Retention()
    notify: Annotated[Notify, BeforeValidator(_section)] = Notify()
    dates: Annotated[Dates, BeforeValidator(_section)] = Dates()
    report: Annotated[
        Report,
        BeforeValidator(_report),
        Field(description=f"true, false or a mapping with {', '.join(Report.model_fields)}"),
    ] = Report()
    beam: Annotated[dict[str, Any], BeforeValidator(_section), AfterValidator(_beam_options)] = (
        Field(default={}, description="a mapping of Beam's options")
    )


def load_config(path: str | os.PathLike[str]) -> NightlyConfig:
    """Read and check a configuration.

    Raises:
        ConfigurationError: it cannot be read, or something in it is wrong; a line for each error.
    """
    path = os.fspath(path)
    try:
        data = storage.read(path)
    except storage.StorageError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    document = Document.parse(data)
    problems = list(document.problems)
    if isinstance(document.content, dict):
        context = {CONFIG: storage.absolute(path)}
        try:
            config = NightlyConfig.model_validate(document.content, context=context)
        except ValidationError as error:
            said = {(problem.line, problem.key) for problem in problems}
            found = (_problem(details, document) for details in error.errors(include_url=False))
            problems += [problem for problem in found if (problem.line, problem.key) not in said]
    elif not problems:
        _, line, what = document.at(())
        problems.append(Problem(line, "", f'expected keys and values, "output: DIR", found {what}'))
    if problems:
        raise ConfigurationError("\n".join(f"{path}:{problem}" for problem in sorted(problems)))
    return config


def _problem(details: ErrorDetails, document: Document) -> Problem:
    """An error of the schema, at its place in the file."""
    path = details["loc"]
    length, line, found = document.at(path)
    reached, kind = path[:length], details["type"]
    if kind == "missing":
        return Problem(line, key_of(path), f"missing; expected {_expected(path)}")
    if kind == "extra_forbidden":
        known = sorted(_model_at(reached[:-1]).model_fields)
        near = _suggestion(str(reached[-1]), known) or f"; known are {', '.join(known)}"
        return Problem(line, key_of(reached), f"unknown key{near}")
    if kind == BEAM_OPTION:
        return Problem(line, key_of(reached), details["msg"])
    return Problem(line, key_of(reached), f"expected {_expected(reached)}, found {found}")


def _model_at(path: Sequence[str | int]) -> type[BaseModel]:
    """The section that a path leads to."""
    model: type[BaseModel] = NightlyConfig
    for part in path:
        annotation = model.model_fields[str(part)].annotation
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        model = annotation
    return model


def _expected(path: Sequence[str | int]) -> str:
    """What may stand at a path, in words."""
    *above, last = path
    if isinstance(last, int):
        return ITEM
    field = _model_at(above).model_fields[last]
    if field.description:
        return field.description
    return f"a mapping with {', '.join(_model_at(path).model_fields)}"
