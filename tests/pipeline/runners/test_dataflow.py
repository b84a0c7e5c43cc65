"""Submitting to Dataflow: the job that is described, and how a launcher talks with the service.

There is no cloud here: the service is tests/dataflow_server.py, storage is an emulator, and workers
are a process that has nothing of citymask but what was staged.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.portability.api import beam_runner_api_pb2
from click.testing import Result
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage as gcs

from pipeline.errors import ConfigurationError
from pipeline.runners import dataflow_options
from pipeline.runners.options import split_arguments
from tests.dataflow_server import DataflowServer, ServedJob, failed, runs
from tests.storage_emulator import storage_emulator
from tests.waiting import PATIENCE, until
from transforms.output.locking import Owner

CONSOLE_SCRIPT = Path(sys.executable).with_name("citymask")
WORKER = Path(__file__).parents[2] / "dataflow_worker.py"
BUCKET = "city"
OUT = "gs://city/out"
IMAGE = "example.pkg.dev/p-1/citymask:1"
REQUIRED = {"runner": "DataflowRunner", "project": "p-1", "region": "europe-west4"}
REQUIRED["temp_location"] = "gs://city/tmp"
ACCELERATOR = "beam:resources:accelerator:v1"
FORBIDDEN = (HTTPStatus.FORBIDDEN, "PERMISSION_DENIED")


def arguments(*more: str) -> dict[str, Any]:
    """What a user gave: what is required, and more."""
    _, given = split_arguments([f"--{name}={value}" for name, value in REQUIRED.items()])
    rest, others = split_arguments(more)
    assert not rest
    return given | others


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ([], "--project and --region and --temp_location"),
        (["--project=p-1"], "--region and --temp_location"),
        (["--project=p-1", "--region=r", "--runner=dataflow"], "--temp_location"),
    ],
)
def test_what_dataflow_needs_is_asked_for_in_one_line(citymask, given, missing):
    result = citymask(
        "run", "gs://city/in", "-o", "gs://city/out", "--runner=DataflowRunner", *given
    )
    assert result.exit_code == 2
    assert f"Error: DataflowRunner: {missing} missing" in result.output
    assert len(result.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (["/photos", "-o", "gs://city/out"], "/photos: Dataflow's workers cannot see"),
        (["gs://city/in", "-o", "/out"], "/out: Dataflow's workers cannot see"),
        (["gs://city/in", "-o", "gs://city/out", "--temp_location=/tmp"], "Invalid GCS path"),
        (["gs://city/in", "-o", "gs://city/out", "--staging_location=gs://C/x"], "GCS bucket"),
        (["gs://city/in", "-o", "gs://city/out", "--gpu", "t4"], "'t4' is not TYPE[:COUNT]"),
        (["gs://city/in", "-o", "gs://city/out", "--gpu", "nvidia-l4:x"], "is not TYPE[:COUNT]"),
        (["gs://city/in", "-o", "gs://city/out", "--gpu", "nvidia-l4:3"], "has 1, 2, 4, 8 of"),
        (
            [
                "gs://city/in",
                "-o",
                "gs://city/out",
                "--gpu=nvidia-l4",
                "--flexrs_goal=COST_OPTIMIZED",
            ],
            "FlexRS (--flexrs_goal=COST_OPTIMIZED) has no GPUs",
        ),
        (
            ["gs://city/in", "-o", "gs://city/out", "--no-wait", "--max-minutes", "5"],
            "--max-minutes: nobody watches over it",
        ),
        (
            ["gs://city/in", "-o", "gs://city/out", "--no-wait", "--max-failures", "5%"],
            "--max-failures: nobody watches over it",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(citymask, line, error):
    given = [f"--{name}={value}" for name, value in REQUIRED.items()]
    result = citymask("run", *given, *line)
    assert result.exit_code == 2
    assert error in result.output
    assert len(result.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "error"),
    [
        (["--gpu", "nvidia-l4"], "--gpu: only Dataflow rents GPUs by their type"),
        (["--no-wait"], "--no-wait: only with --runner DataflowRunner"),
    ],
)
def test_what_only_dataflow_has_is_refused_elsewhere(citymask, tmp_path, option, error):
    result = citymask("run", tmp_path, "-o", tmp_path / "out", *option)
    assert (result.exit_code, len(result.output.splitlines())) == (2, 1)
    assert error in result.output


def test_an_option_of_the_user_wins_over_every_default():
    own = {
        "job_name": "mine",
        "machine_type": "n2-highmem-4",
        "disk_size_gb": 0,
        "number_of_worker_harness_threads": 9,
        "experiments": ["use_multiple_sdk_containers", "other"],
        "extra_packages": ["x.tar.gz"],
        "staging_location": "gs://city/staging",
        "max_num_workers": 3,
    }
    given = arguments(
        "--job_name=mine", "--machine_type=n2-highmem-4", "--disk_size_gb=0",
        "--number_of_worker_harness_threads=9",
        "--experiments=use_multiple_sdk_containers,other", "--extra_package=x.tar.gz",
        "--staging_location=gs://city/staging", "--max_num_workers=3",
    )  # fmt: skip
    options = dataflow_options.complete(given, OUT, "nvidia-tesla-t4")
    assert options == given | own
    assert set(dataflow_options.complete(arguments(), OUT)) - set(arguments()) == {
        "job_name", "machine_type", "disk_size_gb", "number_of_worker_harness_threads",
        "experiments",
    }  # fmt: skip


@pytest.mark.parametrize("runner", ["DirectRunner", "FlinkRunner"])
def test_other_runners_get_what_was_given_and_nothing_more(runner):
    given = {"runner": runner, "project": "p-1"}
    assert dataflow_options.complete(given, OUT) == given


def test_the_name_of_a_job_stands_for_its_output_folder():
    name = dataflow_options.job_name("gs://city/out")
    assert (
        name
        == dataflow_options.job_name("gs://city/out/")
        != dataflow_options.job_name("gs://city/out2")
    )
    assert re.fullmatch(PipelineOptionsValidator.JOB_PATTERN, name)


@pytest.mark.parametrize(
    ("gpu", "options", "hint"),
    [
        ("nvidia-tesla-t4", [], "type:nvidia-tesla-t4;count:1;install-nvidia-driver"),
        ("nvidia-tesla-v100:8", [], "type:nvidia-tesla-v100;count:8;install-nvidia-driver"),
        (
            "nvidia-l4:2",
            [],
            "type:nvidia-l4;count:2;machine_type:g2-standard-24;install-nvidia-driver",
        ),
        (
            "nvidia-tesla-t4:2",
            ["--machine_type=e2-standard-4"],
            "type:nvidia-tesla-t4;count:2;machine_type:n1-standard-16;install-nvidia-driver",
        ),
        (
            "nvidia-l4",
            ["--dataflow_service_options=enable_prime"],
            "type:nvidia-l4;count:1;install-nvidia-driver",
        ),
    ],
)
def test_gpus_are_hints_for_one_step(gpu, options, hint):
    completed = dataflow_options.complete(arguments(*options), OUT, gpu)
    hints = dataflow_options.hints(completed, gpu)
    count = int(gpu.partition(":")[2] or 1)
    assert hints == {"accelerator": hint, "min_ram": f"{16 * count}GB"}
    assert "worker_accelerator" not in str(completed)
    assert completed["experiments"] == ["no_use_multiple_sdk_containers"]
    assert completed["number_of_worker_harness_threads"] == 4


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (["--machine_type=g2-standard-16"], "type:nvidia-l4;count:1;install-nvidia-driver"),
        (["--dataflow_service_options=worker_accelerator=type:x;count:9"], "type:x;count:9"),
        (["--experiments=worker_accelerator=type:x;count:9"], "type:x;count:9"),
    ],
)
def test_gpus_of_all_workers_are_a_service_option_and_no_hint(options, kept):
    completed = dataflow_options.complete(arguments(*options), OUT, "nvidia-l4")
    assert dataflow_options.hints(completed, "nvidia-l4") == {}
    places = (completed.get("dataflow_service_options") or []) + completed["experiments"]
    assert [p for p in places if p.startswith("worker_")] == [f"worker_accelerator={kept}"]


def test_an_accelerator_hint_of_the_user_is_left_alone():
    given = arguments("--resource_hints=accelerator=type:x;count:1")
    assert (
        dataflow_options.hints(dataflow_options.complete(given, OUT, "nvidia-l4"), "nvidia-l4")
        == {}
    )


def test_without_gpu_there_is_no_hint():
    completed = dataflow_options.complete(arguments(), OUT)
    assert dataflow_options.hints(completed, None) == {}
    assert completed["experiments"] == ["no_use_multiple_sdk_containers"]
    assert completed["number_of_worker_harness_threads"] == 4


def test_dataflow_prime_chooses_the_machines():
    given = arguments("--dataflow_service_options=enable_prime")
    assert "machine_type" not in dataflow_options.complete(given, OUT)


def test_an_unknown_gpu_is_told_from_a_known_one():
    with pytest.raises(ConfigurationError, match="nvidia-tesla-t4, nvidia-tesla-p4"):
        dataflow_options.Gpu.parse("nvidia-l5")


@dataclass(frozen=True)
class Cloud:
    """A storage service with one bucket, and command lines that use it.

    Attributes:
        host: URL of the service.
        citymask: runs a command line in this process.
    """

    host: str
    citymask: Callable[..., Result]

    @property
    def bucket(self) -> gcs.Bucket:
        client = gcs.Client(
            "p-1", AnonymousCredentials(), client_options={"api_endpoint": self.host}
        )
        return client.bucket(BUCKET)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "STORAGE_EMULATOR_HOST": self.host}

    def names(self, prefix: str) -> list[str]:
        return [blob.name for blob in self.bucket.list_blobs(prefix=prefix)]

    def read(self, name: str) -> bytes:
        return self.bucket.blob(name).download_as_bytes()

    def write(self, name: str, data: bytes) -> None:
        self.bucket.blob(name).upload_from_string(data)

    def line(self, output: str, endpoint: str, *more: object, staged: bool = False) -> list[str]:
        """The arguments of a run into a folder of the bucket.

        Without `staged` the workers have an image, and no source is packed for them.
        """
        image = {} if staged else {"sdk_container_image": IMAGE}
        given = {**REQUIRED, "dataflow_endpoint": endpoint, **image}
        options = [f"--{name}={value}" for name, value in given.items()]
        line = ["run", f"gs://{BUCKET}/in", "-o", f"gs://{BUCKET}/{output}"]
        # What is installed here would be listed with `pip freeze`, which takes its time.
        quick = ["--no_auth", "--experiments=disable_logging_submission_environment"]
        return [str(word) for word in (*line, *options, *quick, *more)]

    def run(self, *line: object, staged: bool = False) -> Result:
        return self.citymask(*self.line(*line, staged=staged))


@pytest.fixture(scope="module")
def cloud(citymask, cloud_storage_at) -> Iterator[Cloud]:
    with storage_emulator(BUCKET) as host, cloud_storage_at(host):
        yield Cloud(host, citymask)


@pytest.fixture
def photos(cloud, make_photo, tmp_path) -> None:
    for seed, name in enumerate(["a.jpg", "lund/b.jpg"]):
        cloud.write(f"in/{name}", make_photo(tmp_path / f"{seed}.jpg", seed=seed).read_bytes())
    cloud.write("in/broken.jpg", b"no photo")


@dataclass(frozen=True)
class Described:
    """A job that was described but not submitted."""

    job: dict[str, Any]
    graph: beam_runner_api_pb2.Pipeline
    staging: Path

    @property
    def pool(self) -> dict[str, Any]:
        (pool,) = self.job["environment"]["workerPools"]
        return pool

    def hinted_steps(self) -> dict[str, dict[str, bytes]]:
        """Resource hints by the names of the steps that have any."""
        components = self.graph.components
        hints = {
            step.unique_name: dict(components.environments[step.environment_id].resource_hints)
            for step in components.transforms.values()
            if step.environment_id
        }
        return {name: found for name, found in hints.items() if found}


@pytest.fixture(scope="module")
def describe(cloud, tmp_path_factory, tiny_model) -> Callable[..., Described]:
    """A function that describes a job without reaching any service but storage."""
    cloud.write("in/a.jpg", b"looked for, but not read")

    def run(*options: object) -> Described:
        staging = tmp_path_factory.mktemp("staging")
        done = cloud.run(
            "described", "http://localhost:1", "--model", tiny_model, f"--temp_location={staging}",
            f"--template_location={staging}/job.json", "--sdk_location=container", *options,
            staged=True,
        )  # fmt: skip
        assert done.exit_code == 0, done.stderr
        assert f"{staging}/job.json" in done.stdout
        # Without an image, --gpu is answered with a hint that it needs one.
        assert len(done.stderr.splitlines()) == ("--gpu" in options)
        graph = beam_runner_api_pb2.Pipeline.FromString((staging / "pipeline.pb").read_bytes())
        return Described(json.loads((staging / "job.json").read_text()), graph, staging)

    return run


@pytest.fixture(scope="module")
def with_gpu(describe) -> Described:
    return describe("--gpu", "nvidia-tesla-t4")


@pytest.fixture(scope="module")
def installed(with_gpu, tmp_path_factory) -> Path:
    """The folder into which the staged source distribution was installed, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    install(with_gpu.staging / "citymask-0.1.0.tar.gz", folder)
    return folder


