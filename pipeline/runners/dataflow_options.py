"""Options of a Dataflow job: what it needs, what is chosen where the user did not, and its GPUs.

What the service takes is described at https://cloud.google.com/dataflow/docs/reference/pipeline-options
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import GoogleCloudOptions
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.runner import create_runner

from pipeline.errors import ConfigurationError
from pipeline.runners.options import pipeline_options
from transforms import storage

RUNNER = "DataflowRunner"
REQUIRED = ("project", "region", "temp_location")

SETUP_FILE = Path(__file__).parents[2] / "setup.py"
"""Beside it is what a source distribution for the workers is made of."""

MACHINE_TYPE = "n1-standard-8"
"""Of the one family that T4, P4, P100 and V100 attach to."""

DISK_SIZE_GB = 50
"""Dataflow's own 25 GB are little for an image with TensorFlow and CUDA."""

THREADS = 4
"""Work units at a time in a process: while some are being committed, others go on."""

ONE_PROCESS = "no_use_multiple_sdk_containers"
ONE_PROCESS_PER_CORE = "use_multiple_sdk_containers"

RAM_PER_GPU_GB = 16

ACCELERATOR = "accelerator"
WORKER_ACCELERATOR = "worker_accelerator"
PRIME = "enable_prime"

_N1 = {1: "n1-standard-8", 2: "n1-standard-16", 4: "n1-standard-32"}
MACHINES: Mapping[str, Mapping[int, str]] = {
    "nvidia-tesla-t4": _N1,
    "nvidia-tesla-p4": _N1,
    "nvidia-tesla-p100": _N1,
    "nvidia-tesla-v100": {**_N1, 8: "n1-standard-64"},
    "nvidia-l4": {
        1: "g2-standard-8",
        2: "g2-standard-24",
        4: "g2-standard-48",
        8: "g2-standard-96",
    },
    "nvidia-tesla-a100": {n: f"a2-highgpu-{n}g" for n in (1, 2, 4, 8)},
    "nvidia-a100-80gb": {n: f"a2-ultragpu-{n}g" for n in (1, 2, 4, 8)},
    "nvidia-h100-80gb": {n: f"a3-highgpu-{n}g" for n in (1, 2, 4, 8)},
}
"""Machines by type and number of their GPUs, see https://cloud.google.com/compute/docs/gpus"""

WITHOUT_GPU = "n1"
"""The family whose machines have the GPUs only that are asked for."""


@dataclass(frozen=True)
class Gpu:
    """GPUs of a worker.

    Attributes:
        type: a key of `MACHINES`.
        count: how many a worker has.
    """

    type: str
    count: int

    @classmethod
    def parse(cls, text: str) -> "Gpu":
        """Read `TYPE[:COUNT]`; raises ConfigurationError where it is nothing that Dataflow has."""
        found = re.fullmatch(r"([a-z0-9-]+)(?::([0-9]+))?", text)
        if not found or found[1] not in MACHINES:
            raise ConfigurationError(
                f"--gpu: {text!r} is not TYPE[:COUNT] with one of the types {', '.join(MACHINES)}; "
                f"others: --dataflow_service_options={WORKER_ACCELERATOR}=..."
            )
        gpu = cls(found[1], int(found[2] or 1))
        if gpu.count not in MACHINES[gpu.type]:
            counts = ", ".join(map(str, MACHINES[gpu.type]))
            raise ConfigurationError(
                f"--gpu: {text!r}: a machine has {counts} of {gpu.type}, not {gpu.count}"
            )
        return gpu

    @property
    def machine_type(self) -> str:
        """A machine that has these GPUs, or that they attach to."""
        return MACHINES[self.type][self.count]

    def accelerator(self, machine_type: str = "") -> str:
        """These GPUs as Dataflow's options name them.

        Args:
            machine_type: of the machine to rent for them; empty: that is left to others.
        """
        machine = f"machine_type:{machine_type};" if machine_type else ""
        return f"type:{self.type};count:{self.count};{machine}install-nvidia-driver"


def is_chosen(given: Mapping[str, Any]) -> bool:
    """Whether the Beam options name Dataflow's runner."""
    name = given.get("runner", "").rpartition(".")[2].lower()
    return name.removesuffix("runner") == RUNNER.lower().removesuffix("runner")


def complete(given: Mapping[str, Any], work: str, gpu: str | None = None) -> dict[str, Any]:
    """Beam's options of a job: those given, and for Dataflow defaults for the others.

    Args:
        given: Beam's options as the user gave them.
        work: what the job works on; its name stands for it.
        gpu: GPUs of a worker, `TYPE[:COUNT]`, or None.

    Raises:
        ConfigurationError: what Dataflow needs is missing, or options exclude each other.
    """
    gpus = Gpu.parse(gpu) if gpu else None
    if not is_chosen(given):
        if gpus:
            raise ConfigurationError(
                "--gpu: only Dataflow rents GPUs by their type (--runner DataflowRunner); "
                "a GPU of this machine is used without asking"
            )
        return dict(given)
    missing = [f"--{name}" for name in REQUIRED if not given.get(name)]
    if missing:
        raise ConfigurationError(f"{RUNNER}: {' and '.join(missing)} missing; give it on this line")
    if gpus and given.get("flexrs_goal") == "COST_OPTIMIZED":
        raise ConfigurationError("--gpu: FlexRS (--flexrs_goal=COST_OPTIMIZED) has no GPUs")
    defaults = {
        "job_name": job_name(work),
        "disk_size_gb": DISK_SIZE_GB,
        "number_of_worker_harness_threads": THREADS,
    }
    if not _uses_prime(given):
        defaults["machine_type"] = MACHINE_TYPE
    options = {**defaults, **given}
    # One process keeps every core busy; Dataflow would start one per core.
    experiments = _all(options, "experiments")
    if not {ONE_PROCESS, ONE_PROCESS_PER_CORE} & set(experiments):
        options["experiments"] = [*experiments, ONE_PROCESS]
    if gpus:
        _add_gpu(options, gpus)
    return options


