"""Which files of a shard belong together."""

import pytest

from transforms.inputs.samples import find_labels, pair_sidecars


def pairs(*names: str) -> dict[str, int]:
    """The position of the metadata of each photo; a photo is `name` or `name position`."""
    twice = {name for name in names if names.count(name) > 1}
    return {
        f"{names[photo]} {photo}" if names[photo] in twice else names[photo]: sidecar
        for photo, sidecar in pair_sidecars(names).items()
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "a.json"], {"a.jpg": 1}),
        (["a.json", "a.jpg"], {"a.jpg": 0}),
        (["a.jpg", "b.jpg", "b.json", "a.json"], {"a.jpg": 3, "b.jpg": 2}),
        (["a.json", "b.json", "a.jpg", "b.jpg"], {"a.jpg": 0, "b.jpg": 1}),
        (["b.json", "a.jpg", "b.jpg", "a.json"], {"a.jpg": 3, "b.jpg": 0}),
        (["A.JPG", "A.JSON"], {"A.JPG": 1}),
        (["A.JPG", "a.json"], {}),
        (["./a.jpg", "a.json"], {"./a.jpg": 1}),
        (["x/a.jpg", "./x//a.Json"], {"x/a.jpg": 1}),
        (["x/a.jpg", "y/a.json", "a.json"], {}),
        (["v1.2/a.jpg", "v1.2/a.json", "v1.json"], {"v1.2/a.jpg": 1}),
        (["a.left.jpg", "a.right.jpg", "a.json"], {"a.left.jpg": 2, "a.right.jpg": 2}),
        (["a.left.jpg", "a.json", "A.left.json", "a.left.json"], {"a.left.jpg": 3}),
        (["a..jpg", "a..left.jpg", "a..json", "a..left.json"], {"a..jpg": 2, "a..left.jpg": 3}),
        (["a.jpg", "a.txt", "b.json"], {}),
    ],
)
def test_metadata_belong_to_the_photo_of_their_key_wherever_they_stand(names, expected):
    assert pairs(*names) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("a.jpg a.json a.jpg a.json", [1, 3]),
        ("a.json a.jpg a.json a.jpg", [0, 2]),
        ("a.jpg a.seg a.json a.jpg a.seg a.json", [2, 5]),
        ("a.jpg a.jpg a.json a.json", [2, 2]),
        ("a.jpg a.json b.jpg b.json a.jpg a.json", [1, 3, 5]),
        ("a.jpg b.jpg a.json b.json a.jpg b.jpg a.json b.json", [2, 3, 6, 7]),
        ("a.jpg a.jpg a.json", [2, 2]),
        ("a.json x y a.jpg x a.json", [5]),
        ("a.json x a.jpg x y a.json", [0]),
        ("a.json x a.jpg x a.json", [4]),
    ],
)
def test_of_a_name_that_comes_twice_the_sample_counts_then_the_distance(names, expected):
    names = names.split()
    found = pair_sidecars(names)
    assert [found[n] for n, name in enumerate(names) if name.endswith(".jpg")] == expected


def test_a_name_that_comes_very_often_takes_no_time():
    names = ["a.jpg", "b.jpg"] * 50_000 + ["a.json", "b.json"] * 50_000
    assert len(pair_sidecars(names)) == 100_000


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ("a.jpg a.seg.png a.mask.png a.depth.png a.label.PNG", {1, 2, 3, 4}),
        ("a.seg.png x.jpg b/a.jpg a.JPEG", {0}),
        ("a.left.jpg a.right.jpg", set()),
        ("street.v2.jpg", set()),
        ("a.seg.png b.jpg x/a.jpg", set()),
        ("a.jpg a.png", set()),
        ("a.txt a.seg.png", set()),
        ("./x/a.jpg x/a.seg.png", {1}),
        ("v1.2/a.jpg v1.2/b.jpg", set()),
    ],
)
def test_images_with_a_dotted_extension_beside_a_photo_are_its_labels(names, labels):
    assert find_labels(names.split()) == labels