def install(archive: Path, folder: Path) -> None:
    """Install a source distribution alone; its dependencies are those of this environment."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", folder, archive], check=True)


def test_only_the_step_that_runs_the_network_asks_for_a_gpu(with_gpu):
    assert with_gpu.hinted_steps() == {
        "SegmentUnit": {
            ACCELERATOR: b"type:nvidia-tesla-t4;count:1;install-nvidia-driver",
            "beam:resources:min_ram_bytes:v1": b"16000000000",
        }
    }
    assert "serviceOptions" not in with_gpu.job["environment"]


def test_the_described_job_has_the_defaults(with_gpu):
    assert with_gpu.job["name"] == dataflow_options.job_name(f"gs://{BUCKET}/described")
    pool = with_gpu.pool
    assert (pool["machineType"], pool["diskSizeGb"]) == ("n1-standard-8", 50)
    assert pool["numThreadsPerWorker"] == 4
    experiments = with_gpu.job["environment"]["experiments"]
    assert {"use_runner_v2", "no_use_multiple_sdk_containers"} <= set(experiments)
    assert "use_multiple_sdk_containers" not in experiments
    images = {image["containerImage"] for image in pool["sdkHarnessContainerImages"]}
    (image,) = images
    assert image.startswith("gcr.io/cloud-dataflow/v1beta3/beam_python3")


def test_an_image_of_the_user_is_that_of_all_workers_and_nothing_is_staged(describe):
    image = "europe-docker.pkg.dev/p-1/images/citymask-gpu:1"
    described = describe(
        f"--sdk_container_image={image}", "--machine_type=g2-standard-8", "--gpu=nvidia-l4",
        "--disk_size_gb=200", "--labels=team=maps", "--max_num_workers=7",
    )  # fmt: skip
    assert described.hinted_steps() == {}
    environment, pool = described.job["environment"], described.pool
    accelerator = "worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver"
    assert environment["serviceOptions"] == [accelerator]
    assert pool["workerHarnessContainerImage"] == image
    assert (pool["machineType"], pool["diskSizeGb"]) == ("g2-standard-8", 200)
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 7
    assert described.job["labels"] == {"team": "maps"}
    assert not pool.get("packages")
    assert not list(described.staging.glob("*.tar.gz"))


def test_the_staged_source_distribution_is_all_of_citymask_that_a_worker_needs(installed, tmp_path):
    look = """
