"""The page on Dataflow: its commands are run by a shell, with stand-ins for what needs a cloud."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from pipeline.commands.run import run
from pipeline.runners import dataflow_options

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "dataflow.md").read_text("utf-8")
PARAMETERS = {
    parameter["name"]: parameter
    for parameter in json.loads((ROOT / "deploy/dataflow/metadata.json").read_text())["parameters"]
}

STAND_IN = f"""#!{sys.executable}
import json, os, pathlib, shutil, sys
name = pathlib.Path(sys.argv[0]).name
with open(os.environ["CALLS"], "a") as calls:
    print(json.dumps([name, *sys.argv[1:]]), file=calls)
if name == "python3.11":
    programs = pathlib.Path(sys.argv[-1], "bin")
    programs.mkdir(parents=True)
    for program in ("pip", "citymask"):
        shutil.copy(sys.argv[0], programs / program)
"""


@pytest.fixture(scope="module")
def calls(tmp_path_factory) -> list[list[str]]:
    """What is called when all commands of the page are typed, one after the other."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "bin").mkdir()
    for name in ("gcloud", "docker", "python3.11"):
        path = folder / "bin" / name
        path.write_text(STAND_IN)
        path.chmod(0o755)
    (folder / "deploy").symlink_to(ROOT / "deploy")
    blocks = re.findall(r"^ *```\n(.*?)^ *```$", PAGE, re.MULTILINE | re.DOTALL)
    subprocess.run(
        ["/bin/sh", "-eu", "-c", "\n".join(map(textwrap.dedent, blocks))],
        cwd=folder,
        env={"PATH": f"{folder}/bin:/usr/bin:/bin", "CALLS": str(folder / "calls")},
        check=True,
    )
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


def starting_with(calls: list[list[str]], *words: str) -> list[dict[str, str]]:
    """The flags of all calls that begin with these words; several of a name are the last one."""
    return [
        dict(word.removeprefix("--").split("=", 1) for word in call if re.match(r"--[^=]+=", word))
        for call in calls
        if call[: len(words)] == [*words]
    ]


@pytest.fixture(scope="module")
def built(calls) -> set[str]:
    """The images that are built on the way."""
    (submitted,) = starting_with(calls, "gcloud", "builds", "submit")
    images = yaml.safe_load((ROOT / submitted["config"]).read_text())["images"]
    given = dict(pair.split("=") for pair in submitted["substitutions"].split(","))
    return {re.sub(r"\$(_[A-Z]+)", lambda name: given[name[1]], image) for image in images}


def test_every_command_is_reached(calls):
    assert {call[0] for call in calls} == {"gcloud", "docker", "python3.11", "pip", "citymask"}
    assert len(calls) > 20


def test_images_made_by_hand_have_the_names_of_those_made_by_cloud_build(calls, built):
    tags = [call[call.index("--tag") + 1] for call in calls if call[:2] == ["docker", "build"]]
    pushed = [call[2] for call in calls if call[:2] == ["docker", "push"]]
    assert set(tags) == set(pushed) == built
    for call in calls:
        if call[:2] == ["docker", "build"]:
            assert (ROOT / call[call.index("--file") + 1]).is_file()


def test_runs_are_lines_that_citymask_takes(calls, built):
    lines = [call[1:] for call in calls if call[0] == "citymask"]
    assert len(lines) == 2
    for command, *words in lines:
        context = run.make_context(command, words)
        request = {key: context.params[key] for key in ("inputs", "output", "gpu")}
        given = context.obj
        assert dataflow_options.is_chosen(given)
        assert all(given[name] for name in dataflow_options.REQUIRED)
        assert all(path.startswith("gs://") for path in (*request["inputs"], request["output"]))
        assert given["sdk_container_image"] in built
        assert ("-gpu:" in given["sdk_container_image"]) is bool(request["gpu"])


def test_the_template_is_built_and_started_as_its_metadata_says(calls, built):
    (template,) = starting_with(calls, "gcloud", "dataflow", "flex-template", "build")
    (started,) = starting_with(calls, "gcloud", "dataflow", "flex-template", "run")
    assert (ROOT / template["metadata-file"]).is_file()
    assert template["image"] in built
    _, separator, values = started["parameters"].split("^", 2)
    parameters = dict(pair.split("=", 1) for pair in values.split(separator))
    required = {name for name, found in PARAMETERS.items() if not found.get("isOptional")}
    assert required <= parameters.keys() <= PARAMETERS.keys()
    assert parameters["sdk_container_image"] in built
    for name, value in parameters.items():
        assert all(re.fullmatch(regex, value) for regex in PARAMETERS[name].get("regexes", []))


def test_the_nightly_launch_is_of_that_template_and_as_accounts_that_exist(calls, built):
    (template,) = [c for c in calls if c[1:4] == ["dataflow", "flex-template", "build"]]
    created = [c[4] for c in calls if c[1:4] == ["iam", "service-accounts", "create"]]
    nights = starting_with(calls, "gcloud", "scheduler", "jobs", "create", "http")
    assert len(nights) == 2, "without and with a GPU"
    for night in nights:
        launch = json.loads(night["message-body"])["launchParameter"]
        assert launch["containerSpecGcsPath"] == template[4]
        assert launch["parameters"]["sdk_container_image"] in built
        assert launch["parameters"].keys() <= PARAMETERS.keys()
        accounts = (
            night["oauth-service-account-email"],
            launch["environment"]["serviceAccountEmail"],
        )
        assert sorted(email.split("@")[0] for email in accounts) == sorted(name for name in created)


def test_every_account_of_the_page_is_given_the_roles_of_its_table(calls):
    granted = {
        (flags["member"], flags["role"])
        for flags in starting_with(calls, "gcloud")
        if "role" in flags
    }
    for account in ("citymask-worker", "citymask-scheduler"):
        rows = (
            PAGE[PAGE.index(f"| `{account}` |") :].split("\n| `citymask-s")[0].split("\n| you")[0]
        )
        wanted = set(re.findall(r"`(roles/[a-zA-Z.]+)`", rows))
        assert {role for member, role in granted if account in member} == wanted, account


def test_figures_and_defaults_are_those_of_readme_and_program():
    (speed,) = re.findall(r"\| `citymask run` \| ([0-9.]+) \|", (ROOT / "README.md").read_text())
    per_hour = f"{3600 * float(speed):,.0f}".replace(",", " ")
    assert f"3600 x {speed} = {per_hour} images per hour" in PAGE
    workers = 1_000_000 / (3600 * float(speed) * 6)
    assert f"1 000 000 / ({per_hour} x 6) = {workers:.1f}" in PAGE
    for row in (
        f"| machine | `{dataflow_options.MACHINE_TYPE}` |",
        f"| work units at a time in a process | {dataflow_options.THREADS}:",
        f"| disk | {dataflow_options.DISK_SIZE_GB} GB | {dataflow_options.DISK_SIZE_GB} GB |",
    ):
        assert row in PAGE, row


def test_the_page_links_to_what_is_there():
    for target in re.findall(r"\]\((?!https?:)([^)#]*)#?[^)]*\)", PAGE):
        assert not target or (ROOT / "docs" / target).exists(), target
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in PAGE.splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= headings
