"""Errors that a user can act on, and the exit codes."""

EXIT_UNEXPECTED = 1
EXIT_CONFIGURATION = 2
EXIT_THRESHOLD = 3
"""Finished, but a threshold was exceeded or something is damaged."""

EXIT_LOCKED = 4
EXIT_LOST = 5
"""Another run has taken the output folder over meanwhile; nothing more was written."""

EXIT_SIGNAL = 128
"""Added to the number of the signal that ended the program, as shells do."""


class ConfigurationError(ValueError):
    """The run cannot start as requested; the message says what to change."""


class JobError(Exception):
    """A job on a remote service failed; the message says why and where to look."""


def message(error: BaseException) -> str:
    """The message of an error, without Beam's suffix about the step that raised it."""
    return str(error).strip().split(" [while running")[0]


def first_line(error: BaseException) -> str:
    """The first line of the message of an error."""
    return next(iter(message(error).splitlines()), "no further message")
