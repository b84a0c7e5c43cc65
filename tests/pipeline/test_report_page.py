"""The report's page in a real browser: what it shows, and that strangers' text stays text.

Every page that a test opens is watched: an error on the console, a dialog, a script that came out
of the data, or a request to another host fails the test. A picture of each page is kept in
test-output/report/.
"""

import base64
import io
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from benchmarks import interactive
from tests.report_sample import CLASSES, DEMO, HOSTILE, ROOT, write_data, write_large, write_sample

PICTURES = ROOT / "test-output" / "report"
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
CHARTS = ("shares-chart", "distribution-chart", "runs-chart", "drift-chart")
AXE = {"resultTypes": ["violations"], "preload": False}
ALARM = (179, 38, 30, 255)
SECTIONS = ("archive", "map", "photos", "nights")
PATIENCE = 10.0
VENDORED_LIMIT = 1_500_000


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
    handler = partial(_QuietHandler, directory=str(sample[0]))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


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


def _mask(folder: Path, photo: str) -> np.ndarray:
    text = (folder / "photos" / f"{photo}.mask.js").read_text()
    found = re.search(r'base64,([^"]+)"', text)
    assert found is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))))


def _colours(canvas: Locator) -> Counter[tuple[int, ...]]:
    """How many pixels of a canvas have which RGBA value."""
    url = canvas.evaluate("canvas => canvas.toDataURL()")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGBA"))
    values, counts = np.unique(pixels.view(np.uint32), return_counts=True)
    colours = values.view(np.uint8).reshape(-1, 4).tolist()
    return Counter({tuple(c): int(n) for c, n in zip(colours, counts, strict=True)})


def _until(page: Page, expression: str) -> None:
    """Wait until an expression is true; the page's policy forbids Playwright's own waiting."""
    deadline = time.monotonic() + PATIENCE
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def _column(table: Locator, n: int) -> list[str]:
    return table.locator(f"tbody tr > :nth-child({n})").all_inner_texts()


def _open_photo(page: Page, name: str) -> Locator:
    page.locator("#gallery button", has_text=name).click()
    viewer = page.locator("#viewer")
    expect(viewer.locator("#viewer-class")).not_to_have_text("The mask is being read.")
    return viewer


# From the file system, from a server


def test_what_citymask_report_writes_is_shown(citymask, tiny_model, visit, tmp_path):
    out = tmp_path / "out"
    listed = "uri,latitude,longitude,group\n" + "".join(
        f'{path.resolve().as_uri()},48.{n},9.1,"<b>{n}</b>"\n'
        for n, path in enumerate(sorted(DEMO.glob("*/*.jpg")))
    )
    (tmp_path / "photos.csv").write_text(listed)
    for command in (
        ("run", tmp_path / "photos.csv", "--output", out, "--model", tiny_model),
        ("report", out),
    ):
        result = citymask(*command)
        assert result.exit_code == 0, result.output
    page = visit(out / "report")
    assert page.locator("#groups tbody th").all_inner_texts() == [f"<b>{n}</b>" for n in range(4)]
    page.mouse.move(*_place(page, 0))
    expect(page.locator(".leaflet-tooltip")).to_contain_text("avignon.jpg")
    viewer = _open_photo(page, "rome.jpg")
    classes = np.bincount(_mask(out / "report", "4").ravel(), minlength=3)
    shown = _colours(viewer.locator("#viewer-canvas"))
    assert [shown[0, 0, 255, 255], shown[0, 128, 0, 255], shown[9, 9, 9, 255]] == classes.tolist()
    expect(page.locator("#runs tbody tr")).to_have_count(1)


@pytest.mark.parametrize("source", ["file", "http"])
def test_all_charts_are_drawn_and_told_in_words(visit, sample, served, source):
    page = visit(sample[0] if source == "file" else served)
    for chart in CHARTS:
        box = page.locator(f"#{chart}")
        assert len(_colours(box.locator("canvas").first)) > 5, chart
        assert box.get_attribute("role") == "img"
        assert len(box.get_attribute("aria-label")) > 40
    shares = page.locator("#shares-chart")
    assert "Tree 30.8%" in shares.get_attribute("aria-label")
    assert (128, 128, 0, 255) in _colours(shares.locator("canvas").first)


