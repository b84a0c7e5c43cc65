"""Airflow 3: `citymask nightly` every night, on the worker itself or on Dataflow.

How to install it, and which exit code becomes which state: docs/scheduling.md
"""

from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, BaseOperator, Context, CronTriggerTimetable, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

CITYMASK = "citymask"
"""The program: a name on the PATH of Airflow's workers, or its full path there."""

NEVER_RETRIED = {
    2: "the configuration is wrong; the lines above say what to change",
    3: "finished, but a threshold was exceeded; the lines above say which",
}
EXIT_LOCKED = 4


class CitymaskNightly(BaseOperator):
    """One night. What it runs is made of the params of the DAG run.

    The state follows the exit code: 0 is success; 2 and 3 fail at once, as a retry would end the
    same; 4, another run holds the output folder, is skipped; all others are retried.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._hook: SubprocessHook | None = None

    def execute(self, context: Context) -> None:
        self._hook = SubprocessHook()
        try:
            code = self._hook.run_command(command(context["params"], day(context))).exit_code
        except FileNotFoundError as error:
            raise AirflowFailException(f"{CITYMASK} is not on this worker's PATH") from error
        if code == EXIT_LOCKED:
            raise AirflowSkipException("another run holds the output folder")
        if code in NEVER_RETRIED:
            raise AirflowFailException(f"exit code {code}: {NEVER_RETRIED[code]}")
        if code != 0:
            raise AirflowException(f"exit code {code}")

    def on_kill(self) -> None:
        """Ask the program to end in order. It is in a session of its own and outlives this task."""
        if self._hook:
            with suppress(ProcessLookupError):
                self._hook.send_sigterm()


def day(context: Context) -> str | None:
    """The day to do; None for all new photos, which also makes up for nights that were missed.

    Only a backfill takes its logical date: a day's own night begins before the day is over.
    """
    if context["params"]["date"]:
        return context["params"]["date"]
    return context["ds"] if context["dag_run"].run_type == "backfill" else None


def command(params: Any, date: str | None) -> list[str]:
    """The command line of a night."""
    arguments = [CITYMASK, "nightly", params["config"]]
    if date:
        arguments += ["--date", date]
    if params["runner"] == "dataflow":
        arguments += ["--runner", "DataflowRunner"]
        for name in ("project", "region", "temp_location"):
            if not params[name]:
                raise AirflowFailException(f"the runner dataflow needs the param {name}")
            arguments += [f"--{name}", params[name]]
    return arguments + params["beam_options"]


with DAG(
    dag_id="citymask_nightly",
    description="Segments the new photos",
    # Not a bare string: with one, Airflow's settings decide which logical date a night has.
    schedule=CronTriggerTimetable("30 1 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    tags=["citymask"],
    params={
        "config": Param(
            "/etc/citymask/nightly.yaml",
            type="string",
            pattern="^/",
            description="Full path of the configuration on the worker",
        ),
        "date": Param(
            None,
            type=["null", "string"],
            format="date",
            description="Day to do. Empty: all new photos; in a backfill, the logical date",
        ),
        "runner": Param(
            "local",
            enum=["local", "dataflow"],
            description="Where the work is done: on the worker, or on Google Cloud Dataflow",
        ),
        "project": Param(None, type=["null", "string"], description="Dataflow: project"),
        "region": Param(None, type=["null", "string"], description="Dataflow: region"),
        "temp_location": Param(
            None, type=["null", "string"], description="Dataflow: gs:// folder for temporary files"
        ),
        "beam_options": Param(
            [],
            type="array",
            items={"type": "string"},
            description="Further options of Beam, one a line, such as --max_num_workers=10",
        ),
    },
) as dag:
    CitymaskNightly(
        task_id="nightly",
        retries=3,
        retry_delay=timedelta(minutes=10),
        retry_exponential_backoff=2.0,
        max_retry_delay=timedelta(hours=1),
        # max_minutes of the config ends a long night in order. This limit is for one that hangs.
        execution_timeout=timedelta(hours=23),
        # A backfill has a max_active_runs of its own; two nights at once would meet at the lock.
        max_active_tis_per_dag=1,
    )
