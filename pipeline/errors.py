"""Errors that a user can act on."""


class ConfigurationError(ValueError):
    """The run cannot begin as it was asked for; the message says what to change."""
