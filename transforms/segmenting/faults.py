"""Faults: whether a photo, the storage or the machine is to blame for a failure.

Only failures of photos count towards quarantine: an outage must not put good photos there.
"""

import re
from collections.abc import Iterator

from transforms import storage
from transforms.flow.records import Fault

_EXHAUSTED = re.compile(
    r"out of memory|resource.?exhausted|bad_alloc|insufficient memory|new thread"
    r"|(fail\w*|not|unable) (to )?allocat|\b(cuda|cudnn|cublas|hip)(?![a-z])",
    re.IGNORECASE,
)
"""How libraries and drivers name a lack of memory or a broken device."""


def fault_of(error: BaseException, version: str) -> Fault:
    """What is to blame for an error.

    A photo that is missing or has changed since it was listed is not to blame: the version that
    was listed was not tried.

    Args:
        error: why an image failed.
        version: the version that was listed.
    """
    if isinstance(error, storage.MissingError):
        return Fault.PHOTO if version == storage.UNSEEN else Fault.CIRCUMSTANCES
    if isinstance(error, storage.ChangedError):
        return Fault.CIRCUMSTANCES
    if isinstance(error, storage.FileError):
        return Fault.PHOTO
    if isinstance(error, storage.StorageError):
        return Fault.STORAGE
    return Fault.CIRCUMSTANCES if any(map(_is_of_machine, _causes(error))) else Fault.PHOTO


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__


def _is_of_machine(error: BaseException) -> bool:
    """Whether memory, open files or a device ran out; codecs raise an OSError without `errno`."""
    if isinstance(error, OSError):
        return error.errno is not None
    named = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or bool(_EXHAUSTED.search(named))
