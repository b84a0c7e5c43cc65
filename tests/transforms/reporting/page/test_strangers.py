"""What strangers put into names and messages stays text, and what is bundled is told."""

import re

from tests.report_sample import HOSTILE, ROOT
from tests.transforms.reporting.page.browsing import CHARTS, place

VENDORED_LIMIT = 1_500_000


def test_hostile_names_are_only_text_wherever_they_stand(page, sample):
    for select in ("archive-measure", "map-measure", "group-columns", "filter-measure"):
        for option in page.locator(f"#{select} option").all():
            page.locator(f"#{select}").select_option(option.get_attribute("value"))
    for n in range(4):
        page.mouse.move(*place(page, n))
        page.mouse.click(*place(page, n))
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


def test_data_reaches_the_page_as_text_only():
    own = (ROOT / "transforms" / "reporting" / "page" / "assets").glob("*.js")
    writers = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(")
    assert [path.name for path in own if writers.search(path.read_text(encoding="utf-8"))] == []


def test_bundled_libraries_are_small_and_their_licences_told():
    vendor = ROOT / "transforms" / "reporting" / "page" / "assets" / "vendor"
    files = [path for path in vendor.iterdir() if path.name != "LICENSES.txt"]
    told = (vendor / "LICENSES.txt").read_text(encoding="utf-8")
    assert files
    assert [path.name for path in files if path.name not in told] == []
    assert sum(path.stat().st_size for path in files) < VENDORED_LIMIT
