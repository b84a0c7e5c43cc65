"""Links in a tar lead to files of the tar, or it is said where they lead."""

import pytest

from transforms.inputs.tar_headers import Entry, Kind
from transforms.inputs.tar_links import MAX_HOPS, resolve_links


def file(name: str, offset: int = 0) -> Entry:
    return Entry(name, Kind.FILE, offset, 7)


def hard(name: str, target: str) -> Entry:
    return Entry(name, Kind.HARD_LINK, 0, 0, target)


def soft(name: str, target: str) -> Entry:
    return Entry(name, Kind.SYMBOLIC_LINK, 0, 0, target)


def folder(name: str) -> Entry:
    return Entry(name, Kind.FOLDER, 0, 0)


def outcomes(*entries: Entry) -> list[int | str]:
    """The offset that each entry has, or its damage."""
    resolved = resolve_links(entries)
    assert [entry.name for entry in resolved] == [entry.name for entry in entries]
    return [entry.damage or entry.offset for entry in resolved]


@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("a.jpg", hard("b.jpg", "a.jpg")),
        ("a.jpg", hard("b.jpg", "./a.jpg")),
        ("./a.jpg", hard("b.jpg", "a.jpg")),
        ("x/a.jpg", hard("y/b.jpg", "x//a.jpg")),
        ("/x/a.jpg", hard("b.jpg", "/x/a.jpg")),
        ("a.jpg", soft("b.jpg", "a.jpg")),
        ("x/a.jpg", soft("./x/b.jpg", "a.jpg")),
        ("x/a.jpg", soft("y/b.jpg", "../x/a.jpg")),
        ("/x/a.jpg", soft("b.jpg", "/x/a.jpg")),
        ("../a.jpg", soft("b.jpg", "../a.jpg")),
    ],
)
def test_a_link_to_a_member_is_that_member_however_it_is_spelled(name, link):
    assert outcomes(file(name, 512), link) == [512, 512]
    assert outcomes(link, file(name, 512)) == [512, 512]


def test_links_are_followed_over_other_links_and_through_linked_folders():
    entries = (
        soft("1.jpg", "2.jpg"),
        soft("2.jpg", "latest/a.jpg"),
        soft("latest", "years/2024"),
        folder("years/2024"),
        file("years/2024/a.jpg", 512),
        hard("3.jpg", "1.jpg"),
        hard("4.jpg", "3.jpg"),
    )
    found = outcomes(*entries)
    assert [found[position] for position in (0, 1, 4, 5, 6)] == [512] * 5
    assert found[2] == "a symbolic link that leads to a folder"


def test_a_long_chain_of_hard_links_is_followed_to_its_end():
    chain = [hard(f"{n}.jpg", f"{n - 1}.jpg") for n in range(1, 2000)]
    assert set(outcomes(file("0.jpg", 512), *chain)) == {512}


def test_of_several_files_of_a_name_each_link_means_the_one_that_unpacking_would_give():
    entries = (
        file("a.jpg", 1), hard("h1.jpg", "a.jpg"), file("a.jpg", 2), hard("h2.jpg", "a.jpg"),
        soft("s.jpg", "a.jpg"), file("a.jpg", 3),
    )  # fmt: skip
    assert outcomes(*entries) == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    "target", ["gone.jpg", "/mnt/archive/a.jpg", "../a.jpg", "", "x" * 100_000]
)
@pytest.mark.parametrize("link", [hard, soft])
def test_a_link_out_of_the_tar_says_where_it_leads(link, target):
    (_, damage) = outcomes(file("in/a.jpg", 512), link("b.jpg", target))
    assert f"leads to {target[:200]!r}, which is not in this tar" in damage


@pytest.mark.parametrize(
    "entries",
    [
        [soft("a.jpg", "a.jpg")],
        [soft("a.jpg", "b.jpg"), soft("b.jpg", "a.jpg")],
        [hard("a.jpg", "a.jpg")],
        [hard("a.jpg", "b.jpg"), hard("b.jpg", "a.jpg")],
        [soft("a", "b"), soft("b", "a"), soft("c.jpg", "a/x.jpg")],
        [soft(f"{n}.jpg", f"{n + 1}.jpg") for n in range(MAX_HOPS + 1)],
    ],
)
def test_links_in_a_circle_lead_nowhere(entries):
    assert all("a symbolic link" in d or "a hard link" in d for d in outcomes(*entries))


def test_links_to_what_is_no_file_say_so():
    pipe = Entry("pipe", Kind.SPECIAL, 0, 0)
    found = outcomes(pipe, folder("f"), soft("a.jpg", "f"), hard("b.jpg", "pipe"))
    assert found[2:] == [
        "a symbolic link that leads to a folder",
        "a hard link that leads to a pipe or device",
    ]


def test_a_link_to_a_damaged_member_has_its_damage():
    broken = Entry("a.jpg", Kind.FILE, 0, 7, damage="cut short", is_break=True)
    _, link = resolve_links([broken, soft("b.jpg", "a.jpg")])
    assert (link.damage, link.is_break) == ("cut short", False)
