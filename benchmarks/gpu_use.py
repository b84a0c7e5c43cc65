"""Sample the utilization of an NVIDIA GPU by nvidia-smi."""

import shutil
import statistics
import subprocess
import threading
import time

INTERVAL_MS = 200
"""Milliseconds between samples."""


def gpu_names() -> list[str]:
    """Names of the NVIDIA GPUs of this machine."""
    return _ask("name")


def gpu_memory() -> int:
    """Bytes of memory of the first GPU."""
    return int(_ask("memory.total")[0]) << 20


def _ask(what: str) -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, stdout=subprocess.PIPE, text=True)
    return answer.stdout.splitlines() if answer.returncode == 0 else []


class GpuUse:
    """A context that samples the utilization of the first GPU.

    Attributes:
        name: of the GPU.
    """

    def __init__(self) -> None:
        self.name = gpu_names()[0]
        self._seen: list[tuple[float, float]] = []

    def __enter__(self) -> "GpuUse":
        query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0"]
        self._process = subprocess.Popen(
            ["nvidia-smi", *query, f"--loop-ms={INTERVAL_MS}"], stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()

    def share(self, began: float, ended: float) -> float:
        """Return the mean utilization, 0 to 1, between two times since the epoch."""
        return statistics.mean(busy for at, busy in self._seen if began <= at <= ended)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._seen.append((time.time(), float(line) / 100))
