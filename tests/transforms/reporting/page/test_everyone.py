"""The page for everyone: with a screen reader, a phone, a keyboard."""

import pytest
from playwright.sync_api import expect

from tests.report_sample import CLASSES
from tests.transforms.reporting.page.browsing import (
    PHONE,
    mask_of,
    open_photo,
    place,
    serious_findings,
)

SECTIONS = ("archive", "map", "photos", "nights")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, sample, scheme):
    page = visit(sample[0], color_scheme=scheme)
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    found = [
        *serious_findings(page, [f"#{section}" for section in SECTIONS]),
        *serious_findings(page, None),
    ]
    page.mouse.click(*place(page, 0))
    page.wait_for_selector(".leaflet-popup")
    found += serious_findings(page, ["#map"])
    open_photo(page, "plain.jpg")
    found += serious_findings(page, ["#viewer"])
    assert not found


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
    mask = mask_of(sample[0], "4")
    viewer = open_photo(page, "plain.jpg")
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
