"""The sections on the archive and on the nights: figures, charts and tables."""

from playwright.sync_api import expect

from tests.report_sample import CLASSES, HOSTILE
from tests.transforms.reporting.page.browsing import colours_of, column

ALARM = (179, 38, 30, 255)


def test_counts_are_shown(page, sample):
    figures = page.locator("#counts li").all_inner_texts()
    assert [figure.split() for figure in figures] == [
        ["5", "done"], ["2", "failed"], ["0", "skipped,", "done", "before"],
        ["4", "with", "a", "position"], ["1", "unlike", "those", "the", "model", "knows"],
    ]  # fmt: skip
    expect(page.get_by_text("Do not trust its mask without a look")).to_be_visible()
    expect(page).to_have_title("demo-output: citymask report")
    assert page.locator("#made").inner_text().startswith("5 photos · 2 failed · model default")


def test_the_distribution_and_the_extremes_are_of_the_chosen_measure(page, sample):
    before = colours_of(page.locator("#distribution-chart canvas").first)
    page.locator("#archive-measure").select_option(label="Enclosure")
    expect(page.locator("#most-title")).to_have_text("Photos with the highest Enclosure")
    expect(page.locator("#most button").first).to_contain_text("plain.jpg")
    expect(page.locator("#most button").first).to_contain_text("Enclosure: 5.5")
    expect(page.locator("#least button").first).to_contain_text("2.5")
    label = page.locator("#distribution-chart").get_attribute("aria-label")
    assert label.startswith("Histogram of Enclosure over 4 photos")
    assert colours_of(page.locator("#distribution-chart canvas").first) != before
    page.locator("#archive-measure").select_option(label="Tree")
    expect(page.locator("#most-title")).to_have_text("Photos with the most Tree")


def test_groups_are_sorted_by_mouse_and_by_keyboard(page):
    table = page.locator("#groups table")
    head = table.get_by_role("columnheader", name="Green view index")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    shares = sorted((float(x.rstrip("%")) for x in column(table, 3)), reverse=True)
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


def test_a_chart_under_the_cursor_keeps_its_colours(page):
    box = page.locator("#drift-chart")
    lines = [(*colour, 255) for _, colour in CLASSES]
    before = colours_of(box.locator("canvas"))
    box.hover()
    page.wait_for_timeout(200)
    after = colours_of(box.locator("canvas"))
    assert [line for line in lines if after[line] < before[line] / 2 or not before[line]] == []


def test_runs_alarms_failures_settings_and_the_model_are_told(page):
    runs = page.locator("#runs table")
    assert column(runs, 8)[0] == "20261003T010000Z-000002"
    assert column(runs, 7)[0] == "SIGTERM"
    assert column(runs, 6)[1] == f"share of Sky drifted by 0.12 {HOSTILE}"
    expect(page.locator("#alarms-about")).to_contain_text("1 run with an alarm")
    assert ALARM in colours_of(page.locator("#drift-chart canvas"))
    assert "Alarms: Oct 2" in page.locator("#drift-chart").get_attribute("aria-label")
    failures = page.locator("#failures table")
    assert column(failures, 1) == [f"bad {HOSTILE}"]
    assert column(failures, 5) == [f"x/{HOSTILE}.jpg\ny.jpg"]
    expect(page.locator("#settings")).to_contain_text("batch size")
    expect(page.locator("#model")).to_contain_text("efficientnet_fpn")
    expect(page.locator("#model")).to_contain_text("int8: 4, unknown: 1")
    assert column(page.locator("#model table"), 1) == [name for name, _ in CLASSES]
