"""What is to blame for a failure: the photo, storage, or the circumstances."""

import errno
import os

import pytest

from transforms import storage
from transforms.flow.records import Fault
from transforms.inputs.members import ShardError
from transforms.photos.decoding import DecodeError
from transforms.segmenting.faults import fault_of

LISTED = "10-1"
LOCAL = ("EACCES", "EIO", "ESTALE", "ENODEV", "ETIMEDOUT", "ENOTCONN", "EMFILE", "ENOMEM", "ENOSPC")


class ResourceExhaustedError(Exception):
    """Called so as TensorFlow's is."""


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (storage.StorageError("cannot be read: Input/output error"), Fault.STORAGE),
        (storage.AccessError("not signed in"), Fault.STORAGE),
        (storage.FileError("cut short"), Fault.PHOTO),
        (storage.ChangedError("changed since it was listed"), Fault.CIRCUMSTANCES),
        (storage.MissingError("no such file"), Fault.CIRCUMSTANCES),
        (ShardError("damaged"), Fault.PHOTO),
        (DecodeError("damaged"), Fault.PHOTO),
        (caused(DecodeError("damaged"), OSError("image file is truncated")), Fault.PHOTO),
        (caused(DecodeError("damaged"), MemoryError()), Fault.CIRCUMSTANCES),
        (caused(DecodeError("damaged"), OSError(errno.EMFILE, "")), Fault.CIRCUMSTANCES),
        (MemoryError(), Fault.CIRCUMSTANCES),
        (ResourceExhaustedError("OOM when allocating"), Fault.CIRCUMSTANCES),
        (RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"), Fault.CIRCUMSTANCES),
        (RuntimeError("std::bad_alloc"), Fault.CIRCUMSTANCES),
        (RuntimeError("can't start new thread"), Fault.CIRCUMSTANCES),
        (ValueError("the network's output is not finite"), Fault.PHOTO),
    ],
)
def test_a_fault_is_told_from_the_error_and_its_causes(error, fault):
    assert fault_of(error, LISTED) is fault


def test_a_photo_that_was_missing_when_it_was_listed_is_to_blame():
    assert fault_of(storage.MissingError("no such file"), storage.UNSEEN) is Fault.PHOTO


@pytest.mark.parametrize("name", LOCAL)
def test_what_the_system_says_of_the_disk_is_the_fault_of_storage(monkeypatch, tmp_path, name):
    def refuse(*arguments, **options):
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    (tmp_path / "a.jpg").write_bytes(b"photo")
    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(storage.StorageError) as caught:
        storage.read(str(tmp_path / "a.jpg"))
    monkeypatch.undo()
    assert fault_of(caught.value, LISTED) is Fault.STORAGE


def test_a_folder_or_a_loop_of_links_in_place_of_a_photo_is_a_fault_of_the_photo(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    (tmp_path / "b.jpg").symlink_to("b.jpg")
    for name in ("a.jpg", "b.jpg"):
        with pytest.raises(storage.FileError) as caught:
            storage.read(str(tmp_path / name))
        assert fault_of(caught.value, LISTED) is Fault.PHOTO
