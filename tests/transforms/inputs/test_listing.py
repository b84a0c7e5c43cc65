"""Listing: what each kind of INPUT holds, and what is passed over."""

import json
import os
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from PIL import Image

from tests.shard_files import write_tar
from transforms import ListImages
from transforms.flow.records import Capture, ImageRef, PassedOver
from transforms.inputs.listing import (
    HIDDEN,
    NOT_AN_IMAGE,
    PACKED,
    InputError,
    first_image,
    list_input,
    list_members,
)
from transforms.inputs.manifests import ManifestError
from transforms.storage import AccessError


def listed(spec, excluded="") -> list[ImageRef | PassedOver]:
    return [item for entry in list_input(str(spec), str(excluded)) for item in list_members(entry)]


def images(spec, excluded="") -> list[str]:
    return [item.image for item in listed(spec, excluded) if isinstance(item, ImageRef)]


def passed_over(spec) -> dict[str, str]:
    return {
        os.path.basename(item.uri): item.reason
        for item in listed(spec)
        if isinstance(item, PassedOver)
    }


@pytest.fixture
def photo_bytes(make_photo, tmp_path) -> bytes:
    return make_photo(tmp_path / "made" / "photo.jpg").read_bytes()


@pytest.fixture
def archive(tmp_path, make_photo) -> Path:
    """An archive as cameras and file managers leave it."""
    root = tmp_path / "archive"
    for name in ("a.JPG", "lund/b.jpeg", "lund/deep/er/c.PnG", "lund/d.TIFF", "e.webp", "f.bmp"):
        make_photo(root / name)
    make_photo(root / ".hidden.jpg")
    make_photo(root / ".trash" / "g.jpg")
    for name in ("Thumbs.db", "lund/notes.txt", "noextension", "movie.mp4"):
        (root / name).write_bytes(b"nothing to see")
    return root


class TestDirectory:
    def test_is_listed_recursively_with_extensions_in_any_case(self, archive):
        assert sorted(images(archive)) == [
            "a.JPG", "e.webp", "f.bmp", "lund/b.jpeg", "lund/d.TIFF", "lund/deep/er/c.PnG",
        ]  # fmt: skip

    def test_hidden_files_thumbs_db_and_non_images_are_passed_over_with_the_reason(self, archive):
        assert passed_over(archive) == {
            ".hidden.jpg": HIDDEN,
            "g.jpg": HIDDEN,
            "Thumbs.db": NOT_AN_IMAGE,
            "notes.txt": NOT_AN_IMAGE,
            "noextension": NOT_AN_IMAGE,
            "movie.mp4": NOT_AN_IMAGE,
        }

    def test_a_hidden_folder_above_the_input_hides_nothing(self, tmp_path, make_photo):
        make_photo(tmp_path / ".cache" / "photos" / "a.jpg")
        assert images(tmp_path / ".cache" / "photos") == ["a.jpg"]

    def test_each_image_says_where_it_is_and_in_which_version(self, archive):
        path = archive / "lund" / "b.jpeg"
        ref = next(r for r in listed(archive) if getattr(r, "image", "") == "lund/b.jpeg")
        status = path.stat()
        assert ref == ImageRef(
            image="lund/b.jpeg",
            uri=str(path),
            path=str(path),
            version=f"{status.st_size}-{status.st_mtime_ns}",
            group="lund",
            size=status.st_size,
        )

    def test_an_image_without_a_folder_is_in_the_group_dot(self, archive):
        groups = {r.image: r.group for r in listed(archive) if isinstance(r, ImageRef)}
        assert groups["a.JPG"] == "."
        assert groups["lund/deep/er/c.PnG"] == "lund"

    def test_a_file_written_anew_has_another_version(self, tmp_path, make_photo):
        photo = make_photo(tmp_path / "a.jpg", seed=1)
        before = first_image(str(tmp_path)).version
        os.utime(photo, ns=(0, 1))
        assert first_image(str(tmp_path)).version != before

    def test_the_output_folder_inside_it_is_never_listed(self, archive, make_photo):
        output = archive / "results"
        make_photo(output / "masks" / "a.JPG.png")
        make_photo(archive / "results-of-others" / "h.jpg")
        assert "results/masks/a.JPG.png" in images(archive)
        assert "results/masks/a.JPG.png" not in images(archive, excluded=output)
        assert "results-of-others/h.jpg" in images(archive, excluded=output)

    def test_the_output_folder_is_known_by_every_name(self, archive, make_photo, tmp_path):
        output = archive / "results"
        make_photo(output / "masks" / "a.JPG.png")
        (tmp_path / "link").symlink_to(output)
        assert not any(n.startswith("results") for n in images(archive, tmp_path / "link"))

    def test_links_to_folders_are_followed_once(self, tmp_path, make_photo):
        make_photo(tmp_path / "elsewhere" / "a.jpg")
        root = tmp_path / "root"
        root.mkdir()
        (root / "city").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / "round").symlink_to(root)
        assert images(root) == ["city/a.jpg"]

    def test_an_empty_one_has_no_first_image(self, tmp_path):
        assert first_image(str(tmp_path)) is None

    def test_photos_of_cameras_that_cannot_be_decoded_are_listed_to_be_reported(self, tmp_path):
        (tmp_path / "phone.HEIC").write_bytes(b"....ftypheic")
        assert images(tmp_path) == ["phone.HEIC"]


