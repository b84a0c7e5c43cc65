"""Gating: what is kept depends on names and photos alone, not on order, kills or nights."""

import itertools
import random
from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.flow.records import Aside, Capture, ImageRef, Look, PlannedImage
from transforms.planning.duplicates import FOLDER, MOST_BITS, TILE, Candidate, find_duplicates

TURIN = (45.07, 7.68)
METRE = 1 / 111_195
"""Degrees of latitude."""


def candidate(image: str, bits: int = 0, place=None, done=False) -> Candidate:
    """A photo with so many bits in its hash, at a latitude and longitude."""
    ref = ImageRef(image, f"/a/{image}", f"/a/{image}", "1-1", ".")
    planned = PlannedImage(ref, f"masks/{image}.png")
    look = Look(f"{(1 << bits) - 1:064x}", 0.7)
    return Candidate(image, look, Capture(*(place or ())), None if done else planned)


def found(*candidates: Candidate, place=FOLDER) -> dict[str, str]:
    """The images that are set aside, and what they duplicate."""
    todo = [c for c in candidates if c.planned]
    done = [c for c in candidates if not c.planned]
    return {item.planned.ref.image: item.of for item in find_duplicates(todo, done, place)}


class TestFolder:
    def test_of_photos_that_look_alike_the_first_by_name_is_kept(self):
        for order in itertools.permutations([candidate(name) for name in "abc"]):
            assert found(*order) == {"b": "a", "c": "a"}

    def test_hashes_may_differ_in_some_bits(self):
        assert found(candidate("a"), candidate("b", MOST_BITS)) == {"b": "a"}
        assert found(candidate("a"), candidate("b", MOST_BITS + 1)) == {}

    def test_what_changes_slowly_is_not_lost(self):
        slow = [candidate(f"{n:02}", 12 * n) for n in range(10)]
        assert set(found(*slow)) == {"01", "02", "04", "05", "07", "08"}

    def test_photos_far_apart_in_order_are_not_compared(self):
        others = [candidate(f"b{n}", 40 + 40 * n) for n in range(5)]
        assert found(candidate("a"), *others[:4], candidate("c")) == {"c": "a"}
        assert found(candidate("a"), *others, candidate("c")) == {}

    def test_what_is_done_is_kept_and_compared_with(self):
        assert found(candidate("a", done=True), candidate("b")) == {"b": "a"}
        assert found(candidate("a"), candidate("b", done=True)) == {}
        assert found(candidate("a", done=True), candidate("b", done=True)) == {}

    def test_an_image_that_is_done_anew_is_not_compared_with_its_row(self):
        assert found(candidate("a", done=True), candidate("a")) == {}

    def test_two_with_positions_are_compared_by_them_alone(self):
        one, other = candidate("a", place=TURIN), candidate("b", place=(45.0, 7.0))
        assert found(one, other) == {}
        assert found(one, candidate("b")) == {"b": "a"}, "a copy that has lost its EXIF"


class TestTile:
    @pytest.mark.parametrize("latitude", [0.0, 45.07, -33.9, 69.6])
    @pytest.mark.parametrize(("metres", "expected"), [(0, {"b": "a"}), (18, {"b": "a"}), (23, {})])
    def test_photos_are_compared_up_to_some_metres(self, latitude, metres, expected):
        here = (latitude + 0.002, 7.685)
        north = (here[0] + metres * METRE, here[1])
        assert found(candidate("a", place=here), candidate("b", place=north), place=TILE) == (
            expected
        )

    def test_the_order_is_that_of_names_wherever_they_are(self):
        places = [(45.073, 7.683 + step * METRE) for step in range(5)]
        photos = [candidate(f"x/{n}", place=place) for n, place in enumerate(places)]
        random.Random(1).shuffle(photos)
        assert found(*photos, place=TILE) == {f"x/{n}": "x/0" for n in range(1, 5)}

    def test_what_is_done_counts_before_and_behind(self):
        done = candidate("m", done=True, place=TURIN)
        around = [candidate(name, place=TURIN) for name in "az"]
        assert found(done, *around, place=TILE) == {"a": "m", "z": "m"}

    def test_photos_share_a_tile_if_they_have_positions(self):
        assert candidate("a", place=TURIN).tile == candidate("b", place=(45.071, 7.681)).tile
        assert candidate("a").tile != candidate("b").tile
        assert candidate("x/a").folder == candidate("x/b", place=TURIN).folder


photos = st.lists(
    st.tuples(
        st.sampled_from("xy"),
        st.integers(0, 6),
        st.sampled_from([None, TURIN, (TURIN[0] + 15 * METRE, TURIN[1] + 1e-4)]),
    ),
    max_size=14,
).map(
    lambda drawn: [
        candidate(f"{folder}/{number:02}", 20 * bits, place)
        for number, (folder, bits, place) in enumerate(drawn)
    ]
)


def gate(todo: list[Candidate], done: list[Candidate]) -> tuple[dict[str, Aside], dict[str, Aside]]:
    """What both steps set aside, as `GateImages` runs them: photos of tiles, then of folders."""
    asides = []
    for place in (TILE, FOLDER):
        groups = defaultdict(lambda: ([], []))
        for side, candidates in enumerate((todo, done)):
            for each in candidates:
                groups[getattr(each, place)][side].append(each)
        aside = {
            item.planned.ref.image: item
            for of_group in groups.values()
            for item in find_duplicates(*of_group, place)
        }
        todo = [each for each in todo if each.image not in aside]
        asides.append(aside)
    return asides[0], asides[1]


def some_of(images: dict[str, Aside]) -> st.SearchStrategy[set[str]]:
    return st.sets(st.sampled_from(sorted(images))) if images else st.just(set())


@settings(max_examples=300, deadline=None)
@given(photos, st.randoms())
def test_the_order_of_photos_changes_nothing(archive, random):
    expected = gate(archive, [])
    shuffled = list(archive)
    random.shuffle(shuffled)
    assert gate(shuffled, []) == expected


@settings(max_examples=500, deadline=None)
@given(photos, st.data())
def test_a_run_that_was_killed_while_segmenting_sets_nothing_more_aside(archive, data):
    in_tiles, in_folders = gate(archive, [])
    kept = [each for each in archive if each.image not in in_tiles | in_folders]
    done = data.draw(st.sets(st.sampled_from(kept))) if kept else set()
    again = gate(
        [each for each in kept if each not in done], [replace(each, planned=None) for each in done]
    )
    assert again == ({}, {})


@settings(max_examples=500, deadline=None)
@given(photos, st.data())
def test_a_run_that_was_killed_while_writing_rows_comes_to_the_same_rows(archive, data):
    """The rows of folders are written after all those of tiles."""
    in_tiles, in_folders = gate(archive, [])
    written = data.draw(some_of(in_tiles))
    if written == set(in_tiles):
        written |= data.draw(some_of(in_folders))
    again = gate([each for each in archive if each.image not in written], [])
    assert set(again[0]) | set(again[1]) | written == set(in_tiles) | set(in_folders)


@settings(max_examples=300, deadline=None)
@given(photos)
def test_no_photo_that_is_kept_duplicates_another(archive):
    in_tiles, in_folders = gate(archive, [])
    kept = [each for each in archive if each.image not in in_tiles | in_folders]
    assert gate(kept, []) == ({}, {})
    assert bool(kept) == bool(archive)
