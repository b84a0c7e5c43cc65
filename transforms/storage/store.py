"""Store: the interface of a place for files, and its capabilities."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import BinaryIO, NoReturn

from transforms.storage.files import FoundFile, Part, StorageError
from transforms.storage.locks import LockFile

SEPARATOR = "://"
"""Between the scheme of a path, which names its store, and the rest."""


class Store(ABC):
    """A place for files, local or remote. A new store is a subclass that is registered.

    The functions of `transforms.storage` describe the operations; their methods here have the same
    names and arguments. The attributes and the other methods tell callers how the store behaves.
    The defaults are those of a remote store that is read only.

    Attributes:
        output_form: what an output folder in this store looks like, for messages, such as
            `gs://BUCKET/NAME`; empty if the store is read only.
        local_paths: whether paths are paths of this machine's file system, which other libraries
            and programs can open.
        shared: whether other machines see the same files under the same paths.
        costs_requests: whether each operation is a request to a server. Then callers send several
            at a time, and do not look where a listing or an older answer will do.
        renames_folders: whether a folder of any size is moved in one step.
    """

    output_form: str = ""
    local_paths: bool = False
    shared: bool = True
    costs_requests: bool = True
    renames_folders: bool = False

    def writable(self, path: str) -> bool:
        """Whether results can be written below `path`: whole files, never over those of others."""
        return bool(self.output_form)

    def folds_case(self, root: str, present: str) -> bool:
        """Whether names below `root` that differ only in case are one file.

        Args:
            root: the folder.
            present: path of a file that is there, below `root`, in lower case.
        """
        return False

    def absolute(self, path: str) -> str:
        """See `storage.absolute`."""
        scheme, separator, rest = path.partition(SEPARATOR)
        return scheme + separator + rest.rstrip("/")

    def is_below(self, path: str, folder: str) -> bool:
        """See `storage.is_below`."""
        return path.startswith(f"{folder}/")

    @abstractmethod
    def is_folder(self, path: str) -> bool:
        """See `storage.is_folder`."""

    def parts(self, folder: str) -> Iterator[Part]:
        """See `storage.parts`; by default a folder is listed as a whole."""
        yield Part(folder)

    def folders(self, folder: str) -> Iterator[str]:
        """See `storage.folders`. Only output folders are listed this way."""
        _refuse(folder)

    @abstractmethod
    def walk(self, part: Part, excluded: str, follow_links: bool) -> Iterator[FoundFile]:
        """See `storage.walk`."""

    def files(self, folder: str) -> Iterator[FoundFile]:
        """Files directly in a folder, in a fixed order; none if there is no such folder."""
        return self.walk(Part(folder, deep=False), excluded="", follow_links=True)

    @abstractmethod
    def matching(self, pattern: str) -> Iterator[FoundFile]:
        """See `storage.matching`."""

    @abstractmethod
    def find(self, path: str) -> FoundFile:
        """See `storage.find`."""

    def is_missing(self, path: str) -> bool:
        """See `storage.is_missing`; by default, `find` raises an error if it is not certain."""
        return self.find(path).size < 0

    @abstractmethod
    def read(self, path: str, offset: int, length: int | None, version: str) -> bytes:
        """See `storage.read`."""

    @abstractmethod
    def open_file(self, path: str) -> BinaryIO:
        """See `storage.open_file`."""

    def write(self, root: str, name: str, data: bytes, durable: bool = False) -> None:
        """See `storage.write`."""
        _refuse(root)

    def write_checked(
        self, root: str, name: str, data: bytes, durable: bool, check: Callable[[], None]
    ) -> None:
        """See `storage.write`; by default the check comes before the writing."""
        check()
        self.write(root, name, data, durable)

    def writing(
        self, root: str, name: str, durable: bool = False
    ) -> AbstractContextManager[BinaryIO]:
        """See `storage.writing`."""
        _refuse(root)

    def flush(self, root: str) -> None:  # noqa: B027
        """See `storage.flush`; by default what is written is durable."""

    def remove(self, root: str, name: str) -> None:
        """See `storage.remove`."""
        _refuse(root)

    def move(self, root: str, name: str, target: str) -> None:
        """See `storage.move`."""
        _refuse(root)

    def kept_folder(self, root: str, name: str) -> AbstractContextManager[str]:
        """See `storage.kept_folder`; by default there are no folders."""
        return nullcontext("")

    def identity(self, path: str) -> str:
        """See `storage.identity`; by default it is not known."""
        return ""

    def check_folder(self, root: str, name: str) -> None:  # noqa: B027
        """See `storage.check_folder`; by default there are no links."""

    def lock_file(self, root: str, name: str) -> LockFile:
        """See `storage.lock_file`."""
        _refuse(root)

    def remove_unfinished(self, root: str) -> int:
        """See `storage.remove_unfinished`; by default a write leaves nothing unfinished."""
        return 0


def _refuse(path: str) -> NoReturn:
    raise StorageError(f"{path}: files in this store can be read, not written")