@pytest.mark.parametrize("source", ["file", "http"])
def test_a_mask_can_be_read_and_the_classes_seen(visit, sample, served, source):
    viewer = _open_photo(visit(sample[0] if source == "file" else served), "plain.jpg")
    colours = _colours(viewer.locator("#viewer-canvas"))
    mask = _mask(sample[0], "4")
    for c, (_, colour) in enumerate(CLASSES):
        assert colours[(*colour, 255)] == (mask == c).sum()
    assert colours[(0, 0, 0, 0)] == (mask == 255).sum() == 16


def test_missing_data_is_said(visit, tmp_path):
    folder = tmp_path / "report"
    write_sample(folder)
    (folder / "data.js").unlink()
    page = visit(folder, faulty=True, ready=False)
    expect(page.get_by_text("citymask report OUT")).to_be_visible()
    expect(page.locator("section").first).to_be_hidden()


def test_without_positions_and_runs_sentences_say_so(visit, tmp_path):
    write_sample(tmp_path / "report", with_map=False, with_nights=False)
    page = visit(tmp_path / "report")
    expect(page.get_by_text("The positions of these photos are not known")).to_be_visible()
    expect(page.locator("#map-box")).to_be_hidden()
    expect(page.get_by_text("There is no record of any run.")).to_be_visible()


def test_an_archive_in_which_nothing_is_done_yet_has_a_report(visit, tmp_path):
    data = write_sample(tmp_path / "report", with_map=False)
    none = [None] * len(data["measures"])
    data["images"] = {"done": 0, "failed": 2, "skipped": 0, "positioned": 0}
    data["totals"] = {"pixels": [0] * len(CLASSES), "images": [0] * len(CLASSES), "values": none}
    data["distributions"] = [{"edges": [], "counts": []} for _ in none]
    data["extremes"] = [{"most": [], "least": []} for _ in none]
    data["groups"] = {"rows": [], "left_out": 0}
    data["gallery"], data["failures"] = [], []
    write_data(tmp_path / "report", data)
    page = visit(tmp_path / "report")
    expect(page.locator("#made")).to_contain_text("0 photos · 2 failed")
    expect(page.locator("#photos-about")).to_have_text("This report holds no photos.")
    expect(page.locator("#photos-count")).to_have_text("0 of 0 photos shown")
    expect(page.get_by_text("No photo has failed.")).to_be_visible()
    assert "NaN" not in page.locator("main").inner_text()


def test_a_chart_under_the_cursor_keeps_its_colours(page):
    box = page.locator("#drift-chart")
    lines = [(*colour, 255) for _, colour in CLASSES]
    before = _colours(box.locator("canvas"))
    box.hover()
    page.wait_for_timeout(200)
    after = _colours(box.locator("canvas"))
    assert [line for line in lines if after[line] < before[line] / 2 or not before[line]] == []


# The archive


def test_counts_are_shown(page, sample):
    figures = page.locator("#counts li").all_inner_texts()
    assert [figure.split() for figure in figures] == [
        ["5", "done"], ["2", "failed"], ["0", "skipped,", "done", "before"],
        ["4", "with", "a", "position"],
    ]  # fmt: skip
    expect(page).to_have_title("demo-output: citymask report")
    assert page.locator("#made").inner_text().startswith("5 photos · 2 failed · model default")


def test_the_distribution_and_the_extremes_are_of_the_chosen_measure(page, sample):
    before = _colours(page.locator("#distribution-chart canvas").first)
    page.locator("#archive-measure").select_option(label="Enclosure")
    expect(page.locator("#most-title")).to_have_text("Photos with the highest Enclosure")
    expect(page.locator("#most button").first).to_contain_text("plain.jpg")
    expect(page.locator("#most button").first).to_contain_text("Enclosure: 5.5")
    expect(page.locator("#least button").first).to_contain_text("2.5")
    label = page.locator("#distribution-chart").get_attribute("aria-label")
    assert label.startswith("Histogram of Enclosure over 4 photos")
    assert _colours(page.locator("#distribution-chart canvas").first) != before
    page.locator("#archive-measure").select_option(label="Tree")
    expect(page.locator("#most-title")).to_have_text("Photos with the most Tree")


