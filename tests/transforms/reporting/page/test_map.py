"""The map: it moves, and places tell about themselves to mouse, keyboard and eye."""

import re

from playwright.sync_api import expect

from tests.report_sample import HOSTILE, write_data, write_sample
from tests.transforms.reporting.page.browsing import colours_of, column, place, until


def test_the_map_moves_and_zooms_by_mouse_keys_and_buttons(page):
    box = page.locator("#map-box")
    box.scroll_into_view_if_needed()
    assert len(colours_of(box.locator("canvas"))) > 3
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
    until(page, f"citymaskPage.map.getZoom() === {zoom}")
    longitude = page.evaluate(view)[2]
    page.keyboard.press("ArrowRight")
    until(page, f"citymaskPage.map.getCenter().lng > {longitude}")
    expect(box.locator(".leaflet-control-scale-line")).to_have_text(re.compile(r"^\d+ k?m$"))


def test_a_tooltip_has_name_value_number_and_thumbnail(page, sample):
    page.mouse.move(*place(page, 3))
    tooltip = page.locator(".leaflet-tooltip")
    expect(tooltip).to_contain_text("plain.jpg")
    share = sample[1]["gallery"][3]["values"][6]
    expect(tooltip).to_contain_text(f"Green view index: {share:.1%}")
    expect(tooltip).to_contain_text("1 photo")
    until(page, "document.querySelector('.leaflet-tooltip img').naturalWidth > 0")


def test_a_click_opens_a_popup_and_it_the_photo(page):
    page.mouse.click(*place(page, 0))
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
    before = colours_of(page.locator("#map-box canvas"))
    ticks = page.locator("#map-legend .ticks").inner_text()
    page.locator("#map-measure").select_option(label="Sky")
    expect(page.locator("#map-legend")).to_contain_text("viridis")
    page.evaluate("() => new Promise((drawn) => setTimeout(() => requestAnimationFrame(drawn)))")
    assert colours_of(page.locator("#map-box canvas")) != before
    assert page.locator("#map-legend .ticks").inner_text() != ticks


def test_what_has_no_value_comes_last(page, sample):
    page.locator("#map-details summary").click()
    page.locator("#map-measure").select_option(label="Enclosure")
    assert len(column(page.locator("#map-details table"), 1)) == 3
    expect(page.locator("#map-legend")).to_contain_text("grey: not defined (1 photo)")


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
