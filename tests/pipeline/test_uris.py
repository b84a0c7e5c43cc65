"""URIs of photos, in manifests and as INPUT."""

import pandas as pd
import pytest

NAME = "Main Street/Straße 100%.jpg"


@pytest.fixture
def photo(tmp_path, make_photo):
    return make_photo(tmp_path / "photos" / NAME)


@pytest.mark.parametrize("kind", ["txt", "csv", "parquet"])
def test_manifests_name_photos_by_uris_of_every_form(run, output, photo, tmp_path, kind):
    path = photo.as_uri().removeprefix("file://")
    plain = photo.with_name("a%20b#1?.jpg")
    plain.write_bytes(photo.read_bytes())
    uris = [f"file://{path}", f"FILE://localhost{path}", f"file:{path}", str(plain)]
    manifest = tmp_path / f"list.{kind}"
    if kind == "txt":
        manifest.write_text("\n".join(uris))
    elif kind == "csv":
        pd.DataFrame({"uri": uris}).to_csv(manifest, index=False)
    else:
        pd.DataFrame({"uri": uris}).to_parquet(manifest)
    run(inputs=[manifest])
    assert list(output.rows["image"]) == [
        "photos/Main Street/Straße 100%25.jpg",
        "photos/Main Street/a%2520b#1?.jpg",
    ]
    assert output.runs[0]["images"]["given_twice"] == 2
    assert not len(output.failures)


def test_a_photo_on_another_host_fails_alone_and_names_the_host(run, output, photo, tmp_path):
    manifest = tmp_path / "list.txt"
    manifest.write_text(f"file://server/a\x1b[31m.jpg\n{photo.as_uri()}\n")
    run(inputs=[manifest])
    assert list(output.rows["image"]) == ["photos/Main Street/Straße 100%25.jpg"]
    ((stage, message),) = output.failures[["stage", "message"]].to_numpy()
    assert stage == "read" and "on the host 'server'" in message and "\x1b" not in message


def test_a_photo_in_a_store_that_is_not_known_fails_alone(run, output, photo, tmp_path):
    manifest = tmp_path / "list.txt"
    manifest.write_text(f"{photo}\nnowhere://bucket/a.jpg\n")
    run(inputs=[manifest])
    assert list(output.rows["image"]) == ["photos/Main Street/Straße 100%25.jpg"]
    ((stage, message, attempts),) = output.failures[["stage", "message", "attempts"]].to_numpy()
    assert stage == "read" and "nowhere://bucket/a.jpg: Unable to get filesystem" in message
    assert attempts == 0


@pytest.mark.parametrize("of", ["photo", "folder", "glob"])
def test_an_input_may_be_a_uri(run, output, photo, of):
    uri = {
        "photo": photo.as_uri(),
        "folder": photo.parent.as_uri(),
        "glob": photo.parent.as_uri() + "/*.jpg",
    }[of]
    run(inputs=[uri])
    assert list(output.rows["image"]) == ["Straße 100%25.jpg"]


def test_an_input_on_another_host_is_wrong_usage(run, tmp_path):
    result = run(inputs=["file://server/photos"], code=2)
    assert "on the host 'server'" in result.output
