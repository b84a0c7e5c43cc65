"""Errors that a user can act on."""


class ConfigurationError(ValueError):
    """The run cannot begin as it was asked for; the message says what to change."""


class JobError(Exception):
    """A job on a remote service did not come to its end; the message says why and where to look."""
