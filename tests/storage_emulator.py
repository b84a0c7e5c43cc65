"""The Cloud Storage emulator of PyPI on the loopback: the protocol, without preconditions."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from gcp_storage_emulator.server import create_server


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


@contextmanager
def storage_emulator(bucket: str) -> Iterator[str]:
    """As a context, the URL of an emulator with an empty bucket."""
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)  # A 404 is no news.
    port = free_port()
    server = create_server("localhost", port, in_memory=True, default_bucket=bucket)
    server.start()
    try:
        yield f"http://localhost:{port}"
    finally:
        server.stop()
