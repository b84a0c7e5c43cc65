"""Makes the pictures of the tutorial, from two reports as it describes them.

    python docs/tutorial/pictures.py OUT GENERATED

It needs Chromium and Playwright, as the tests of the report do.
"""

import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from benchmarks.interactive import READY, open_browser  # noqa: E402

MEASURE = "Green view index"
TRIER, STUTTGART = [49.7534, 6.6432], [48.778, 9.18]
COLORS = 256


def main() -> None:
    own, generated = map(Path, sys.argv[1:])
    with open_browser() as browser:
        page = open_report(browser, own)
        click_on_map(page, TRIER)
        save(page.locator("#map").screenshot(), "map")
        page.keyboard.press("Escape")
        page.locator("#groups th", has_text=MEASURE).first.click()
        page.wait_for_timeout(500)
        save(page.locator("#groups").screenshot(), "streets")
        page.locator("#gallery button", has_text="trier").first.click()
        page.wait_for_timeout(1000)
        save(page.screenshot(), "photo")

        page = open_report(browser, generated)
        page.evaluate(f"void citymaskPage.map.setView({STUTTGART}, 11, {{animate: false}})")
        page.wait_for_timeout(1000)
        save(page.locator("#map-box").screenshot(), "city")


def open_report(browser: Browser, output: Path) -> Page:
    """The page of a report, its map coloured by the measure."""
    page = browser.new_context(viewport={"width": 1100, "height": 760}).new_page()
    page.goto((output / "report/index.html").resolve().as_uri())
    page.wait_for_selector(READY)
    page.select_option("#map-measure", label=MEASURE)
    page.locator("#map").scroll_into_view_if_needed()
    return page


def click_on_map(page: Page, position: list[float]) -> None:
    """Click on a place of the map."""
    box = page.locator("#map-box")
    box.scroll_into_view_if_needed()
    corner = box.bounding_box()
    assert corner, "the map is shown"
    spot = page.evaluate(f"citymaskPage.map.latLngToContainerPoint({position})")
    page.mouse.click(corner["x"] + spot["x"], corner["y"] + spot["y"])
    page.wait_for_timeout(1000)


def save(png: bytes, name: str) -> None:
    """Write a picture with few colours, which makes it small."""
    picture = Image.open(BytesIO(png)).convert("RGB").quantize(COLORS)
    picture.save(HERE / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
