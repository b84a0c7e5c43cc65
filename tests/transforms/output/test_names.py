import doctest
import hashlib
import itertools
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.output import names

LONG = "a" * 251 + ".jpg"
NOT_UTF8 = os.fsdecode(b"stra\xdfe.jpg")


def test_the_examples_in_the_documentation_hold():
    result = doctest.testmod(names)
    assert result.attempted >= 5 and result.failed == 0


@pytest.mark.parametrize(
    "path", ["lund/01.jpg", "A b (1).JPG", "дом/écluse.png", "街/影.webp", "~x/...jpg", "a..b/c.d"]
)
def test_ordinary_names_stay_as_they_are(path):
    assert names.image_name(path) == path


@pytest.mark.parametrize(
    ("path", "image"),
    [
        ("../secret.jpg", "%2E%2E/secret.jpg"),
        ("a/../../b.jpg", "a/%2E%2E/%2E%2E/b.jpg"),
        ("/etc/passwd.png", "etc/passwd.png"),
        ("//a///b.jpg", "a/b.jpg"),
        ("./a/./b.jpg", "a/b.jpg"),
        ("50%.jpg", "50%25.jpg"),
        ("%2E%2E/a.jpg", "%252E%252E/a.jpg"),
        ("two\nlines\r.jpg", "two%0Alines%0D.jpg"),
        ("a\\b.jpg", "a%5Cb.jpg"),
        ("\x1b[31m\x7f\x85.jpg", "%1B[31m%7F%C2%85.jpg"),
        (NOT_UTF8, "stra%DFe.jpg"),
        ("nul\0.jpg", "nul%00.jpg"),
        ("", "%00"),
        ("/", "%00"),
    ],
)
def test_what_is_unsafe_in_a_path_is_escaped(path, image):
    assert names.image_name(path) == image


def test_different_paths_have_different_names():
    source = random.Random(1)
    alphabet = [
        b"a",
        b"A",
        b".",
        b"%",
        b"2",
        b"E",
        b"\n",
        b"\\",
        b"\xff",
        b"\xc3\xa9",
        b"\xc3",
        b"~",
    ]
    paths = {
        os.fsdecode(b"".join(source.choices(alphabet, k=source.randrange(1, 6))))
        for _ in range(15_000)
    } - {"."}
    assert len(paths) > 5_000
    assert len({names.image_name(path) for path in paths}) == len(paths)


def test_names_that_differ_only_in_case_stay_different():
    assert names.mask_path("masks", "A.jpg") != names.mask_path("masks", "a.jpg")


@pytest.mark.parametrize(
    "path", ["../../a.jpg", "/../x/..", "..", "a\0b", "é" * 300, LONG, "x" * 300 + "/" + LONG]
)
def test_a_mask_can_be_written_below_the_output_folder(tmp_path, path):
    mask = tmp_path / names.mask_path("masks", names.image_name(path))
    mask.parent.mkdir(parents=True)
    mask.write_bytes(b"mask")
    assert mask.resolve().is_relative_to(tmp_path / "masks")
    assert not set("\n\0") & set(str(mask))


def test_names_too_long_for_a_mask_are_cut_and_stay_different():
    masks = {names.mask_path("masks", f"{'a' * 250}{digit}.jpg") for digit in range(10)}
    assert len(masks) == 10
    assert all(len(os.path.basename(mask).encode()) <= names.MAX_PART_BYTES for mask in masks)


def test_cutting_leaves_no_half_character():
    mask = names.mask_path("masks", "é" * 125 + "aé.jpg")
    assert len(os.path.basename(mask).encode()) in (254, 255)
    assert mask.removeprefix("masks/").startswith("é" * 100)


def test_an_image_named_like_a_cut_name_does_not_get_the_mask_of_another():
    mask = names.mask_path("masks", LONG)
    forged = os.path.basename(mask).removesuffix(".png")
    assert names.mask_path("masks", forged) != mask


@pytest.mark.parametrize(
    ("output", "extension"), [("overlay", ".overlay.jpg"), ("confidence", ".confidence.png")]
)
@pytest.mark.parametrize("image", ["a.jpg", "lund/01.jpg", LONG, "plain"])
def test_overlay_and_confidence_stand_beside_their_mask_under_names_no_mask_has(
    image, output, extension
):
    mask = names.mask_path("masks", image)
    beside = names.beside(mask, output)
    assert os.path.dirname(beside) == os.path.dirname(mask)
    assert beside.endswith(extension)
    assert len(os.path.basename(beside)) <= names.MAX_PART_BYTES
    assert names.mask_path("masks", beside.removeprefix("masks/").removesuffix(".png")) != beside
    if len(image) < 200:
        assert beside == f"masks/{image}{extension}"


@pytest.mark.parametrize("image", ["a.jpg.confidence", "lund/a.jpg.CONFIDENCE"])
def test_an_image_named_like_a_confidence_image_gets_another_mask(image):
    mask = names.mask_path("masks", image)
    assert not mask.lower().endswith(".confidence.png")
    assert mask.startswith(f"masks/{image}~")


ENDINGS = [names.MASK_ENDING, *names.BESIDE.values()]


