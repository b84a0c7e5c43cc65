"""Chromium, a sample of a report, and pages that are watched.

An error on the console, a dialog, a script that came out of the data, or a request to another host
fails the test that opened the page. A picture of each page is kept in test-output/report/.
"""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from werkzeug import Request, Response
from werkzeug.utils import send_from_directory

from benchmarks import interactive
from tests.http_server import HttpServer
from tests.report_sample import write_sample
from tests.transforms.reporting.page.browsing import DESKTOP, PATIENCE, PICTURES, Watched

expect.set_options(timeout=1000 * PATIENCE)


@pytest.fixture(scope="module")
def browser():
    if interactive.CHROMIUM is None:
        pytest.skip("needs the browser Chromium (Debian package chromium)")
    with interactive.open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("sample") / "report"
    return folder, write_sample(folder)


@pytest.fixture(scope="module")
def served(sample) -> str:
    """The address of the sample report from an HTTP server."""
    with FolderServer(sample[0]) as server:
        yield f"{server.url}/index.html"


@pytest.fixture
def visit(browser: Browser, request):
    """A function that opens an address, watched; with `faulty`, what goes wrong is left alone."""
    opened: list[tuple[Watched, str, bool]] = []

    def open_page(
        address: str | Path, *, faulty: bool = False, ready: bool = True, **options: Any
    ) -> Page:
        options = {"viewport": DESKTOP, "reduced_motion": "reduce", **options}
        context = browser.new_context(**options)
        watched = Watched(context.new_page())
        if isinstance(address, Path):
            address = (address / "index.html").as_uri()
        opened.append((watched, address, faulty))
        watched.page.goto(address)
        if ready:
            watched.page.wait_for_selector(interactive.READY)
        return watched.page

    yield open_page
    PICTURES.mkdir(parents=True, exist_ok=True)
    for n, (watched, address, faulty) in enumerate(opened):
        name = re.sub(r"[^\w-]", "_", request.node.name)
        watched.page.screenshot(path=PICTURES / f"{name}{n or ''}.png")
        hacked = watched.page.evaluate("window.hacked")
        watched.page.context.close()
        home = address.rsplit("/", 1)[0]
        if not faulty:
            assert not watched.problems
            assert hacked is None
            assert not [u for u in watched.requests if not u.startswith((home, "data:"))]


@pytest.fixture
def page(visit, sample) -> Page:
    """The sample report, opened from the file system."""
    return visit(sample[0])


class FolderServer(HttpServer):
    """A server of the files in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def answer(self, request: Request) -> Response:
        return send_from_directory(self.folder, request.path[1:], request.environ)