def test_groups_are_sorted_by_mouse_and_by_keyboard(page):
    table = page.locator("#groups table")
    head = table.get_by_role("columnheader", name="Green view index")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    shares = sorted((float(x.rstrip("%")) for x in _column(table, 3)), reverse=True)
    expect(table.locator("tbody td:nth-child(3)")).to_have_text([f"{x}%" for x in shares])
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    expect(head).to_have_attribute("aria-sort", "ascending")
    expect(table.locator("tbody td:nth-child(3)")).to_have_text([f"{x}%" for x in shares[::-1]])
    table.get_by_role("columnheader", name="Group").get_by_role("button").click()
    expect(head).not_to_have_attribute("aria-sort", "ascending")
    expect(table.locator("tbody th")).to_have_text(["west", "centre", HOSTILE])


def test_the_columns_of_the_groups_can_be_chosen(page):
    page.locator("#group-columns").select_option(label="All classes")
    heads = page.locator("#groups thead button").all_inner_texts()
    assert heads[0:2] == ["Group", "Photos"]
    assert set(heads[2:]) == {name for name, _ in CLASSES}


def test_what_has_no_value_comes_last(page, sample):
    page.locator("#map-details summary").click()
    page.locator("#map-measure").select_option(label="Enclosure")
    assert len(_column(page.locator("#map-details table"), 1)) == 3
    expect(page.locator("#map-legend")).to_contain_text("grey: not defined (1 photo)")


# The map


def test_the_map_moves_and_zooms_by_mouse_keys_and_buttons(page):
    box = page.locator("#map-box")
    box.scroll_into_view_if_needed()
    assert len(_colours(box.locator("canvas"))) > 3
    view = """() => {
        const { lat, lng } = citymaskPage.map.getCenter();
        return [citymaskPage.map.getZoom(), lat, lng];
    }"""
    zoom, latitude, longitude = page.evaluate(view)
    frame = box.bounding_box()
    x, y = frame["x"] + 300, frame["y"] + 60
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 80, y + 40, steps=4)
    page.mouse.up()
    assert page.evaluate(view)[2] < longitude
    assert page.evaluate(view)[1] > latitude
    box.get_by_role("button", name="Zoom in").click()
    assert page.evaluate(view)[0] == zoom + 1
    box.focus()
    page.keyboard.press("-")
    _until(page, f"citymaskPage.map.getZoom() === {zoom}")
    longitude = page.evaluate(view)[2]
    page.keyboard.press("ArrowRight")
    _until(page, f"citymaskPage.map.getCenter().lng > {longitude}")
    expect(box.locator(".leaflet-control-scale-line")).to_have_text(re.compile(r"^\d+ k?m$"))


def _place(page: Page, n: int) -> tuple[float, float]:
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


def test_a_tooltip_has_name_value_number_and_thumbnail(page, sample):
    page.mouse.move(*_place(page, 3))
    tooltip = page.locator(".leaflet-tooltip")
    expect(tooltip).to_contain_text("plain.jpg")
    share = sample[1]["gallery"][3]["values"][6]
    expect(tooltip).to_contain_text(f"Green view index: {share:.1%}")
    expect(tooltip).to_contain_text("1 photo")
    _until(page, "document.querySelector('.leaflet-tooltip img').naturalWidth > 0")


def test_a_click_opens_a_popup_and_it_the_photo(page):
    page.mouse.click(*_place(page, 0))
    popup = page.locator(".leaflet-popup")
    expect(popup.locator("strong")).to_have_text(f"{HOSTILE}.jpg")
    popup.get_by_role("button", name="Open the photo").click()
    expect(page.locator("#viewer-title")).to_have_text(f"{HOSTILE}.jpg")


