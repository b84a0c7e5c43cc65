"""The Flex Template: its parameters, its launcher as a process, and what the scheduler sends.

Schemas are those of Google's discovery documents. There is no cloud: storage is an emulator, and a
launched job is described to a file, which is all that a launcher does.
"""

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client
from jsonschema import ValidationError

from pipeline.cli import cli
from pipeline.commands.run import run
from pipeline.graph import build_graph
from pipeline.runners import LocalRunner
from pipeline.runners.dataflow_options import job_name
from pipeline.runners.options import split_arguments
from pipeline.runs.request import RunRequest, prepared
from tests.deploy import discovery
from tests.storage_emulator import storage_emulator

DEPLOY = Path(__file__).parents[2] / "deploy"
LAUNCHER = DEPLOY / "dataflow" / "main.py"
command_line = runpy.run_path(str(LAUNCHER))["command_line"]
SCHEDULE = DEPLOY / "dataflow" / "schedule.sh"
METADATA = json.loads((DEPLOY / "dataflow" / "metadata.json").read_text("utf-8"))
PARAMETERS = {parameter["name"]: parameter for parameter in METADATA["parameters"]}
OPTIONS = {option.opts[0].removeprefix("--").replace("-", "_"): option for option in run.params}

OF_BEAM = {"sdk_container_image"}
"""The parameters that are not citymask's own."""

WITHOUT = {
    "no_wait": "the launcher gives it itself",
    "dry_run": "there would be no job",
    "workers": "they share the cores of one machine",
    "max_minutes": "nobody watches over a job that nobody waits for",
    "max_failures": "the same",
    "report": "the same",
}
"""The options of `citymask run` that a template cannot have, and why."""


def test_the_schema_of_the_service_takes_the_metadata():
    discovery.validate(METADATA, "dataflow.v1b3", "TemplateMetadata")


def test_a_misspelt_or_missing_field_would_be_found():
    for wrong in ({**METADATA, "parametres": []}, {"description": "nameless"}):
        with pytest.raises(ValidationError):
            discovery.validate(wrong, "dataflow.v1b3", "TemplateMetadata")


def test_the_template_has_every_option_of_citymask_run_and_no_other():
    assert PARAMETERS.keys() - OF_BEAM == OPTIONS.keys() - WITHOUT.keys()
    assert len(PARAMETERS) == len(METADATA["parameters"])
    for name in OF_BEAM:
        assert split_arguments([f"--{name}=x"]) == ([], {name: "x"})


def test_what_is_required_and_what_stands_where_nothing_is_given_is_the_same():
    for name in PARAMETERS.keys() - OF_BEAM:
        parameter, option = PARAMETERS[name], OPTIONS[name]
        assert parameter.get("isOptional", False) is not option.required, name
        usual = str(option.default) if isinstance(option.default, str | int) else None
        usual = "false" if parameter["paramType"] == "BOOLEAN" else usual
        assert parameter.get("defaultValue") == usual, name


def test_the_types_are_those_of_the_options():
    for name in PARAMETERS.keys() - OF_BEAM - {"inputs"}:
        parameter, option = PARAMETERS[name], OPTIONS[name]
        assert (parameter["paramType"] == "BOOLEAN") is option.is_flag, name
        assert (parameter["paramType"] == "NUMBER") is isinstance(option.type, click.IntRange), name
        if isinstance(option.type, click.Choice):
            assert [choice["value"] for choice in parameter["enumOptions"]] == [
                *option.type.choices
            ]


