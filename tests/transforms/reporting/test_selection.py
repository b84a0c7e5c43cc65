"""Selection: the gallery shows extremes, doubt and all places, and the same ones every time."""

import h3
import numpy as np
import pyarrow as pa
import pytest

from transforms.reporting.selection import Rules, candidates_of, choose, merge_candidates

RESOLUTION = 7


@pytest.fixture(scope="module", params=[1, 10, 60, 200, 1000])
def rules(request, measures) -> Rules:
    return Rules(request.param, tuple(measures.names))


def chosen_of(parts, measures, rules):
    candidates = (candidates_of(part, rules, RESOLUTION) for part in parts)
    return choose(merge_candidates(candidates, rules), measures, rules)


def images(chosen) -> list[str]:
    return chosen.photos["image"].to_pylist()


def test_the_gallery_has_as_many_photos_as_it_may(derived, measures, rules):
    chosen = chosen_of([derived], measures, rules)
    assert len(chosen.photos) == min(rules.size, len(derived))
    assert images(chosen) == sorted(set(images(chosen)))
    assert all(chosen.reasons)


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_same_however_the_rows_are_spread(derived, split, measures, rules, seed):
    whole = chosen_of([derived], measures, rules)
    found = chosen_of(split(derived, seed), measures, rules)
    assert found.photos.equals(whole.photos)
    assert (found.reasons, found.most, found.least) == (whole.reasons, whole.most, whole.least)


def test_merging_in_steps_is_merging_at_once(derived, split, measures, rules):
    first, *others = (candidates_of(part, rules, RESOLUTION) for part in split(derived, 3))
    merged = first
    for candidates in others:
        merged = merge_candidates([merged, None, candidates], rules)
    assert choose(merged, measures, rules).photos.equals(
        chosen_of([derived], measures, rules).photos
    )
    assert merge_candidates([None], rules) is None


def test_extremes_are_those_of_all_photos(derived, measures):
    rules = Rules(200, tuple(measures.names))
    chosen = chosen_of([derived], measures, rules)
    for name, most, least in zip(measures.names, chosen.most, chosen.least, strict=True):
        values = [value for value in derived[name].to_pylist() if value is not None]
        found = chosen.photos[name].to_pylist()
        assert [found[row] for row in most] == sorted(values, reverse=True)[: rules.extremes]
        assert [found[row] for row in least] == sorted(values)[: rules.extremes]


def test_a_photo_without_any_is_not_one_with_the_most(derived, measures):
    column = derived.column_names.index("share_tree")
    one = np.zeros(len(derived))
    one[5] = 0.5
    table = derived.set_column(column, "share_tree", pa.array(one))
    chosen = chosen_of([table], measures, Rules(200, tuple(measures.names)))
    most = chosen.most[measures.names.index("share_tree")]
    assert [images(chosen)[row] for row in most] == [derived["image"][5].as_py()]


def test_every_hexagon_and_every_group_without_positions_has_a_photo(derived, measures):
    chosen = chosen_of([derived], measures, Rules(200, tuple(measures.names)))

    def places(table) -> set[str]:
        rows = table.select(["latitude", "longitude", "group"]).to_pylist()
        return {
            row["group"] if row["latitude"] is None
            else h3.latlng_to_cell(row["latitude"], row["longitude"], RESOLUTION)
            for row in rows
        }  # fmt: skip

    assert places(chosen.photos) == places(derived)
    standing = [row for row, reasons in enumerate(chosen.reasons) if "coverage" in reasons]
    assert places(chosen.photos.take(standing)) == places(derived)


def test_photos_of_low_confidence_are_shown(derived, measures):
    rules = Rules(200, tuple(measures.names))
    chosen = chosen_of([derived], measures, rules)
    doubted = [row for row, reasons in enumerate(chosen.reasons) if "low_confidence" in reasons]
    found = chosen.photos["confidence"].take(doubted).to_pylist()
    assert sorted(found) == sorted(derived["confidence"].to_pylist())[: rules.unsure]


def test_photos_most_unlike_what_the_model_knows_are_shown(derived, measures):
    rules = Rules(200, tuple(measures.names))
    chosen = chosen_of([derived], measures, rules)
    shown = [row for row, reasons in enumerate(chosen.reasons) if "unlike_training" in reasons]
    found = chosen.photos.take(shown)
    assert set(found["unlike_training"].to_pylist()) == {True}
    unlike = derived.filter(derived["unlike_training"].fill_null(False))
    highest = sorted(unlike["uncertainty"].to_pylist(), reverse=True)
    assert sorted(found["uncertainty"].to_pylist(), reverse=True) == highest[: rules.unsure]
