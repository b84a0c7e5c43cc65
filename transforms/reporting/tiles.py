"""Tiles: the optional background of the map."""

from urllib.parse import urlsplit

PARTS = ("{z}", "{x}", "{y}")
"""What stands in a URL for zoom, column and row of a tile."""


def check_tiles(url: str) -> str:
    """The URL template, as it is; raises ValueError where it is none of tiles."""
    if urlsplit(url).scheme not in ("http", "https") or not host_of(url):
        raise ValueError(f"{url!r} is not an http(s) URL")
    missing = [part for part in PARTS if part not in url]
    if missing:
        raise ValueError(
            f"{url!r} lacks {' and '.join(missing)}; "
            "expected one such as https://HOST/{z}/{x}/{y}.png"
        )
    return url


def host_of(url: str) -> str:
    """Whose tiles they are; empty where the URL names no host."""
    return urlsplit(url).hostname or ""
