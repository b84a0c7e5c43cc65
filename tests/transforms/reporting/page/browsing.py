"""Looking at a page in the browser and at what it shows."""

import base64
import io
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.report_sample import ROOT

PICTURES = ROOT / "test-output" / "report"
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
CHARTS = ("shares-chart", "distribution-chart", "runs-chart", "drift-chart")
AXE = {"resultTypes": ["violations"], "preload": False}
PATIENCE = 20.0


@dataclass
class Watched:
    """A page and what it did that it should not."""

    page: Page
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._read_console)
        self.page.on("dialog", self._dismiss)

    def _read_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def _dismiss(self, dialog: Any) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()


def mask_of(folder: Path, photo: str) -> np.ndarray:
    text = (folder / "photos" / f"{photo}.mask.js").read_text()
    found = re.search(r'base64,([^"]+)"', text)
    assert found is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))))


def colours_of(canvas: Locator) -> Counter[tuple[int, ...]]:
    """How many pixels of a canvas have which RGBA value."""
    url = canvas.evaluate("canvas => canvas.toDataURL()")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGBA"))
    values, counts = np.unique(pixels.view(np.uint32), return_counts=True)
    colours = values.view(np.uint8).reshape(-1, 4).tolist()
    return Counter({tuple(c): int(n) for c, n in zip(colours, counts, strict=True)})


def until(page: Page, expression: str) -> None:
    """Wait until an expression is true; the page's policy forbids Playwright's own waiting."""
    deadline = time.monotonic() + PATIENCE
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def column(table: Locator, n: int) -> list[str]:
    return table.locator(f"tbody tr > :nth-child({n})").all_inner_texts()


def open_photo(page: Page, name: str) -> Locator:
    page.locator("#gallery button", has_text=name).click()
    viewer = page.locator("#viewer")
    expect(viewer.locator("#viewer-class")).not_to_have_text("The mask is being read.")
    return viewer


def place(page: Page, n: int) -> tuple[float, float]:
    """Where on the screen a place of the map is."""
    page.locator("#map-box").scroll_into_view_if_needed()
    return tuple(
        page.evaluate(
            """n => {
                const frame = document.getElementById("map-box").getBoundingClientRect();
                const at = citymaskPage.map.latLngToContainerPoint(
                    citymaskReport.map.features[n].position);
                return [frame.left + at.x, frame.top + at.y];
            }""",
            n,
        )
    )


def serious_findings(page: Page, parts: list[str] | None) -> list[str]:
    context = {"include": [[part] for part in parts]} if parts else None
    report = Axe().run(page, context=context, options=AXE).response
    return [
        f"{v['id']} {v['impact']}: {v['help']}: {node['html'][:200]}"
        for v in report["violations"]
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
    ]
