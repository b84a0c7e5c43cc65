"""The page as a whole: from files and from a server, with and without data, on paper, in German."""

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.report_sample import CLASSES, DEMO, write_data, write_sample
from tests.transforms.reporting.page.browsing import CHARTS, colours_of, mask_of, open_photo, place


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
    page.mouse.move(*place(page, 0))
    expect(page.locator(".leaflet-tooltip")).to_contain_text("avignon.jpg")
    viewer = open_photo(page, "rome.jpg")
    classes = np.bincount(mask_of(out / "report", "4").ravel(), minlength=3)
    shown = colours_of(viewer.locator("#viewer-canvas"))
    assert [shown[0, 0, 255, 255], shown[0, 128, 0, 255], shown[9, 9, 9, 255]] == classes.tolist()
    expect(page.locator("#runs tbody tr")).to_have_count(1)


@pytest.mark.parametrize("source", ["file", "http"])
def test_all_charts_are_drawn_and_told_in_words(visit, sample, served, source):
    page = visit(sample[0] if source == "file" else served)
    for chart in CHARTS:
        box = page.locator(f"#{chart}")
        assert len(colours_of(box.locator("canvas").first)) > 5, chart
        assert box.get_attribute("role") == "img"
        assert len(box.get_attribute("aria-label")) > 40
    shares = page.locator("#shares-chart")
    assert "Tree 30.8%" in shares.get_attribute("aria-label")
    assert (128, 128, 0, 255) in colours_of(shares.locator("canvas").first)


@pytest.mark.parametrize("source", ["file", "http"])
def test_a_mask_can_be_read_and_the_classes_seen(visit, sample, served, source):
    viewer = open_photo(visit(sample[0] if source == "file" else served), "plain.jpg")
    colours = colours_of(viewer.locator("#viewer-canvas"))
    mask = mask_of(sample[0], "4")
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
    data["images"] |= {"done": 0, "positioned": 0, "unlike": None}
    zeros = [0] * len(CLASSES)
    data["totals"] = {"pixels": zeros, "images": zeros, "values": none, "precisions": {}}
    data["distributions"] = [{"edges": [], "counts": []} for _ in none]
    data["extremes"] = [{"most": [], "least": []} for _ in none]
    data["groups"] = {"rows": [], "left_out": 0}
    data["gallery"], data["failures"] = [], []
    write_data(tmp_path / "report", data)
    page = visit(tmp_path / "report")
    expect(page.locator("#made")).to_contain_text("0 photos · 2 failed")
    for name in ("#unlike-about", "#filter-unlike-label"):
        expect(page.locator(name)).to_be_hidden()
    expect(page.locator("#photos-about")).to_have_text("This report holds no photos.")
    expect(page.locator("#photos-count")).to_have_text("0 of 0 photos shown")
    expect(page.get_by_text("No photo has failed.")).to_be_visible()
    assert "NaN" not in page.locator("main").inner_text()


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
