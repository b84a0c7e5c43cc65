"""The Airflow DAG, in an environment with Airflow: `make test-airflow` makes one and runs this.

Airflow's own scheduler is not started; `dag.test()` runs a task as a worker would.
"""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="citymask-airflow-")
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(Path(__file__).parents[2] / "deploy" / "airflow")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.models.dagrun import get_or_create_dagrun
from airflow.sdk import CronTriggerTimetable, TaskInstanceState
from airflow.sdk.exceptions import ParamValidationError
from airflow.utils.types import DagRunType

NIGHT = datetime(2026, 11, 20, 1, 30, tzinfo=timezone.utc)
FAKE = """#!/bin/sh
echo "$@" >> {calls}
{body}
"""


@pytest.fixture(scope="session")
def database():
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True)
    yield
    shutil.rmtree(os.environ["AIRFLOW_HOME"])


@pytest.fixture
def shipped(database):
    """The DAG as it is, read anew as for each task."""
    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    assert bag.import_errors == {}
    assert list(bag.dags) == ["citymask_nightly"]
    return bag.dags["citymask_nightly"]


@pytest.fixture
def dag(shipped):
    """The DAG with no waiting between retries."""
    shipped.task_dict["nightly"].retry_delay = timedelta(0)
    shipped.task_dict["nightly"].retry_exponential_backoff = 0
    return shipped


@pytest.fixture
def night(dag, tmp_path, monkeypatch):
    """A function that runs a night with a made `citymask`: its state, and how it was called."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def run(body: str, logical_date=NIGHT, **params):
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        fake = tmp_path / "citymask"
        fake.write_text(FAKE.format(calls=calls, body=body))
        fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
        done = dag.test(logical_date=logical_date, run_conf=params)
        (task,) = done.get_task_instances()
        return task.state, calls.read_text().splitlines() if calls.exists() else []

    return run


def test_no_night_overlaps_another_or_is_made_up_for_unasked(shipped):
    task = shipped.task_dict["nightly"]
    assert (shipped.max_active_runs, shipped.catchup) == (1, False)
    assert task.max_active_tis_per_dag == 1


def test_retries_wait_longer_each_time(shipped):
    task = shipped.task_dict["nightly"]
    assert (task.retries, task.retry_exponential_backoff) == (3, 2)
    assert timedelta(0) < task.retry_delay < task.max_retry_delay


def test_the_logical_date_of_a_night_is_its_own_day(shipped):
    assert isinstance(shipped.timetable, CronTriggerTimetable)


def test_a_night_that_is_done_succeeds(night):
    state, calls = night("exit 0")
    assert state == TaskInstanceState.SUCCESS
    assert calls == ["nightly /etc/citymask/nightly.yaml"]


@pytest.mark.parametrize("code", [2, 3])
def test_what_would_end_the_same_again_fails_without_a_retry(night, code):
    state, calls = night(f"exit {code}")
    assert state == TaskInstanceState.FAILED
    assert len(calls) == 1


def test_a_held_output_folder_skips_the_night(night):
    state, calls = night("exit 4")
    assert state == TaskInstanceState.SKIPPED
    assert len(calls) == 1


@pytest.mark.parametrize("code", [1, 130, 143])
def test_other_ends_are_tried_again(night, code):
    state, calls = night(f"exit {code}")
    assert state == TaskInstanceState.FAILED
    assert len(calls) == 4


def test_a_retry_may_succeed(night):
    state, calls = night('test "$(wc -l < "$(dirname "$0")/calls")" -gt 1')
    assert state == TaskInstanceState.SUCCESS
    assert len(calls) == 2


def test_a_missing_program_fails_without_a_retry(dag, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (task,) = dag.test(logical_date=NIGHT).get_task_instances()
    assert (task.state, task.try_number) == (TaskInstanceState.FAILED, 1)


def test_a_run_without_a_logical_date_does_all_that_is_new(night):
    assert night("exit 0", logical_date=None)[1] == ["nightly /etc/citymask/nightly.yaml"]


def test_a_backfill_does_the_photos_of_its_logical_date(night, monkeypatch):
    def create_backfill(**settings):
        run = get_or_create_dagrun(**settings)
        run.run_type = DagRunType("backfill")
        settings["session"].commit()
        return run

    monkeypatch.setattr("airflow.models.dagrun.get_or_create_dagrun", create_backfill)
    given = "nightly /etc/citymask/nightly.yaml --date"
    assert night("exit 0") == (TaskInstanceState.SUCCESS, [f"{given} 2026-11-20"])
    assert night("exit 0", date="2026-10-01") == (
        TaskInstanceState.SUCCESS,
        [f"{given} 2026-10-01"],
    )


def test_a_date_can_be_asked_for(night):
    assert night("exit 0", date="2026-10-01")[1] == [
        "nightly /etc/citymask/nightly.yaml --date 2026-10-01"
    ]


def test_what_is_no_date_is_refused(night):
    with pytest.raises(ParamValidationError):
        night("exit 0", date="yesterday")


def test_dataflow_gets_its_options_from_the_params(night):
    _, calls = night(
        "exit 0",
        config="/data/other.yaml",
        runner="dataflow",
        project="town",
        region="europe-west3",
        temp_location="gs://town/tmp",
        beam_options=["--max_num_workers=10"],
    )
    assert calls == [
        "nightly /data/other.yaml --runner DataflowRunner --project town "
        "--region europe-west3 --temp_location gs://town/tmp --max_num_workers=10"
    ]


def test_dataflow_without_a_project_fails_before_anything_runs(night):
    assert night("exit 0", runner="dataflow") == (TaskInstanceState.FAILED, [])


def test_a_killed_task_lets_the_program_end_in_order(night, tmp_path):
    """The fake has the task killed as Airflow would, by SIGTERM to the task's process."""
    ended = tmp_path / "ended"
    state, _ = night(
        f"trap 'echo in order > {ended}; exit 0' TERM\n"
        "kill -TERM $PPID\n"
        "for i in $(seq 100); do sleep 0.1; done; exit 1"
    )
    assert ended.read_text() == "in order\n"
    assert state == TaskInstanceState.SUCCESS
