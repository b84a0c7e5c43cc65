"""The nightly file: a YAML file that is checked as a whole.

All errors in it are reported together, a line for each, with file, line and key. The settings of a
run are those of `pipeline.runs.settings`; what only nights have is declared here.
"""

import difflib
import os
import re
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import click
from apache_beam.options.pipeline_options import PipelineOptions
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from pipeline.errors import ConfigurationError
from pipeline.nights.urls import host_of
from pipeline.nights.yaml_lines import Document, Problem, key_of
from pipeline.runners.options import split_arguments
from pipeline.runs.kinds import kinds_of
from pipeline.runs.settings import (
    BESIDE,
    REASON,
    THRESHOLDS,
    Count,
    Section,
    Settings,
    Share,
    Text,
    seen_from_file,
)
from transforms import storage
from transforms.reporting import DEFAULT_GALLERY
from transforms.reporting.tiles import check_tiles

WEBHOOK = "webhook"
"""Key of a URL that is a secret."""

ITEM = "text"
"""What the items of all lists are."""


def _command(command: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    """A program that is named with a slash is a path; others are looked up in PATH."""
    program, *arguments = command
    if os.sep in program:
        program = seen_from_file(program, info)
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
            kind = PydanticCustomError(REASON, "{reason}", {"reason": str(error)})
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


Item = Annotated[Text, Field(description=ITEM)]
PathItem = Annotated[Item, AfterValidator(seen_from_file)]
Command = Annotated[tuple[Item, ...], Field(strict=False, min_length=1), AfterValidator(_command)]
Url = Annotated[Text, AfterValidator(_url)]
Tiles = Annotated[Text, AfterValidator(check_tiles)]
YesNo = Annotated[bool, Field(description="true or false")]
WholeNumber = Annotated[Count, Field(description="a whole number greater than 0")]
OptionalDays = Annotated[
    Annotated[int, Field(gt=0, le=36500)] | None,
    Field(description="a whole number of days, 1 to 36500"),
]
OptionalShare = Annotated[
    Share | None, Field(description="a share from 0 to 1 or a percentage such as 5%")
]


class Thresholds(Section):
    """What makes a night an alarm, beside the settings of a run that are limits of this kind.

    Attributes:
        drift: how much a class's share may differ from that of the last nights, as a difference of
            shares (0.05: five percentage points); None: no alarm.
        drift_nights: how many nights the last nights are.
        drift_images: with fewer images, tonight or before, there is no alarm of drift.
    """

    drift: OptionalShare = None
    drift_nights: WholeNumber = 7
    drift_images: WholeNumber = 100


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
    attribution: Annotated[Item | None, Field(description=ITEM)] = None
    indicators: Annotated[PathItem | None, Field(description="a YAML file")] = None


class NightlyConfig(Section):
    """What only nights have; `nightly_config` adds the settings of a run, flat or in sections.

    Paths are absolute; `beam` holds what `pipeline_options` takes.
    """

    inputs: Annotated[
        tuple[PathItem, ...],
        Field(
            strict=False,
            min_length=1,
            description="a list of folders, glob patterns, images, shards or manifests",
        ),
    ]
    output: Annotated[PathItem, Field(description="a folder")]
    thresholds: Annotated[Thresholds, BeforeValidator(_section)] = Thresholds()
    retention: Annotated[Retention, BeforeValidator(_section)] = Retention()
    notify: Annotated[Notify, BeforeValidator(_section)] = Notify()
    report: Annotated[
        Report,
        BeforeValidator(_report),
        Field(description=f"true, false or a mapping with {', '.join(Report.model_fields)}"),
    ] = Report()
    beam: Annotated[dict[str, Any], BeforeValidator(_section), AfterValidator(_beam_options)] = (
        Field(default={}, description="a mapping of Beam's options")
    )

    def settings(self, declared: type[Settings] = Settings) -> dict[str, Any]:
        """The settings of a run that the file has, by their names."""
        return {
            name: getattr(getattr(self, option.section) if option.section else self, name)
            for name, _, option, _ in kinds_of(declared)
            if option.section is not None
        }


@cache
def nightly_config(settings: type[Settings] = Settings) -> type[NightlyConfig]:
    """The model of the nightly file with the settings that a run has.

    The description of a field says what is expected there; errors repeat it.
    """
    sections: dict[str, dict[str, Any]] = {}
    for name, declared, option, kind in kinds_of(settings):
        if option.section is not None:
            field = Field(declared.default, description=kind.expected)
            sections.setdefault(option.section, {})[name] = (declared.rebuild_annotation(), field)
    fields = sections.pop("")
    for name, of_section in sections.items():
        base = Thresholds if name == THRESHOLDS else Section
        section = create_model(name.capitalize(), __base__=base, **of_section)
        fields[name] = (Annotated[section, BeforeValidator(_section)], section())
    return create_model("NightlyConfig", __base__=NightlyConfig, **fields)


def load_config(path: str | os.PathLike[str], settings: type[Settings] = Settings) -> NightlyConfig:
    """Read and check a nightly file.

    Args:
        path: where it is.
        settings: the model of a run's settings.

    Raises:
        ConfigurationError: it cannot be read, or something in it is wrong; a line for each error.
    """
    path, model = os.fspath(path), nightly_config(settings)
    try:
        data = storage.read(path)
    except storage.StorageError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    document = Document.parse(data)
    problems = list(document.problems)
    if isinstance(document.content, dict):
        context = {BESIDE: storage.absolute(path)}
        try:
            config = model.model_validate(document.content, context=context)
        except ValidationError as error:
            said = {(problem.line, problem.key) for problem in problems}
            details = error.errors(include_url=False)
            found = (_problem(entry, document, model) for entry in details)
            problems += [problem for problem in found if (problem.line, problem.key) not in said]
    elif not problems:
        _, line, what = document.at(())
        problems.append(Problem(line, "", f'expected keys and values, "output: DIR", found {what}'))
    if problems:
        raise ConfigurationError("\n".join(f"{path}:{problem}" for problem in sorted(problems)))
    return config


def _problem(details: ErrorDetails, document: Document, model: type[BaseModel]) -> Problem:
    """An error of the schema, at its place in the file."""
    path = details["loc"]
    length, line, found = document.at(path)
    reached, kind = path[:length], details["type"]
    if kind == "missing":
        return Problem(line, key_of(path), f"missing; expected {_expected(path, model)}")
    if kind == "extra_forbidden":
        known = sorted(_model_at(reached[:-1], model).model_fields)
        near = _suggestion(str(reached[-1]), known) or f"; known are {', '.join(known)}"
        return Problem(line, key_of(reached), f"unknown key{near}")
    if kind == REASON:
        return Problem(line, key_of(reached), details["msg"])
    if reached[-1] == WEBHOOK and found[0] in "'\"":
        found = repr(host_of(found[1:-1]))
    return Problem(line, key_of(reached), f"expected {_expected(reached, model)}, found {found}")


def _model_at(path: Sequence[str | int], model: type[BaseModel]) -> type[BaseModel]:
    """The section that a path leads to."""
    for part in path:
        annotation = model.model_fields[str(part)].annotation
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        model = annotation
    return model


def _expected(path: Sequence[str | int], model: type[BaseModel]) -> str:
    """What may stand at a path, in words."""
    *above, last = path
    if isinstance(last, int):
        return ITEM
    field = _model_at(above, model).model_fields[last]
    if field.description:
        return field.description
    return f"a mapping with {', '.join(_model_at(path, model).model_fields)}"
