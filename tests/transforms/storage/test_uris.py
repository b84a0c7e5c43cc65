"""URIs: the paths that they stand for, by RFC 8089 and RFC 3986."""

from pathlib import Path

import pytest

from transforms import storage


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///a/b.jpg", "/a/b.jpg"),
        ("file:/a/b.jpg", "/a/b.jpg"),
        ("file://localhost/a/b.jpg", "/a/b.jpg"),
        ("FILE://LocalHost/a/b.jpg", "/a/b.jpg"),
        ("file:////a/b.jpg", "/a/b.jpg"),
        ("file:///a%20b/%C3%9F.jpg", "/a b/ß.jpg"),
        ("file:///a b/ß.jpg", "/a b/ß.jpg"),
        ("file:///%FF.jpg", "/\udcff.jpg"),
        ("file:///a+b%2Bc%zz%.jpg", "/a+b+c%zz%.jpg"),
        ("file:///a%23b%3F.jpg", "/a#b?.jpg"),
        ("file:///a%2520b.jpg", "/a%20b.jpg"),
        ("file:///a.jpg?width=5#top", "/a.jpg"),
        ("file:///C:/a.jpg", "/C:/a.jpg"),
        ("file:///a\n\t\x1b.jpg", "/a\n\t\x1b.jpg"),
        ("GS://Town/a%20b.jpg", "gs://Town/a%20b.jpg"),
        ("S3://town/a.jpg", "s3://town/a.jpg"),
        ("gs://town/FILE:/a.jpg", "gs://town/FILE:/a.jpg"),
        ("photos/GS://a.jpg", "photos/GS://a.jpg"),
        ("a%20b#1?.jpg", "a%20b#1?.jpg"),
        ("/a%20b#1?.jpg", "/a%20b#1?.jpg"),
        ("file:a.jpg", "file:a.jpg"),
        ("profile:/a%20b.jpg", "profile:/a%20b.jpg"),
        ("C:\\photos\\a.jpg", "C:\\photos\\a.jpg"),
        ("", ""),
    ],
)
def test_a_uri_stands_for_a_path_and_a_path_for_itself(uri, path):
    assert storage.path_of(uri) == path


@pytest.mark.parametrize(
    "name", ["a b.jpg", "ß%20#?.jpg", "new\nline.jpg", "100%.jpg", "a;b&c=.jpg"]
)
def test_what_python_writes_for_a_path_is_that_path(tmp_path, name):
    assert storage.path_of(Path(tmp_path, name).as_uri()) == str(tmp_path / name)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("file://server/a.jpg", "on the host 'server'.* file:///data/a.jpg"),
        ("file://a.jpg", "on the host 'a.jpg'"),
        ("file://C:/a.jpg", "on the host 'C:'"),
        ("file://[::1/a.jpg", "on the host"),
        ("file://user@localhost/a.jpg", "on the host"),
        ("file://", "names no file"),
        ("file://localhost", "names no file"),
        ("file://localhost#a.jpg", "names no file"),
    ],
)
def test_a_file_elsewhere_is_an_error_that_names_the_host(uri, message):
    with pytest.raises(storage.StorageError, match=message):
        storage.path_of(uri)
