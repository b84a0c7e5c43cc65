"""Text that others wrote, such as names of files and classes, in a form that is safe to print."""

MOST_REASON = 400
"""Longest message of another library that is shown; OpenVINO's may tell all of a graph."""


def is_unprintable(character: str) -> bool:
    """Whether a terminal would obey a character, or could not encode it."""
    return ord(character) < 32 or 127 <= ord(character) < 160 or "\ud800" <= character <= "\udfff"


def escape(character: str) -> str:
    """A character as `%` and two hexadecimal digits per byte.

    Lone surrogates represent bytes that are not UTF-8.
    """
    undecodable = "\udc80" <= character <= "\udcff"
    errors = "surrogateescape" if undecodable else "surrogatepass"
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", errors))


def printable(text: str) -> str:
    """Text on one line, as valid UTF-8 without control characters.

    >>> printable("two\\nlines")
    'two%0Alines'
    """
    if text.isprintable():
        return text
    return "".join(escape(c) if is_unprintable(c) else c for c in text)


def printable_lines(text: str) -> str:
    """The same, but lines stay lines."""
    return "\n".join(map(printable, text.split("\n")))


def one_line(error: BaseException) -> str:
    """Another library's message as one line; of a long one the beginning and the end."""
    text = " ".join(str(error).split())
    if len(text) <= MOST_REASON:
        return text
    half = MOST_REASON // 2
    return f"{text[:half]} ... {text[-half:]}"