def test_places_are_visited_with_the_keyboard(page):
    page.locator("#map-box").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".leaflet-popup button")).to_be_focused()
    expect(page.locator("#map-status")).to_have_text(
        re.compile(r"\. Green view index: \d+\.\d%\. 1 photo\.$")
    )
    page.keyboard.press("Escape")
    expect(page.locator(".leaflet-popup")).to_have_count(0)
    expect(page.locator("#map-box")).to_be_focused()
    page.locator("#map-details summary").press("Enter")
    page.locator("#map-details tbody button").first.press("Enter")
    expect(page.locator(".leaflet-popup button")).to_be_focused()


def test_another_measure_colours_the_map_anew(page):
    before = _colours(page.locator("#map-box canvas"))
    ticks = page.locator("#map-legend .ticks").inner_text()
    page.locator("#map-measure").select_option(label="Sky")
    expect(page.locator("#map-legend")).to_contain_text("viridis")
    page.evaluate("() => new Promise((drawn) => setTimeout(() => requestAnimationFrame(drawn)))")
    assert _colours(page.locator("#map-box canvas")) != before
    assert page.locator("#map-legend .ticks").inner_text() != ticks


def test_tiles_come_from_the_server_that_is_named_and_no_other(visit, served, tmp_path):
    data = write_sample(tmp_path / "report")
    host = served.rsplit("/", 1)[0]
    data["map"]["tiles"] = {
        "url": host + "/photos/1.jpg?{z}/{x}/{y}",
        "attribution": f"&copy; <a href='https://a.example'>Map makers</a>{HOSTILE}",
    }
    write_data(tmp_path / "report", data)
    page = visit(tmp_path / "report", faulty=True)
    page.wait_for_selector(".leaflet-tile-loaded", state="attached")
    expect(page.locator("#map-attribution")).to_have_text("© Map makers")
    other = host.replace("127.0.0.1", "localhost") + "/photos/1.jpg"
    refused = page.evaluate(
        """address => new Promise((resolve) => {
            addEventListener("securitypolicyviolation", (e) => resolve(e.effectiveDirective));
            const image = new Image();
            image.onload = () => resolve("loaded");
            image.src = address;
        })""",
        other,
    )
    assert refused == "img-src"
    assert page.evaluate("window.hacked") is None


# The photos


def test_filters_filter(page, sample):
    shown = page.locator("#gallery > li")
    expect(shown).to_have_count(5)
    page.locator("#filter-group").select_option(label=HOSTILE)
    expect(shown).to_have_count(2)
    expect(page.locator("#photos-count")).to_have_text("2 of 5 photos shown")
    page.locator("#filters").get_by_role("button", name="Show all").click()
    expect(shown).to_have_count(5)

    trees = [entry["values"][4] for entry in sample[1]["gallery"]]
    middle = sorted(trees)[2] * 100 + 0.001
    page.locator("#filter-measure").select_option(label="Tree")
    page.locator("#filter-from").fill(f"{middle:.3f}")
    expect(shown).to_have_count(sum(tree * 100 >= middle for tree in trees))
    page.locator("#filter-from").fill("")
    page.locator("#filter-to").fill(f"{middle:.3f}")
    expect(shown).to_have_count(sum(tree * 100 <= middle for tree in trees))
    page.locator("#filter-to").fill("")
    page.locator("#filter-confidence").fill("50")
    expect(shown).to_have_count(1)
    expect(shown).to_contain_text("Confidence: 41.0%, low")


def test_the_order_can_be_chosen(page, sample):
    page.locator("#filter-measure").select_option(label="Car")
    page.locator("#filter-order").select_option(label="most first")
    found = [
        float(re.search(r"Car: <? ?([\d.]+)%", text)[1])
        for text in page.locator("#gallery > li").all_text_contents()
    ]
    assert found == sorted(found, reverse=True)
    page.locator("#filter-order").select_option(label="least confident first")
    expect(page.locator("#gallery > li").first).to_contain_text("Confidence: 41.0%")


def test_thumbnails_load_when_they_come_into_view(page):
    image = page.locator("#gallery img").first
    assert image.get_attribute("loading") == "lazy"
    image.scroll_into_view_if_needed()
    _until(page, "document.querySelector('#gallery img').naturalWidth > 0")