class TestGlob:
    def test_names_are_relative_to_the_folder_before_the_first_wildcard(self, archive):
        assert images(archive / "lu*" / "*.jp*g") == ["lund/b.jpeg"]
        assert images(archive / "**" / "*.PnG") == ["lund/deep/er/c.PnG"]
        assert sorted(images(f"{archive}/*")) == ["a.JPG", "e.webp", "f.bmp"]

    def test_non_images_that_match_are_passed_over(self, archive):
        assert passed_over(f"{archive}/*.*") == {
            "Thumbs.db": NOT_AN_IMAGE,
            "movie.mp4": NOT_AN_IMAGE,
        }

    def test_links_to_nothing_and_pipes_that_match_are_listed_to_fail(self, tmp_path):
        (tmp_path / "gone.jpg").symlink_to("/far/away.jpg")
        os.mkfifo(tmp_path / "pipe.jpg")
        assert images(tmp_path / "*.jpg") == images(tmp_path) == ["gone.jpg", "pipe.jpg"]

    def test_a_pattern_without_a_match_has_no_first_image(self, archive):
        assert first_image(f"{archive}/*.gif") is None

    def test_a_file_whose_name_looks_like_a_pattern_is_that_file(self, tmp_path, make_photo):
        make_photo(tmp_path / "a[1].jpg")
        make_photo(tmp_path / "a1.jpg")
        assert images(tmp_path / "a[1].jpg") == ["a[1].jpg"]

    def test_the_output_folder_is_never_matched(self, archive, make_photo):
        make_photo(archive / "results" / "masks" / "x.png")
        assert images(f"{archive}/**/*.png") == ["results/masks/x.png"]
        assert images(f"{archive}/**/*.png", excluded=archive / "results") == []

    def test_the_output_folder_is_not_matched_by_another_name(self, archive, make_photo, tmp_path):
        make_photo(archive / "results" / "masks" / "x.png")
        (tmp_path / "link").symlink_to(archive / "results")
        assert images(f"{archive}/**/*.png", excluded=tmp_path / "link") == []

    def test_shards_that_match_are_opened(self, tmp_path, photo_bytes):
        for number in (0, 1):
            write_tar(tmp_path / f"city-{number:06}.tar", [(f"{number}.jpg", photo_bytes)])
        assert images(tmp_path / "city-*.tar") == ["city-000000.tar/0.jpg", "city-000001.tar/1.jpg"]


