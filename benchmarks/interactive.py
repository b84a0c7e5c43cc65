"""Measure the time until a report page is interactive, in headless Chromium.

    python benchmarks/interactive.py OUT/report [--runs 3]

The page is opened from the file system in a new browser context each time, so nothing is cached. It
is ready when all charts and the map are drawn, which the page itself reports.
"""

import argparse
import shutil
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
"""Path of the browser; None if it is not installed."""

OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
READY = "html[data-ready='true']"
PATIENCE_MS = 60_000

ZOOM = """async () => {
    const map = globalThis.citymaskPage.map;
    if (!map) return null;
    const began = performance.now();
    map.setZoom(map.getZoom() + 1, {animate: false});
    await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
    return performance.now() - began;
}"""


@dataclass(frozen=True)
class Interactive:
    """Measurements of a page.

    Attributes:
        seconds: from the start of the navigation until charts and map are drawn.
        zoom_seconds: from a zoom of the map until it is redrawn; None without a map.
    """

    seconds: float
    zoom_seconds: float | None


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Open headless Chromium; close it at the end of the context."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        try:
            yield browser
        finally:
            browser.close()


def measure(browser: Browser, report: Path) -> Interactive:
    """Open the report of a folder once, in a new browser context."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        return _measure(context.new_page(), (report / "index.html").resolve().as_uri())
    finally:
        context.close()


def _measure(page: Page, address: str) -> Interactive:
    page.goto(address, wait_until="commit")
    page.wait_for_selector(READY, timeout=PATIENCE_MS)
    seconds = page.evaluate("citymaskPage.readyAfter") / 1000
    zoom = page.evaluate(ZOOM)
    return Interactive(seconds, None if zoom is None else zoom / 1000)


def main() -> None:
    """Print medians of several runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    if CHROMIUM is None:
        parser.error("Chromium is not found; install it (Debian package chromium)")
    with open_browser() as browser:
        found = [measure(browser, arguments.report) for _ in range(arguments.runs)]
    seconds = [entry.seconds for entry in found]
    print(
        f"ready after {statistics.median(seconds):.2f} s (of {min(seconds):.2f}-{max(seconds):.2f})"
    )
    zooms = [entry.zoom_seconds for entry in found if entry.zoom_seconds is not None]
    if zooms:
        print(f"map redrawn after a zoom in {statistics.median(zooms):.2f} s")


if __name__ == "__main__":
    main()
