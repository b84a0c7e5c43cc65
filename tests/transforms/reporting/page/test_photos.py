"""The gallery and the viewer of photo and mask."""

import re

from playwright.sync_api import expect

from tests.report_sample import CLASSES, HOSTILE
from tests.transforms.reporting.page.browsing import colours_of, mask_of, open_photo, until


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
    expect(shown).to_contain_text("Confidence: 41.0%")
    page.locator("#filter-confidence").fill("")
    page.locator("#filter-unlike").select_option(label="unlike those the model knows")
    expect(shown).to_have_count(1)
    expect(shown).to_contain_text("Unlike those the model knows")
    page.locator("#filters").get_by_role("button", name="Show all").click()
    expect(shown).to_have_count(5)


def test_the_viewer_says_that_a_photo_is_unlike_the_others(page):
    page.locator("#filter-unlike").select_option(label="unlike those the model knows")
    page.locator("#gallery button").click()
    facts = page.locator("#viewer-facts")
    expect(facts).to_contain_text("55.0%, unlike those the model knows")


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
    page.locator("#filter-order").select_option(label="most uncertain first")
    expect(page.locator("#gallery > li").first).to_contain_text("Unlike those the model knows")


def test_thumbnails_load_when_they_come_into_view(page):
    image = page.locator("#gallery img").first
    assert image.get_attribute("loading") == "lazy"
    image.scroll_into_view_if_needed()
    until(page, "document.querySelector('#gallery img').naturalWidth > 0")


def test_the_divider_moves_by_keyboard_and_mouse(page):
    viewer = open_photo(page, "plain.jpg")
    slider = viewer.get_by_role("slider", name="Divider between photo and mask")
    expect(slider).to_have_attribute("aria-valuenow", "50")
    slider.focus()
    page.keyboard.down("ArrowRight")
    until(page, "document.getElementById('viewer-slider').value > 60")
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
    viewer = open_photo(page, "plain.jpg")
    canvas = viewer.locator("#viewer-canvas")
    before = colours_of(canvas)
    box = viewer.get_by_role("checkbox", name=re.compile("^Building"))
    box.uncheck()
    after = colours_of(canvas)
    assert (128, 0, 0, 255) not in after
    assert after[(0, 0, 0, 0)] == before[(0, 0, 0, 0)] + before[(128, 0, 0, 255)]
    assert after[(128, 64, 128, 255)] == before[(128, 64, 128, 255)]
    viewer.get_by_role("button", name="All off").click()
    assert set(colours_of(canvas)) == {(0, 0, 0, 0)}
    viewer.get_by_role("button", name="All on").click()
    assert colours_of(canvas) == before


def test_the_class_under_the_cursor_and_the_crosshair_is_named(page, sample):
    mask = mask_of(sample[0], "4")
    viewer = open_photo(page, "plain.jpg")
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
    viewer = open_photo(page, "ü #?%41.jpg")
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