class TestSingleFile:
    def test_an_image_is_named_by_its_file_name(self, archive):
        assert images(archive / "lund" / "b.jpeg") == ["b.jpeg"]

    def test_what_does_not_exist_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="no such file or directory"):
            first_image(str(tmp_path / "missing"))

    def test_what_is_of_no_known_kind_is_refused(self, archive):
        with pytest.raises(InputError, match="not an image, a .tar or .tfrecord shard"):
            first_image(str(archive / "movie.mp4"))

    @pytest.mark.parametrize(
        "name",
        ["c.tar.gz", "c.TGZ", "c.tar.zst", "c.tbz2", "c.zip", "c.7z", "c.tfrecord.gz", "a.jpg.gz"],
    )
    def test_a_compressed_one_is_refused_with_the_remedy(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"\x1f\x8b")
        with pytest.raises(InputError, match="unpack it"):
            first_image(str(tmp_path / name))
        assert passed_over(tmp_path) == {name: PACKED}

    def test_an_unknown_store_is_refused(self):
        with pytest.raises(AccessError, match="nowhere://bucket.*: Unable to get filesystem"):
            first_image("nowhere://bucket/photos")


class TestTar:
    def test_members_are_addressed_by_their_byte_range(self, tmp_path, photo_bytes):
        shard = write_tar(tmp_path / "in" / "city.tar", [("lund/1.jpg", photo_bytes)])
        (ref,) = listed(tmp_path / "in")
        assert (ref.image, ref.uri) == ("city.tar/lund/1.jpg", f"{shard}#lund/1.jpg")
        assert (ref.container, ref.length) == ("tar", len(photo_bytes))
        assert shard.read_bytes()[ref.offset : ref.offset + ref.length] == photo_bytes

    def test_a_shard_deeper_in_a_directory_keeps_its_path(self, tmp_path, photo_bytes):
        write_tar(tmp_path / "in" / "2024" / "city.tar", [("1.jpg", photo_bytes)])
        (ref,) = listed(tmp_path / "in")
        assert (ref.image, ref.group) == ("2024/city.tar/1.jpg", "2024")

    def test_the_json_beside_a_member_is_its_metadata(self, tmp_path, photo_bytes):
        metadata = {"latitude": 48.5, "longitude": 9.25, "group": "centre", "lens": 35}
        members = {"1.jpg": photo_bytes, "1.json": json.dumps(metadata).encode()}
        (ref,) = listed(write_tar(tmp_path / "city.tar", members.items()))
        assert ref.capture == Capture(latitude=48.5, longitude=9.25)
        assert ref.group == "centre"
        assert [(e.name, e.arrow_type, e.value) for e in ref.extra] == [("lens", "int64", 35)]

    def test_members_that_are_not_images_are_passed_over(self, tmp_path, photo_bytes):
        members = {"1.jpg": photo_bytes, "1.cls": b"3", "._1.jpg": b"fork"}
        assert passed_over(write_tar(tmp_path / "city.tar", members.items())) == {
            "city.tar#1.cls": NOT_AN_IMAGE,
            "city.tar#._1.jpg": HIDDEN,
        }

    def test_the_first_image_is_found_without_the_rest_of_the_shard(self, tmp_path, photo_bytes):
        members = [("notes.txt", b"1"), ("1.jpg", photo_bytes), ("1.json", b'{"heading": 90}')]
        shard = write_tar(tmp_path / "city.tar", members)
        found = first_image(str(shard))
        assert (found.image, found.capture.heading) == ("city.tar/1.jpg", None)
        assert [ref.capture.heading for ref in listed(shard) if isinstance(ref, ImageRef)] == [90]
        write_tar(shard, members[:1])
        assert first_image(str(shard)) is None

    def test_an_empty_shard_is_listed_as_one_damaged_image(self, tmp_path):
        (tmp_path / "city.tar").write_bytes(b"")
        (ref,) = listed(tmp_path)
        assert ref.image == "city.tar"
        assert "empty file" in ref.damage


