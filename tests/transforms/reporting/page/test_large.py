"""A large archive, and how soon its page can be used."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from benchmarks import interactive
from tests.report_sample import write_large
from tests.transforms.reporting.page.browsing import place


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("large") / "report"
    write_large(folder)
    return folder


def test_a_million_photos_are_shown_with_ten_thousand_hexagons(visit, large):
    page = visit(large)
    print(f"ready after {page.evaluate('citymaskPage.readyAfter'):.0f} ms")
    page.evaluate("citymaskPage.map.setView(citymaskReport.map.features[5050].position, 16)")
    page.mouse.move(*place(page, 5050))
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