VALUES = {
    "inputs": (["gs://a/b", "gs://a/*.jpg;gs://b/c.csv"], ["", "/photos", "gs://a;", "gs://a;b"]),
    "output": (["gs://city/masks"], ["/masks", "gs://"]),
    "max_pixels": (["1", "250000000"], ["0", "-1", "1.5", ""]),
    "date": (["2026-11-01"], ["1.11.2026", "2026-11-01T00"]),
    "by": (["arrival", "capture"], ["both"]),
    "gpu": (["nvidia-tesla-t4", "nvidia-l4:2"], ["L4", "nvidia-l4:", "nvidia-l4:two"]),
    "overlay": (["true", "false"], ["True", "1"]),
    "sdk_container_image": (
        ["r-docker.pkg.dev/p/r/citymask:0.1.0", "r/citymask@sha256:0a"],
        ["citymask", "localhost:5000/citymask"],
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_the_service_refuses_what_could_not_be_meant(name):
    taken, refused = VALUES[name]
    for value in taken + refused:
        matches = all(re.fullmatch(regex, value) for regex in PARAMETERS[name]["regexes"])
        assert matches is (value in taken), value


def test_every_default_is_one_that_the_service_takes():
    for parameter in METADATA["parameters"]:
        for regex in parameter.get("regexes", []):
            assert re.search(regex, parameter.get("defaultValue", "")) or (
                "defaultValue" not in parameter
            )


def launch(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, LAUNCHER, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def masks(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.joinpath("masks").rglob("*.*"))
    }


def test_the_launcher_does_what_a_run_does(tmp_path, tiny_model, make_photo):
    lund, oslo = tmp_path / "lund", tmp_path / "oslo"
    for seed, path in enumerate([lund / "1.jpg", lund / "2.jpg", oslo / "3.jpg"]):
        make_photo(path, seed=seed)
    launched, direct = tmp_path / "launched", tmp_path / "direct"
    done = launch(
        f"--inputs={lund}; {oslo}", f"--output={launched}", f"--model={tiny_model}",
        "--overlay=true", "--confidence=false", "--max_images=3", "--date=", "--unit_size=2",
        "--runner=DirectRunner",
    )  # fmt: skip
    assert (done.returncode, "3 images done" in done.stdout) == (0, True), done.stderr
    request = RunRequest(
        inputs=(str(lund), str(oslo)), output=str(direct), model=str(tiny_model), overlay=True
    )
    with prepared(request, "direct") as (job, _):
        LocalRunner({}).run(lambda pipeline: build_graph(pipeline, job))
    assert masks(launched) == masks(direct)
    assert len(masks(launched)) == 6, "a mask and an overlay of each"
    rows = [
        pq.read_table(folder / "statistics").drop(["run_id", "mask"]).sort_by("image")
        for folder in (launched, direct)
    ]
    assert rows[0].equals(rows[1])
    (record,) = (launched / "runs").iterdir()
    assert json.loads(record.read_text())["options"]["unit_size"] == 2


def test_the_launcher_says_what_is_wrong():
    for arguments, error in {
        ("--overlay=yes",): "Error: overlay: 'yes' is neither true nor false",
        ("--inputs=gs://a/b",): "Error: Missing option '--output'",
    }.items():
        done = launch(*arguments)
        assert (done.returncode, error in done.stderr) == (2, True), done.stderr
        assert "Traceback" not in done.stderr


def test_the_launchers_arguments_are_a_command_line():
    taken = command_line(
        [
            "--inputs=gs://a/b; gs://a/*.csv;",
            "--output=gs://a/x=y",
            "--retry_failed=true",
            "--quiet=false",
            "--max_images=",
            "--from=2026-11-01",
            "--runner=DataflowRunner",
            "--labels=a=b",
        ]
    )
    assert taken == [
        "run", "--no-wait", "gs://a/b", "gs://a/*.csv", "--output", "gs://a/x=y", "--retry-failed",
        "--from", "2026-11-01", "--runner=DataflowRunner", "--labels=a=b",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["max_minutes", "max_failures"])
def test_what_the_template_leaves_out_the_launcher_could_not_do(name):
    line = command_line(["--inputs=gs://a/b", "--output=gs://a/o", f"--{name}=1", *ON_DATAFLOW])
    result = CliRunner().invoke(cli, line)
    assert (result.exit_code, name.replace("_", "-") in result.output) == (2, True), result.output


ON_DATAFLOW = (
    "--runner=DataflowRunner", "--project=p-1", "--region=europe-west4",
    "--job_name=citymask-nightly", "--temp_location=gs://city/temp",
)  # fmt: skip


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    """The address of a storage service with the bucket `city`."""
    with storage_emulator("city") as url:
        yield url


@pytest.mark.parametrize("gpu", [None, "nvidia-l4"])
def test_the_launcher_leaves_a_job_for_dataflow_to_run(gpu, storage, tmp_path, make_photo):
    """What Dataflow's launcher gives, but for folders of this machine; no service is asked."""
    client = Client("p-1", AnonymousCredentials(), client_options={"api_endpoint": storage})
    photo = make_photo(tmp_path / "1.jpg")
    client.bucket("city").blob("photos/1.jpg").upload_from_filename(photo)
    place = tmp_path / "template_launches" / "job_object"
    place.parent.mkdir()
    wanted = ["--gpu=nvidia-l4", "--require_gpu=true"] if gpu else []
    done = launch(
        "--inputs=gs://city/photos", "--output=gs://city/out", "--overlay=true", *wanted,
        *ON_DATAFLOW[:-1], f"--temp_location={place.parent}", f"--template_location={place}",
        "--sdk_container_image=example.pkg.dev/p/citymask:1", "--max_num_workers=7",
        "--service_account_email=citymask-worker@p-1.iam.gserviceaccount.com",
        "--no_auth", "--dataflow_endpoint=http://localhost:1",
        "--experiments=disable_logging_submission_environment",
        STORAGE_EMULATOR_HOST=storage,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    job = json.loads(place.read_text())
    (pool,) = job["environment"]["workerPools"]
    images = {harness["containerImage"] for harness in pool["sdkHarnessContainerImages"]}
    assert job["name"] == "citymask-nightly"
    assert images == {"example.pkg.dev/p/citymask:1"}
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 7
    assert "no_use_multiple_sdk_containers" in job["environment"]["experiments"]
    pipeline_files = [path for path in place.parent.rglob("*") if path.suffix in (".gz", ".whl")]
    assert pipeline_files == [], "the workers' image has all that is needed"


CALL = {
    "PROJECT": "p-1",
    "REGION": "europe-west4",
    "BUCKET": "gs://city",
    "IMAGE": "europe-west4-docker.pkg.dev/p-1/citymask/citymask:0.1.0",
    "INPUTS": "gs://city/photos;gs://city/extra.csv",
    "OUTPUT": "gs://city/masks/",
}


def scheduled(tmp_path: Path, *parameters: str, **environment: str) -> tuple[list[str], dict]:
    """The words of the command that schedule.sh gives to gcloud, and their flags."""
    fake = tmp_path / "gcloud"
    fake.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    fake.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", SCHEDULE, *parameters],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", **CALL, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    words = json.loads(done.stdout)
    flags = dict(word.removeprefix("--").split("=", 1) for word in words if word[0] == "-")
    return [word for word in words if word[0] != "-"], flags


def test_the_scheduler_sends_a_launch_that_the_service_takes(tmp_path):
    words, flags = scheduled(tmp_path, "overlay=true", "gpu=nvidia-l4:2", MAX_WORKERS="30")
    assert words == ["scheduler", "jobs", "create", "http", "citymask-nightly"]
    body = json.loads(flags["message-body"])
    discovery.validate(body, "dataflow.v1b3", "LaunchFlexTemplateRequest")
    sent = body["launchParameter"]
    assert sent["jobName"] == job_name(CALL["OUTPUT"]), "one job at a time for an output folder"
    assert sent["environment"]["maxWorkers"] == 30
    assert sent["parameters"] == {
        "inputs": CALL["INPUTS"],
        "output": CALL["OUTPUT"],
        "sdk_container_image": CALL["IMAGE"],
        "overlay": "true",
        "gpu": "nvidia-l4:2",
    }
    required = {name for name, found in PARAMETERS.items() if not found.get("isOptional")}
    assert required <= sent["parameters"].keys() <= PARAMETERS.keys()
    for name, value in sent["parameters"].items():
        assert all(re.fullmatch(regex, value) for regex in PARAMETERS[name].get("regexes", []))


def test_the_scheduler_takes_the_job(tmp_path):
    """gcloud's flags are put where `gcloud scheduler jobs create http` documents that they go."""
    _, flags = scheduled(tmp_path, TIME_ZONE="Europe/Stockholm")
    key, value = flags["headers"].split("=")
    job = {
        "description": flags["description"],
        "schedule": flags["schedule"],
        "timeZone": flags["time-zone"],
        "httpTarget": {
            "uri": flags["uri"],
            "httpMethod": flags["http-method"].upper(),
            "headers": {key: value},
            "body": flags["message-body"],
            "oauthToken": {
                "serviceAccountEmail": flags["oauth-service-account-email"],
                "scope": flags["oauth-token-scope"],
            },
        },
        "retryConfig": {
            "retryCount": int(flags["max-retry-attempts"]),
            "minBackoffDuration": flags["min-backoff"],
        },
    }
    discovery.validate(job, "cloudscheduler.v1", "Job")
    method = discovery.methods("dataflow.v1b3")["dataflow.projects.locations.flexTemplates.launch"]
    path = method["path"].format(projectId=CALL["PROJECT"], location=CALL["REGION"])
    assert flags["uri"] == f"https://dataflow.googleapis.com/{path}"
    assert job["httpTarget"]["httpMethod"] == method["httpMethod"]
    assert flags["oauth-token-scope"] in method["scopes"]
    assert job["schedule"] == "30 1 * * *"
    assert ZoneInfo(job["timeZone"])


@pytest.mark.parametrize("name", CALL)
def test_the_scheduler_is_not_set_up_by_halves(name, tmp_path):
    given = {key: value for key, value in CALL.items() if key != name}
    done = subprocess.run(
        ["/bin/sh", SCHEDULE],
        env={"PATH": "/usr/bin:/bin", **given},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert name in done.stderr


def test_cloud_build_takes_the_file_that_builds_the_images():
    build = yaml.safe_load((DEPLOY / "docker" / "cloudbuild.yaml").read_text())
    discovery.validate(build, "cloudbuild.v1", "Build")
    for step in build["steps"]:
        file = step["args"][step["args"].index("--file") + 1]
        tag = step["args"][step["args"].index("--tag") + 1]
        assert (DEPLOY.parent / file).is_file()
        assert tag in build["images"]
