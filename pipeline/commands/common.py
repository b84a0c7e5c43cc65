"""Helpers of commands: one-line errors with exit codes, sizes, class tables."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from models.classes import CAMVID, ClassTable
from models.engines import EngineError
from models.inputs import SHAPE_MULTIPLE
from models.packages import MAX_INPUT_PIXELS, PackageError, limits
from models.texts import printable_lines
from pipeline.errors import (
    EXIT_CONFIGURATION,
    EXIT_LOCKED,
    EXIT_LOST,
    EXIT_UNEXPECTED,
    ConfigurationError,
    JobError,
    message,
)
from transforms import storage
from transforms.output.locking import FolderGoneError, LockedError, LockLostError

CLASS_FILE = "classes.csv"
"""Name of the class table in a folder of labelled photos."""

LABELS_ASSUMED = (
    "The labels are taken to have the classes of the model; if not, state theirs by {}."
)
"""A note where nothing states the classes of labels for a model from elsewhere."""


class Ending(click.ClickException):
    """Ends a command with a message on one line."""

    def __init__(self, message: str):
        super().__init__(printable_lines(message))


class Refused(Ending):
    """A one-line error with the exit code of wrong usage or configuration."""

    exit_code = EXIT_CONFIGURATION


class Held(Ending):
    """A one-line error with the exit code of an output folder that another run holds."""

    exit_code = EXIT_LOCKED


class Lost(Ending):
    """A one-line error with the exit code of a folder that another run has taken over."""

    exit_code = EXIT_LOST


class Broken(Ending):
    """A one-line error with the exit code of work that was not completed."""

    exit_code = EXIT_UNEXPECTED


@contextmanager
def foreseen_errors() -> Iterator[None]:
    """Context manager: converts expected errors to one line and an exit code."""
    try:
        yield
    except LockedError as error:
        raise Held(str(error)) from error
    except FolderGoneError as error:
        raise Broken(str(error)) from error
    except LockLostError as error:
        raise Lost(str(error)) from error
    except (ConfigurationError, EngineError, PackageError) as error:
        raise Refused(message(error)) from error
    except JobError as error:
        raise Broken(str(error)) from error


class Size(click.ParamType):
    """Width and height in pixels, multiples of what networks ask for."""

    name = "size"

    def __init__(self, multiple: int = SHAPE_MULTIPLE):
        self._multiple = multiple

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        found = re.fullmatch(r"(\d+)x(\d+)", str(value))
        size = (int(found[1]), int(found[2])) if found else (0, 0)
        if not all(size) or any(side % self._multiple for side in size):
            multiples = f" in multiples of {self._multiple}" if self._multiple > 1 else ""
            self.fail(f"{value!r} is not WIDTHxHEIGHT{multiples}, such as 512x384", param, ctx)
        if max(size) > limits("input_width")[1] or size[0] * size[1] > MAX_INPUT_PIXELS:
            self.fail(f"{value!r} is more than {MAX_INPUT_PIXELS} pixels", param, ctx)
        return size


class Triple(click.ParamType):
    """Three numbers, one for each of red, green and blue, within the limits of a package."""

    name = "numbers"

    def __init__(self, key: str):
        self._least, self._most = limits(key)

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, float, float]:
        try:
            red, green, blue = map(float, str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not three numbers, such as 0.5,0.5,0.5", param, ctx)
        if not all(self._least <= each <= self._most for each in (red, green, blue)):
            self.fail(f"{value!r} is not within {self._least:g} to {self._most:g}", param, ctx)
        return red, green, blue


class PathOrUri(click.ParamType):
    """A path, or a URI as the path that it stands for."""

    name = "path"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        try:
            return storage.path_of(str(value))
        except storage.StorageError as error:
            self.fail(str(error), param, ctx)


def class_table(
    data: str, classes: str | None = None, otherwise: ClassTable = CAMVID
) -> ClassTable:
    """The classes of labelled photos: those asked for, else those beside them, else `otherwise`.

    Raises:
        ValueError: the table is missing or wrong.
        OSError: the file of the classes asked for cannot be read.
        StorageError: the file beside the photos cannot be read.
    """
    beside = f"{data}/{CLASS_FILE}"
    if classes:
        return ClassTable.load(classes)
    if storage.find(beside).size < 0:
        return otherwise
    return ClassTable.parse(storage.read(beside).decode(), beside)