class TestManifest:
    def test_relative_absolute_and_file_uris_name_the_same_images(self, archive):
        absolute = archive / "lund" / "b.jpeg"
        manifest = archive / "list.csv"
        manifest.write_text(f"uri\na.JPG\n{absolute}\nfile://{absolute}\n./lund/../e.webp\n")
        refs = listed(manifest)
        assert [ref.image for ref in refs] == ["a.JPG", "lund/b.jpeg", "lund/b.jpeg", "e.webp"]
        assert [ref.path for ref in refs[1:3]] == [str(absolute)] * 2

    def test_an_image_outside_its_folder_is_named_by_its_whole_path(self, archive, tmp_path):
        manifest = tmp_path / "lists" / "list.txt"
        manifest.parent.mkdir()
        manifest.write_text("../archive/a.JPG\n")
        (ref,) = listed(manifest)
        assert ref.path == str(archive / "a.JPG")
        assert ref.image == str(archive / "a.JPG").removeprefix("/")

    def test_its_columns_become_capture_group_and_extra_columns(self, archive):
        manifest = archive / "list.csv"
        manifest.write_text(
            "uri,latitude,longitude,captured_at,heading,group,camera,floor\n"
            "a.JPG,48.5,9.25,2024-07-09T03:25:24Z,370,centre,left,2\n"
            "e.webp,91,,,,,,\n"
        )
        first, second = listed(manifest)
        assert (first.capture.latitude, first.capture.longitude) == (48.5, 9.25)
        assert first.capture.captured_at.isoformat() == "2024-07-09T03:25:24"
        assert first.group == "centre"
        assert [(e.name, e.value) for e in first.extra] == [("camera", "left"), ("floor", 2)]
        assert (second.capture, second.group) == (Capture(), ".")

    def test_a_missing_image_is_listed_to_fail_when_it_is_read(self, tmp_path):
        (tmp_path / "list.txt").write_text("gone.jpg\n")
        assert images(tmp_path / "list.txt") == ["gone.jpg"]

    def test_a_remote_uri_keeps_its_store(self, tmp_path):
        (tmp_path / "list.txt").write_text("gs://bucket/a.jpg\n")
        (ref,) = listed(tmp_path / "list.txt")
        assert (ref.uri, ref.image) == ("gs://bucket/a.jpg", "bucket/a.jpg")

    def test_one_without_a_uri_column_is_refused(self, tmp_path):
        (tmp_path / "list.csv").write_text("path\na.jpg\n")
        with pytest.raises(ManifestError, match="needs a column 'uri'"):
            first_image(str(tmp_path / "list.csv"))


class TestListImages:
    def test_lists_every_input_and_counts_what_it_passes_over(self, archive, tmp_path, photo_bytes):
        shard = write_tar(tmp_path / "city.tar", [("1.jpg", photo_bytes), ("readme.md", b"#")])
        pipeline = beam.Pipeline(runner=FnApiRunner())
        refs = pipeline | beam.Create([str(archive), str(shard)]) | ListImages()
        names = refs | beam.Map(lambda ref: ref.image)
        expected = ["a.JPG", "e.webp", "f.bmp", "lund/b.jpeg", "lund/d.TIFF", "lund/deep/er/c.PnG"]
        assert_that(names, equal_to([*expected, "city.tar/1.jpg"]))
        result = pipeline.run()
        result.wait_until_finish()
        counters = {
            counter.key.metric.name: counter.result
            for counter in result.metrics().query()["counters"]
            if counter.key.metric.namespace == "citymask.listing"
        }
        assert counters == {
            "images": 7,
            f"passed_over: {HIDDEN}": 2,
            f"passed_over: {NOT_AN_IMAGE}": 5,
        }

    def test_leaves_out_the_output_folder(self, tmp_path):
        Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
        (tmp_path / "out").mkdir()
        Image.new("L", (4, 4)).save(tmp_path / "out" / "a.png.png")
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            refs = pipeline | beam.Create([str(tmp_path)]) | ListImages(str(tmp_path / "out"))
            assert_that(refs | beam.Map(lambda ref: ref.image), equal_to(["a.png"]))
