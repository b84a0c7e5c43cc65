"""Sharing: how many processes of this machine share the work of a run.

Only one thread of a process at a time holds Python's lock, and each photo needs the lock for a
while. So one process keeps a few cores busy, but not dozens.
"""

from collections.abc import Mapping
from typing import Any

from models.engines import EngineName, devices
from pipeline.runners.options import LOCAL_WORKERS, is_local
from pipeline.runs.request import RunRequest
from transforms import storage
from transforms.inputs import listing
from transforms.inputs.manifests import ManifestError

CORES_OF_A_PROCESS = 8
"""Cores that one process keeps busy; `python benchmarks/cores.py` measures it."""

PHOTOS_OF_A_PROCESS = 1000
"""Least photos for which it pays to start another process: that takes as long as some hundred."""

MEMORY_OF_A_PROCESS = 2 << 30
"""Bytes that a process may need, with large photos."""


def shared(request: RunRequest, beam_arguments: Mapping[str, Any]) -> RunRequest:
    """The request with a number of worker processes, if it leaves that to this machine."""
    if request.workers is not None:
        return request
    return request.model_copy(update={"workers": _processes(request, beam_arguments)})


def _processes(request: RunRequest, beam_arguments: Mapping[str, Any]) -> int:
    """As many as keep the cores busy, fit into memory and pay for few photos; one with a GPU."""
    if not is_local(beam_arguments) or beam_arguments.keys() & LOCAL_WORKERS:
        return 1
    if not _works_photo_by_photo(request):
        return 1
    most = min(
        -(-devices.cores() // CORES_OF_A_PROCESS),
        devices.memory() // MEMORY_OF_A_PROCESS,
    )
    if most <= 1:
        return 1
    try:
        photos = listing.estimate(
            request.inputs, most * PHOTOS_OF_A_PROCESS, storage.absolute(request.output)
        )
    except (listing.InputError, ManifestError, storage.StorageError):
        return 1  # The check of the request says it.
    return max(1, min(most, photos // PHOTOS_OF_A_PROCESS))


def _works_photo_by_photo(request: RunRequest) -> bool:
    """Whether each core takes photos of its own, as OpenVINO does without windows.

    A GPU takes batches of one process, TensorFlow and JAX use all cores of the machine for each
    photo, and photos in windows are too large for each process to hold two.
    """
    return (
        request.engine in (EngineName.AUTO, EngineName.OPENVINO)
        and devices.keras_backend() == devices.TENSORFLOW
        and not (request.gpu or request.require_gpu or request.windows)
        and (request.engine is EngineName.OPENVINO or not devices.cuda_has_devices())
    )
