"""verify, report, export and evaluate on Dataflow: the same defaults, checks and ends as run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from pipeline.runners.dataflow_options import job_name
from tests.dataflow_server import DataflowServer, ServedJob, failed, runs
from tests.dataflow_worker import run_graph
from tests.storage_emulator import storage_emulator
from transforms import storage

BUCKET = "city"
OUT = f"gs://{BUCKET}/out"
DATA = f"gs://{BUCKET}/data"
COMMANDS = {
    "verify": ["verify", OUT],
    "report": ["report", OUT, "--gallery", "2"],
    "export": ["export", OUT, "--format", "bigquery"],
    "evaluate": ["evaluate", "--masks", f"{OUT}/masks", "--data", DATA],
}
OPTIONS = [
    "--runner=DataflowRunner", "--project=p-1", "--region=europe-west4",
    f"--temp_location=gs://{BUCKET}/tmp", "--sdk_container_image=example.pkg.dev/p-1/citymask:1",
    "--no_auth", "--experiments=disable_logging_submission_environment",
]  # fmt: skip


def work(job: ServedJob) -> None:
    """Do a job in this process, with the graph that was staged for it."""
    job.state = "JOB_STATE_RUNNING"
    url = job.description["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
    job.report(run_graph(storage.read(url)))
    job.state = "JOB_STATE_DONE"


@dataclass(frozen=True)
class Cloud:
    """Runs the commands on Dataflow."""

    citymask: Callable

    def run(self, name: str, service: DataflowServer, *more: str):
        return self.citymask(*COMMANDS[name], *OPTIONS, f"--dataflow_endpoint={service.url}", *more)


@pytest.fixture(scope="module")
def cloud(citymask, cloud_storage_at, make_photo, tiny_model, tmp_path_factory) -> Iterator[Cloud]:
    """A bucket with the results of a run over two photos, and labels equal to its masks."""
    folder = tmp_path_factory.mktemp("cloud")
    with storage_emulator(BUCKET) as host, cloud_storage_at(host):
        for seed, name in enumerate("ab"):
            photo = make_photo(folder / f"{name}.jpg", seed=seed)
            storage.write(f"gs://{BUCKET}", f"in/{name}.jpg", photo.read_bytes())
        done = citymask("run", f"gs://{BUCKET}/in", "-o", OUT, "--model", tiny_model)
        assert done.exit_code == 0, done.output
        for name in "ab":
            mask = storage.read(f"{OUT}/masks/{name}.jpg.png")
            storage.write(DATA, f"valannot/{name}.png", mask)
        classes = "name,red,green,blue\nSky,0,0,255\nTree top,0,128,0\nRoad,9,9,9\n"
        storage.write(DATA, "classes.csv", classes.encode())
        yield Cloud(citymask)


EXPECTED = {
    "verify": "2 masks and 2 rows are whole",
    "report": f"{OUT}/report/index.html",
    "export": f"{OUT}/exports/bigquery: 2 photos",
    "evaluate": "mIoU 1.0000",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_does_its_work_as_a_job_with_the_defaults_of_a_run(cloud, name):
    with DataflowServer(work) as service:
        result = cloud.run(name, service)
    assert result.exit_code == 0, result.output
    assert EXPECTED[name] in result.stdout
    job = service.job
    assert (
        f"Dataflow job {job.id} (https://console.cloud.google.com/dataflow/jobs/" in result.stderr
    )
    (pool,) = job.description["environment"]["workerPools"]
    assert (pool["machineType"], pool["diskSizeGb"]) == ("n1-standard-8", 50)
    assert "no_use_multiple_sdk_containers" in job.description["environment"]["experiments"]
    if name != "evaluate":
        assert job.name == job_name(OUT), "one job at a time works on an output folder"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_job_that_fails_is_one_line_with_its_reason(cloud, name):
    with DataflowServer(
        failed("Traceback (most recent call last):\n...\nValueError: no")
    ) as service:
        result = cloud.run(name, service)
    assert result.exit_code == 1
    *_, error = result.stderr.splitlines()
    assert error.startswith(f"Error: Dataflow job {service.job.id} (")
    assert error.endswith("ended as FAILED: ValueError: no")


@pytest.mark.parametrize("name", ["verify", "report", "export"])
def test_another_job_on_the_output_folder_is_named(cloud, name):
    with DataflowServer(runs) as service:
        service.create("p-1", "europe-west4", {"name": job_name(OUT)})
        result = cloud.run(name, service)
    assert (result.exit_code, len(result.stderr.splitlines())) == (4, 1)
    assert f"is active as {job_name(OUT)}" in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_what_the_service_needs_is_asked_for(citymask, cloud, name):
    result = citymask(*COMMANDS[name], "--runner=DataflowRunner", "--project=p-1")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "DataflowRunner: --region and --temp_location missing" in result.stderr


@pytest.mark.parametrize("name", ["verify", "evaluate"])
def test_folders_of_this_machine_are_refused(cloud, name, citymask, tmp_path):
    (tmp_path / "masks").mkdir()
    line = [word.replace(OUT, str(tmp_path)) for word in COMMANDS[name]]
    result = citymask(*line, *OPTIONS)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "Dataflow's workers cannot see folders of this machine" in result.stderr