@pytest.mark.parametrize("ending", [*ENDINGS, ".PNG", ".Overlay.jpg"])
def test_a_folder_named_like_the_mask_of_a_photo_stands_beside_that_mask(tmp_path, ending):
    photos = ["a.jpg", f"a.jpg{ending}/x.jpg", f"a.jpg{ending}/b.jpg{ending}/y.jpg"]
    for mask in (names.mask_path("masks", photo) for photo in photos):
        for path in (mask, *(names.beside(mask, output) for output in names.BESIDE)):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch(exist_ok=False)


@pytest.mark.parametrize(
    "folder",
    ["a.jpg", "a.tar", "png", "a.png.d", "overlay.jpg", "CON", "nul.txt", "a.", "b ", "..."],
)
def test_other_folders_keep_their_names(folder):
    assert names.mask_path("masks", f"{folder}/x.jpg") == f"masks/{folder}/x.jpg.png"


PARTS = st.lists(
    st.sampled_from(["a", ".jpg", *ENDINGS, ".PNG", ".confidence", "~0123456789abcdef", "É" * 120]),
    min_size=1,
    max_size=4,
).map("".join)
PATHS = st.lists(PARTS, min_size=1, max_size=5).map("/".join)


@given(st.lists(PATHS, unique_by=names.folded, max_size=6), st.booleans())
def test_nothing_that_is_written_for_a_photo_stands_in_the_way_of_another(images, like_masks):
    if like_masks:  # Names that are made to look like those of the masks of the others.
        forged = [names.mask_path("", image)[1:].removesuffix(".png") for image in images]
        images = list({names.folded(image): image for image in images + forged}.values())
    masks = [names.mask_path("masks", image) for image in images]
    files = [*masks, *(names.beside(mask, o) for mask in masks for o in names.BESIDE)]
    folded = [tuple(names.folded(file).split("/")) for file in files]
    assert len(set(folded)) == len(files)
    folders = {file[:depth] for file in folded for depth in range(1, len(file))}
    assert not folders & set(folded)
    for part in itertools.chain.from_iterable(file.split("/") for file in files):
        assert len(part.encode()) <= names.MAX_PART_BYTES
    assert max((len(file.encode()) for file in files), default=0) <= 700


def test_many_folders_are_cut_to_a_path_that_every_store_takes(tmp_path):
    deep = "/".join(f"{number:03}" for number in range(2000))
    masks = [names.mask_path("masks", f"{deep}/{rest}") for rest in ("a.jpg", "b.jpg", "c/a.jpg")]
    assert len(set(masks)) == 3
    for mask in masks:
        assert mask.startswith("masks/000/001/002/")
        assert len(mask) <= 450
        assert mask.endswith(("/a.jpg.png", "/b.jpg.png"))
    assert os.path.dirname(masks[0]) == os.path.dirname(masks[1]) != os.path.dirname(masks[2])
    forged = masks[0].removeprefix("masks/").removesuffix(".png")
    assert names.mask_path("masks", forged) not in masks


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("A.jpg", "a.JPG"),
        ("\u00e9.jpg", "E\u0301.jpg"),
        ("stra\u00dfe", "STRASSE"),
        ("İ", "i\u0307"),
    ],
)
def test_names_that_a_file_system_may_take_for_one_are_folded_to_one(first, second):
    assert names.folded(first) == names.folded(second)


@pytest.mark.parametrize(
    ("folder", "is_one"),
    [
        ("masks", True),
        ("masks-street@0123456789ab", True),
        ("masks-street@0123456789ab+label_ids", True),
        ("masks-mine", False),
        ("..", False),
        ("", False),
        ("masks-a/../../b@0123456789ab", False),
    ],
)
def test_folders_of_masks_have_names_of_their_own(folder, is_one):
    assert names.is_mask_folder(folder) is is_one


@pytest.mark.parametrize(
    "image", ["a.jpg", "lund/01.tar.jpg", "d.x/plain", ".jpg", "x.", "d~12345678/a.jpg", "%00"]
)
def test_a_distinct_name_leads_back_to_the_name_that_was_taken(image):
    first, second = (names.distinct_name(image, source) for source in ("/b/1", NOT_UTF8))
    assert len({image, first, second}) == 3
    assert names.base_name(first) == names.base_name(second) == image
    assert os.path.dirname(first) == os.path.dirname(image)
    assert first.endswith(os.path.splitext(image)[1])


@pytest.mark.parametrize(
    "image", ["a~1.jpg", "a~12345678b.jpg", "a~1234567G", "~dir12345678/a.jpg"]
)
def test_names_without_a_hash_are_their_own_base(image):
    assert names.base_name(image) == image


def test_the_hash_of_a_distinct_name_is_that_of_its_source():
    digest = hashlib.sha256(b"/b/lund/01.jpg").hexdigest()[:8]
    assert names.distinct_name("01.jpg", "/b/lund/01.jpg") == f"01~{digest}.jpg"


@pytest.mark.parametrize(
    ("path", "shown"),
    [("/a/50%.jpg", "/a/50%.jpg"), ("a\nb", "a%0Ab"), (NOT_UTF8, "stra%DFe.jpg")],
)
def test_messages_show_a_path_as_valid_text_on_one_line(path, shown):
    assert names.printable(path) == shown
    shown.encode("utf-8")


@pytest.mark.parametrize(("image", "group"), [("lund/a/1.jpg", "lund"), ("1.jpg", ".")])
def test_the_group_of_an_image_is_its_first_folder(image, group):
    assert names.group_of(image) == group
