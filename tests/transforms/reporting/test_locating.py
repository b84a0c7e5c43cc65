"""Locating: a `#` may be part of any name, and what is not there is not found."""

import tarfile

from transforms.reporting.locating import container_of, locate


def test_a_member_is_found_in_its_shard_and_a_file_under_its_own_name(make_photo, tmp_path):
    photo = make_photo(tmp_path / "a.tar#b.jpg")
    shard = tmp_path / "c#d.tar"
    for path in (shard, tmp_path / "a.tar"):
        with tarfile.open(path, "w") as archive:
            archive.add(photo, "e#f.jpg")
            archive.add(photo, "other.jpg")
    assert container_of(str(photo)) == str(photo)
    assert container_of(f"{shard}#e#f.jpg") == str(shard)
    (plain,) = locate(str(photo), [str(photo)])
    assert plain.path == str(photo) and plain.length is None
    (member,) = locate(str(shard), [f"{shard}#e#f.jpg"])
    assert member.uri == f"{shard}#e#f.jpg"
    assert (member.path, member.length) == (str(shard), photo.stat().st_size)


def test_what_is_gone_is_its_own_container(tmp_path):
    assert container_of("/gone/a.tar#b.jpg") == "/gone/a.tar#b.jpg"
    assert container_of("/gone/a.jpg") == "/gone/a.jpg"