def test_the_divider_moves_by_keyboard_and_mouse(page):
    viewer = _open_photo(page, "plain.jpg")
    slider = viewer.get_by_role("slider", name="Divider between photo and mask")
    expect(slider).to_have_attribute("aria-valuenow", "50")
    slider.focus()
    page.keyboard.down("ArrowRight")
    _until(page, "document.getElementById('viewer-slider').value > 60")
    page.keyboard.up("ArrowRight")
    assert int(slider.get_attribute("aria-valuenow")) >= 60
    frame = slider.bounding_box()
    where = slider.evaluate("slider => slider.value") / 100
    page.mouse.move(frame["x"] + frame["width"] * where, frame["y"] + frame["height"] / 2)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] * 0.2, frame["y"] + frame["height"] / 2, steps=3)
    page.mouse.up()
    assert abs(int(slider.get_attribute("aria-valuenow")) - 20) <= 1


def test_a_class_is_switched_off_and_on(page, sample):
    viewer = _open_photo(page, "plain.jpg")
    canvas = viewer.locator("#viewer-canvas")
    before = _colours(canvas)
    box = viewer.get_by_role("checkbox", name=re.compile("^Building"))
    box.uncheck()
    after = _colours(canvas)
    assert (128, 0, 0, 255) not in after
    assert after[(0, 0, 0, 0)] == before[(0, 0, 0, 0)] + before[(128, 0, 0, 255)]
    assert after[(128, 64, 128, 255)] == before[(128, 64, 128, 255)]
    viewer.get_by_role("button", name="All off").click()
    assert set(_colours(canvas)) == {(0, 0, 0, 0)}
    viewer.get_by_role("button", name="All on").click()
    assert _colours(canvas) == before


def test_the_class_under_the_cursor_and_the_crosshair_is_named(page, sample):
    mask = _mask(sample[0], "4")
    viewer = _open_photo(page, "plain.jpg")
    frame = viewer.locator("#viewer-slider").bounding_box()
    for across, down in ((0.1, 0.1), (0.3, 0.95), (0.9, 0.4)):
        page.mouse.move(frame["x"] + frame["width"] * across, frame["y"] + frame["height"] * down)
        expected = CLASSES[mask[int(mask.shape[0] * down), int(mask.shape[1] * across)]][0]
        expect(viewer.locator("#viewer-class")).to_have_text(expected)
    viewer.get_by_label("Crosshair across").focus()
    page.keyboard.press("Home")
    viewer.get_by_label("Crosshair down").focus()
    page.keyboard.press("Home")
    expect(viewer.locator("#viewer-class")).to_have_text("No class")
    page.keyboard.press("End")
    expect(viewer.locator("#viewer-class")).to_have_text(CLASSES[mask[-1, 0]][0])


def test_the_viewer_goes_from_photo_to_photo_of_those_shown(page):
    page.locator("#filter-group").select_option(label="centre")
    viewer = _open_photo(page, "ü #?%41.jpg")
    viewer.get_by_role("button", name="Next").click()
    expect(viewer.locator("#viewer-title")).to_contain_text("</script>")
    viewer.get_by_role("button", name="Next").click()
    expect(viewer.locator("#viewer-title")).to_have_text("a b/ü #?%41.jpg")


def test_a_photo_that_is_gone_still_has_its_facts(page):
    expect(page.locator("#gallery > li").last).to_contain_text("its mask alone")
    page.locator("#gallery button").last.click()
    viewer = page.locator("#viewer")
    expect(viewer.get_by_text("The photo is gone or has changed")).to_be_visible()
    expect(viewer.locator("#viewer-facts")).to_contain_text("1,024 × 769 pixels")


# The nights


def test_runs_alarms_failures_settings_and_the_model_are_told(page):
    runs = page.locator("#runs table")
    assert _column(runs, 8)[0] == "20261003T010000Z-000002"
    assert _column(runs, 7)[0] == "SIGTERM"
    assert _column(runs, 6)[1] == f"share of Sky drifted by 0.12 {HOSTILE}"
    expect(page.locator("#alarms-about")).to_contain_text("1 run with an alarm")
    assert ALARM in _colours(page.locator("#drift-chart canvas"))
    assert "Alarms: Oct 2" in page.locator("#drift-chart").get_attribute("aria-label")
    failures = page.locator("#failures table")
    assert _column(failures, 1) == [f"bad {HOSTILE}"]
    assert _column(failures, 5) == [f"x/{HOSTILE}.jpg\ny.jpg"]
    expect(page.locator("#settings")).to_contain_text("batch size")
    expect(page.locator("#model")).to_contain_text("efficientnet_fpn")
    assert _column(page.locator("#model table"), 1) == [name for name, _ in CLASSES]