def hints(options: Mapping[str, Any], gpu: str | None) -> dict[str, str]:
    """Resource hints for the step that runs the network.

    With them Dataflow rents machines with GPUs for this step and others without for all others
    ("right fitting"). That excludes `worker_accelerator`, which is for all workers of a job.

    Args:
        options: as `complete` returned them.
        gpu: the same that it was called with.
    """
    if not gpu or _has_accelerator(options):
        return {}
    gpus = Gpu.parse(gpu)
    fits = _uses_prime(options) or _family(options["machine_type"]) == _family(gpus.machine_type)
    return {
        ACCELERATOR: gpus.accelerator("" if fits else gpus.machine_type),
        "min_ram": f"{RAM_PER_GPU_GB * gpus.count}GB",
    }


def notes(options: Mapping[str, Any], gpu: str | None) -> list[str]:
    """What a user should read before the job begins."""
    if gpu and stages_source(options):
        return [
            "--gpu: Beam's own image has no CUDA libraries, without which the GPU is not used; "
            "--sdk_container_image takes one that has them"
        ]
    return []


def check(options: Mapping[str, Any], paths: Sequence[str]) -> None:
    """Check what workers see, and the folders of a job.

    Args:
        options: as `complete` returned them.
        paths: what the workers read and write.

    Raises:
        ConfigurationError: workers cannot see a path or have no citymask, or a folder is wrong.
    """
    for path in paths:
        if not storage.is_remote(path):
            raise ConfigurationError(
                f"{path}: Dataflow's workers cannot see folders of this machine; give gs://..."
            )
    if stages_source(options) and not SETUP_FILE.is_file():
        raise ConfigurationError(
            f"{RUNNER}: the workers need citymask, and it is installed here without its source; "
            "give --setup_file CHECKOUT/setup.py, or a --sdk_container_image that has it"
        )
    # Beam answers a wrong folder by making a bucket of its own.
    views = pipeline_options(dict(options))
    validator = PipelineOptionsValidator(views, create_runner(RUNNER))
    if validator.is_service_runner():
        cloud = views.view_as(GoogleCloudOptions)
        for name in ("temp_location", "staging_location"):
            if getattr(cloud, name) and (errors := validator.validate_gcs_path(cloud, name)):
                raise ConfigurationError(errors[0])


def is_unattended(options: Mapping[str, Any]) -> bool:
    """Whether Beam only describes the job, for a template or a dry run, and nothing runs."""
    return is_chosen(options) and bool(options.get("template_location") or options.get("dry_run"))


def stages_source(options: Mapping[str, Any]) -> bool:
    """Whether workers get citymask as a source distribution; a user's image or setup has it."""
    return not (options.get("sdk_container_image") or options.get("setup_file"))


def job_name(work: str) -> str:
    """The name of the job that works on something, such as an output folder.

    Dataflow runs one job of a name at a time.
    """
    return f"citymask-{hashlib.sha256(storage.absolute(work).encode()).hexdigest()[:12]}"


def console_url(options: Mapping[str, Any], job_id: str) -> str:
    """Where people see a job."""
    return (
        f"https://console.cloud.google.com/dataflow/jobs/{options['region']}/{job_id}"
        f"?project={options['project']}"
    )


def _add_gpu(options: dict[str, Any], gpu: Gpu) -> None:
    """Add what GPUs ask of a whole job."""
    # All workers are machines of this type, and these have their GPUs whatever a step asks for.
    family = _family(options.get("machine_type", ""))
    everywhere = family == _family(gpu.machine_type) != WITHOUT_GPU
    if everywhere and not _has_accelerator(options):
        options["dataflow_service_options"] = [
            *_all(options, "dataflow_service_options"),
            f"{WORKER_ACCELERATOR}={gpu.accelerator()}",
        ]


def _has_accelerator(options: Mapping[str, Any]) -> bool:
    """Whether the options say already which workers have GPUs."""
    for_job = _all(options, "dataflow_service_options", "experiments")
    for_steps = _all(options, "resource_hints")
    return any(option.startswith(WORKER_ACCELERATOR) for option in for_job) or any(
        hint.startswith(ACCELERATOR) for hint in for_steps
    )


def _uses_prime(options: Mapping[str, Any]) -> bool:
    """Whether the job runs on Dataflow Prime, which chooses machines itself."""
    return PRIME in _all(options, "dataflow_service_options", "experiments")


def _all(options: Mapping[str, Any], *names: str) -> list[str]:
    return [value for name in names for value in options.get(name) or []]


def _family(machine_type: str) -> str:
    return machine_type.partition("-")[0]
