"""Errors that a user can act on, and the exit codes that tell them apart."""

EXIT_UNEXPECTED = 1
EXIT_CONFIGURATION = 2
EXIT_THRESHOLD = 3
"""Finished, but too much has failed, drifted, or is damaged."""

EXIT_LOCKED = 4
EXIT_SIGNAL = 128
"""What a shell adds to the number of the signal that ended a program."""


class ConfigurationError(ValueError):
    """The run cannot begin as it was asked for; the message says what to change."""


class JobError(Exception):
    """A job on a remote service did not come to its end; the message says why and where to look."""


def message(error: BaseException) -> str:
    """What an error says, without what Beam adds on where it was raised."""
    return str(error).strip().split(" [while running")[0]


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return next(iter(message(error).splitlines()), "no further message")