# Strangers' text


def test_hostile_names_are_only_text_wherever_they_stand(page, sample):
    for select in ("archive-measure", "map-measure", "group-columns", "filter-measure"):
        for option in page.locator(f"#{select} option").all():
            page.locator(f"#{select}").select_option(option.get_attribute("value"))
    for n in range(4):
        page.mouse.move(*_place(page, n))
        page.mouse.click(*_place(page, n))
    for chart in CHARTS:
        frame = page.locator(f"#{chart}")
        frame.scroll_into_view_if_needed()
        frame.hover()
    names = [entry["image"] for entry in sample[1]["gallery"]]
    assert page.locator("#gallery button").evaluate_all("all => all.map(b => b.title)") == names
    page.locator("#gallery button").first.click()
    for _ in names:
        page.locator("#viewer-next").click()
    assert page.evaluate("document.querySelectorAll('[onerror]').length") == 0


def test_a_script_that_got_in_all_the_same_would_not_run(visit, served, sample):
    for address in (served, sample[0]):
        page = visit(address, faulty=True)
        page.evaluate("html => document.body.insertAdjacentHTML('beforeend', html)", HOSTILE)
        page.evaluate(
            """() => {
                const script = document.createElement("script");
                script.textContent = "window.hacked = 1";
                document.body.append(script);
            }"""
        )
        page.wait_for_timeout(100)
        assert page.evaluate("window.hacked") is None


# Everyone


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, sample, scheme):
    page = visit(sample[0], color_scheme=scheme)
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    found = [*_serious(page, [f"#{section}" for section in SECTIONS]), *_serious(page, None)]
    page.mouse.click(*_place(page, 0))
    page.wait_for_selector(".leaflet-popup")
    found += _serious(page, ["#map"])
    _open_photo(page, "plain.jpg")
    found += _serious(page, ["#viewer"])
    assert not found


def _serious(page: Page, parts: list[str] | None) -> list[str]:
    context = {"include": [[part] for part in parts]} if parts else None
    report = Axe().run(page, context=context, options=AXE).response
    return [
        f"{v['id']} {v['impact']}: {v['help']}: {node['html'][:200]}"
        for v in report["violations"]
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
    ]


def test_a_phone_needs_no_scrolling_sideways(visit, sample):
    page = visit(sample[0], **PHONE)
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not page.evaluate(wide)
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    assert not page.evaluate(wide)
    page.locator("#gallery button").first.tap()
    expect(page.locator("#viewer-canvas")).to_be_visible()
    dialog = page.locator("#viewer")
    assert dialog.evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")
    small = page.locator("#viewer button, #viewer select, .controls select").evaluate_all(
        "all => all.filter(e => e.offsetHeight && e.offsetHeight < 32).length"
    )
    assert small == 0


def test_a_finger_moves_the_divider_and_reads_the_class(visit, sample):
    page = visit(sample[0], **PHONE)
    mask = _mask(sample[0], "4")
    viewer = _open_photo(page, "plain.jpg")
    slider = viewer.get_by_role("slider", name="Divider between photo and mask")
    frame = slider.bounding_box()
    x, y, width = frame["x"], frame["y"] + frame["height"] / 2, frame["width"]
    finger = page.context.new_cdp_session(page)
    for kind, part in (("touchStart", 0.5), ("touchMove", 0.6), ("touchMove", 0.8)):
        at = [{"x": x + width * part, "y": y}]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert abs(int(slider.get_attribute("aria-valuenow")) - 80) <= 1
    page.touchscreen.tap(x + width * 0.25, frame["y"] + frame["height"] * 0.1)
    expected = CLASSES[mask[int(mask.shape[0] * 0.1), int(mask.shape[1] * 0.25)]][0]
    expect(viewer.locator("#viewer-class")).to_have_text(expected)


