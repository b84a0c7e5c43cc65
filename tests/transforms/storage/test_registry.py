"""A new store is one class that is registered under its scheme."""

import pytest

from tests.memory_store import MemoryStore, registered
from transforms import storage
from transforms.storage import StorageError


def test_the_scheme_of_a_path_says_which_store_has_it(tmp_path):
    store = MemoryStore()
    others = storage.store_of("memory://town/a")
    with registered("memory", store):
        assert storage.store_of("memory://town/a") is store
        assert storage.store_of(str(tmp_path)) is storage.store_of("relative/path")
        assert storage.store_of("s3://town") is storage.store_of("hdfs://town") is others
    assert storage.store_of("memory://town/a") is others


@pytest.mark.parametrize("path", ["gs://", "gs:///a", "s3://town/out"])
def test_a_place_that_takes_no_results_is_refused_with_those_that_do(path):
    with pytest.raises(StorageError) as caught:
        storage.check_writable(path)
    assert str(caught.value) == f"{path}: OUT is a local folder or gs://BUCKET/NAME"
    with registered("memory", MemoryStore()), pytest.raises(StorageError) as caught:
        storage.check_writable(path)
    assert str(caught.value).endswith("local folder or gs://BUCKET/NAME or memory://NAME")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/out", {"local_paths", "renames_folders"}),
        ("gs://town/out", {"shared", "costs_requests"}),
        ("s3://town/in", {"shared", "costs_requests"}),
    ],
)
def test_a_store_says_what_its_callers_have_to_know(path, expected):
    store = storage.store_of(path)
    known = ("local_paths", "shared", "costs_requests", "renames_folders")
    assert {name for name in known if getattr(store, name)} == expected


def test_local_names_that_differ_in_case_are_told_apart_or_not_as_the_folder_does(tmp_path):
    storage.write(str(tmp_path), "work/lock", b"")
    store = storage.store_of(str(tmp_path))
    assert not store.folds_case(str(tmp_path), "work/lock")
    # What a folder that folds case would show.
    storage.write(str(tmp_path), "WORK/LOCK", b"")
    assert store.folds_case(str(tmp_path), "work/lock")
    assert not storage.store_of("gs://town").folds_case("gs://town", "work/lock")