import pathlib, sys
import models.packages, pipeline.cli, transforms.segmenting.unit
print(models.__file__, pipeline.__file__, transforms.__file__, sep="\\n")
print(*models.packages.shipped_names(), *(p.name for p in
      pathlib.Path(models.__file__).parent.glob("class_sets/*.csv")))
models.packages.load_package("default")
"""
    done = subprocess.run(
        [sys.executable, "-c", look], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )  # fmt: skip
    *files, data = done.stdout.splitlines()
    assert files == [str(installed / name / "__init__.py") for name in
                     ("models", "pipeline", "transforms")]  # fmt: skip
    assert {"default", "unet", "camvid.csv"} <= set(data.split())


def test_the_source_is_not_touched_by_packing_it(with_gpu):
    assert not list(dataflow_options.SETUP_FILE.parent.glob("*.tar.gz"))
    assert not (dataflow_options.SETUP_FILE.parent / "dist").exists()


def test_an_installation_without_source_says_what_to_give(cloud, installed, tmp_path):
    line = cloud.line("out", "http://localhost:1", staged=True)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *line], cwd=tmp_path, capture_output=True, text=True,
        env={**cloud.environment, "PYTHONPATH": str(installed)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "give --setup_file CHECKOUT/setup.py, or a --sdk_container_image" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("kind", ["tiny_model", "class_ids_model"])
def test_a_job_runs_from_submission_to_its_record(cloud, photos, tmp_path, kind, request):
    """The launcher's part and the workers'; these have the staged files and nothing more."""
    model = shutil.copytree(request.getfixturevalue(kind), tmp_path / "model")

    def work(job: ServedJob) -> None:
        # Workers of Dataflow have not the launcher's disk.
        shutil.rmtree(model)
        job.state = "JOB_STATE_RUNNING"
        run_staged(cloud, job, tmp_path / "worker")

    with DataflowServer(work) as service:
        done = cloud.run(
            kind, service.url, "--model", model, "--sdk_location=container", staged=True
        )
    assert (done.exit_code, done.stderr.count("Error")) == (0, 0), done.stderr
    job = service.job
    assert f"Dataflow job {job.id} (https://console.cloud.google.com/dataflow/jobs/" in done.stderr
    assert "JOB_STATE" not in done.stderr and ": DONE" in done.stderr
    assert (job.project, job.region) == ("p-1", "europe-west4")
    packages = job.description["environment"]["workerPools"][0]["packages"]
    assert all(p["location"].startswith("storage.googleapis.com/city/tmp/") for p in packages)

    assert "2 images done" in done.stdout and "1 failed" in done.stdout
    masks = [name for name in cloud.names(f"{kind}/masks/") if name.endswith(".png")]
    assert masks == [f"{kind}/masks/a.jpg.png", f"{kind}/masks/lund/b.jpg.png"]
    (path,) = cloud.names(f"{kind}/runs/")
    record = json.loads(cloud.read(path))
    assert {k: v for k, v in record["images"].items() if v} == {
        "found": 3, "new": 3, "done": 2, "failed": 1,
    }  # fmt: skip
    assert sum(record["pixels"].values()) == 2 * 96 * 64
    assert list(record["precisions"].values()) == [2]
    assert record["output_precisions"] == record["precisions"]
    assert record["stages"]["infer"]["count"] >= 1
    assert record["options"]["beam"]["machine_type"] == "n1-standard-8"
    assert json.loads(cloud.read(f"{kind}/summary.json"))["images"]["done"] == 2


def run_staged(cloud: Cloud, job: ServedJob, folder: Path) -> None:
    """Do a job with what was staged for it, and end it with its metrics."""
    environment = job.description["environment"]
    folder.mkdir()
    for package in environment["workerPools"][0]["packages"]:
        name = package["location"].removeprefix(f"storage.googleapis.com/{BUCKET}/")
        (folder / package["name"]).write_bytes(cloud.read(name))
    graph = environment["sdkPipelineOptions"]["options"]["pipelineUrl"]
    (folder / "graph").write_bytes(cloud.read(graph.removeprefix(f"gs://{BUCKET}/")))
    shutil.unpack_archive(folder / "citymask-0.1.0.tar.gz", folder)
    worker = subprocess.run(
        [sys.executable, WORKER, folder / "graph", folder / "metrics"],
        cwd=folder, env={**cloud.environment, "PYTHONPATH": str(folder / "citymask-0.1.0")},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    if worker.returncode:
        job.errors.append(worker.stderr)
        job.state = "JOB_STATE_FAILED"
        return
    job.report(json.loads((folder / "metrics").read_text()))
    job.state = "JOB_STATE_DONE"


def test_no_wait_prints_where_the_job_is_and_its_name_is_the_lock(cloud, photos, tiny_model):
    with DataflowServer(runs) as service:
        line = ["left", service.url, "--model", tiny_model, "--no-wait"]
        first = cloud.run(*line)
        job = service.job
        assert (first.exit_code, first.stderr) == (0, "")
        url = f"https://console.cloud.google.com/dataflow/jobs/europe-west4/{job.id}?project=p-1"
        assert first.stdout.splitlines() == [job.id, url]
        assert cloud.names("left/runs/") == []
        lock = Owner.parse(cloud.read("left/.citymask/lock"))
        assert lock.released and lock.writer == lock.run_id

        second = cloud.run(*line)
        assert second.exit_code == 4
        (error,) = second.stderr.splitlines()
        assert error == f"Error: Dataflow job {job.id} ({url}) is active as {job.name}"

        job.state = "JOB_STATE_DONE"
        assert cloud.run(*line).exit_code == 0
        assert len(service.jobs) == 2


def test_a_job_that_comes_first_by_a_moment_is_another_run_that_holds_the_lock(
    cloud, photos, tiny_model
):
    """Both have looked before either was there; the service takes one of them."""

    class Late(DataflowServer):
        def active(self, name: str) -> Iterator[ServedJob]:
            listed, self.listed = getattr(self, "listed", False), True
            return super().active(name) if listed else iter(())

    with Late(runs) as service:
        service.create(
            "p-1", "europe-west4", {"name": dataflow_options.job_name(f"gs://{BUCKET}/race")}
        )
        done = cloud.run("race", service.url, "--model", tiny_model, "--no-wait")
    assert done.exit_code == 4
    assert "There is already an active job" in done.stderr
    lock = Owner.parse(cloud.read("race/.citymask/lock"))
    assert lock.released and not lock.writer  # The active job still may write.
    assert len(done.stderr.splitlines()) == 1
    assert len(service.jobs) == 1


def test_a_failed_job_is_one_line_with_its_reason_and_its_page(cloud, photos, tiny_model):
    errors = ["Traceback (most recent call last):\n ...\nValueError: no", "Workflow failed."]
    with DataflowServer(failed(*errors)) as service:
        done = cloud.run("fails", service.url, "--model", tiny_model)
    url = f"https://console.cloud.google.com/dataflow/jobs/europe-west4/{service.job.id}"
    assert done.exit_code == 1
    *_, error = done.stderr.splitlines()
    job = f"Dataflow job {service.job.id} ({url}?project=p-1)"
    assert error == f"Error: {job} ended as FAILED: ValueError: no"
    assert cloud.names("fails/runs/") == []


def test_a_bucket_that_is_not_there_is_wrong_usage_at_once(cloud, photos, tiny_model):
    with DataflowServer(runs) as service:
        done = cloud.run(
            "x", service.url, "--model", tiny_model, "--temp_location=gs://no-city/tmp"
        )
    assert done.exit_code == 2
    (error,) = done.stderr.splitlines()
    assert error.startswith("Error: --temp_location: gs://no-city: no such ")
    assert not service.jobs


def test_a_service_that_is_not_there_is_one_line(cloud, photos, tiny_model):
    done = cloud.run("x", "http://localhost:1", "--model", tiny_model, "--no-wait")
    assert done.exit_code == 1
    (error,) = done.stderr.splitlines()
    assert error.startswith("Error: no job was submitted, Dataflow cannot be reached: ")


def test_what_the_service_refuses_is_one_line_of_wrong_usage(cloud, photos, tiny_model):
    with DataflowServer(runs) as service:
        service.refusals["GET"] = (*FORBIDDEN, "You need dataflow.jobs.list")
        done = cloud.run("no", service.url, "--model", tiny_model, "--no-wait")
    assert done.exit_code == 2
    (error,) = done.stderr.splitlines()
    assert error.startswith("Error: Dataflow refuses the job: 403")
    assert error.endswith("You need dataflow.jobs.list")
    assert cloud.names("no/") == []


@contextmanager
def launched(cloud: Cloud, *line: object) -> Iterator[subprocess.Popen[str]]:
    """As a context, a launcher whose job runs."""
    with subprocess.Popen(
        [CONSOLE_SCRIPT, *cloud.line(*line)], env=cloud.environment, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr
            while line := process.stderr.readline():
                if ": RUNNING" in line:
                    break
            else:
                pytest.fail(f"the launcher ended with {process.wait()}")
            yield process
        finally:
            process.kill()


def test_a_first_signal_asks_the_workers_to_stop(cloud, photos, tiny_model):
    with (
        DataflowServer(runs) as service,
        launched(cloud, "stops", service.url, "--model", tiny_model) as launcher,
    ):
        launcher.send_signal(signal.SIGTERM)
        until(lambda: "stops/.citymask/stop" in cloud.names("stops/"))
        assert service.job.active
        service.job.count("citymask.segmenting", "left", 3)
        cloud.write("stops/summary.json", b'{"classes": []}')
        service.job.state = "JOB_STATE_DONE"
        _, errors = launcher.communicate(timeout=PATIENCE)
    assert launcher.returncode == 128 + signal.SIGTERM
    assert "3 images are left for the next run" in errors
    (path,) = cloud.names("stops/runs/")
    assert json.loads(cloud.read(path))["interrupted"] == "SIGTERM"


def test_a_second_signal_cancels_the_job(cloud, photos, tiny_model):
    with (
        DataflowServer(runs) as service,
        launched(cloud, "cancelled", service.url, "--model", tiny_model) as launcher,
    ):
        launcher.send_signal(signal.SIGINT)
        until(lambda: "cancelled/.citymask/stop" in cloud.names("cancelled/"))
        launcher.send_signal(signal.SIGINT)
        _, errors = launcher.communicate(timeout=PATIENCE)
    assert service.job.state == "JOB_STATE_CANCELLED"
    assert launcher.returncode == 128 + signal.SIGINT
    assert f"{service.job.id} (https://" in errors and "is being cancelled" in errors
    assert "Interrupted (SIGINT)" in errors
    assert cloud.names("cancelled/runs/") == []
    assert Owner.parse(cloud.read("cancelled/.citymask/lock")).released


def test_a_job_that_cannot_be_cancelled_is_not_left_in_silence(cloud, photos, tiny_model):
    with (
        DataflowServer(runs) as service,
        launched(cloud, "kept", service.url, "--model", tiny_model) as launcher,
    ):
        service.refusals["PUT"] = (*FORBIDDEN, "You need dataflow.jobs.cancel")
        launcher.send_signal(signal.SIGINT)
        until(lambda: "kept/.citymask/stop" in cloud.names("kept/"))
        launcher.send_signal(signal.SIGINT)
        _, errors = launcher.communicate(timeout=PATIENCE)
    assert service.job.active
    assert launcher.returncode == 128 + signal.SIGINT
    assert re.search(
        rf"{service.job.id} .* cannot be cancelled from here and continues: 403", errors
    )