def test_everything_is_reached_by_keyboard(page):
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the report")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    reached = []
    for _ in range(150):
        page.keyboard.press("Tab")
        seen = page.evaluate(
            """() => {
                const e = document.activeElement;
                const style = getComputedStyle(e);
                return [e.id, e.closest("section")?.id, e !== document.body
                        && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0];
            }"""
        )
        if seen[1] is None:
            break
        assert seen[2], f"the focus on {seen} cannot be seen"
        reached.append(seen[0])
    controls = page.locator("main select, main input, #map-box").evaluate_all(
        "all => all.filter(e => e.checkVisibility()).map(e => e.id)"
    )
    assert set(controls) <= set(reached)


def test_the_viewer_is_left_with_escape_to_where_it_was_opened(page):
    card = page.locator("#gallery button").nth(3)
    card.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#viewer")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    expect(card).to_be_focused()


def test_numbers_are_written_as_the_reader_writes_them(visit, sample):
    page = visit(sample[0], locale="de-DE")
    assert "30,8\u00a0%" in page.locator("#indicators").inner_text()


def test_on_paper_charts_and_tables_are_left(page):
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 720, "height": 1000})
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    for chart in CHARTS:
        canvas = page.locator(f"#{chart} canvas").first
        expect(canvas).to_be_visible()
        assert canvas.bounding_box()["width"] <= 720
    expect(page.locator("#shares-details table")).to_be_visible()
    for hidden in ("#map-box", "#photos", "nav", "#archive-measure"):
        expect(page.locator(hidden)).to_be_hidden()


# A large archive


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("large") / "report"
    write_large(folder)
    return folder


def test_a_million_photos_are_shown_with_ten_thousand_hexagons(visit, large):
    page = visit(large)
    print(f"ready after {page.evaluate('citymaskPage.readyAfter'):.0f} ms")
    page.evaluate("citymaskPage.map.setView(citymaskReport.map.features[5050].position, 16)")
    page.mouse.move(*_place(page, 5050))
    expect(page.locator(".leaflet-tooltip strong")).to_have_text("8b1f0013bafff")
    page.locator("#groups").get_by_role("button", name="Enclosure").click()
    expect(page.locator("#groups tbody tr").last.locator("td").last).to_have_text("–")
    page.locator("#groups").get_by_role("button", name="Photos").click()
    expect(page.locator("#groups tbody tr").first.locator("td").first).to_have_text("1,000")
    page.locator("#groups").get_by_role("button", name="Photos").click()
    expect(page.locator("#groups tbody tr").first.locator("td").first).to_have_text("501")
    expect(page.locator("#groups tbody tr")).to_have_count(1000)
    expect(page.locator("#groups-left-out")).to_have_text("250 smaller groups are not shown.")
    expect(page.locator("#photos-about")).to_contain_text("500 of the 1,000,000 photos")
    page.locator("#map-measure").select_option(label="Sky")
    expect(page.locator("#map-legend strong")).to_have_text("Sky")


def test_how_soon_a_report_can_be_used_is_measured(browser, sample):
    found = interactive.measure(browser, sample[0])
    assert 0 < found.seconds < interactive.PATIENCE_MS / 1000
    assert found.zoom_seconds is not None


# What is bundled


def test_bundled_libraries_are_small_and_their_licences_told():
    vendor = ROOT / "pipeline" / "report_page" / "assets" / "vendor"
    files = [path for path in vendor.iterdir() if path.name != "LICENSES.txt"]
    told = (vendor / "LICENSES.txt").read_text(encoding="utf-8")
    assert files
    assert [path.name for path in files if path.name not in told] == []
    assert sum(path.stat().st_size for path in files) < VENDORED_LIMIT


def test_data_reaches_the_page_as_text_only():
    own = (ROOT / "pipeline" / "report_page" / "assets").glob("*.js")
    writers = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(")
    assert [path.name for path in own if writers.search(path.read_text(encoding="utf-8"))] == []
