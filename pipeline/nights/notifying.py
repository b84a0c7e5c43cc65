"""Notifying: a command or a web hook is told about a night when it has ended."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from pipeline.nights.config import Notify
from transforms.output.run_records import RunRecord

WEBHOOK_TRIES = 4
RETRIED_STATUSES = (429, 500, 502, 503, 504)

RUN_ID_VARIABLE = "CITYMASK_RUN_ID"
OUTPUT_VARIABLE = "CITYMASK_OUTPUT"
EXIT_CODE_VARIABLE = "CITYMASK_EXIT_CODE"
EXIT_CODE = "exit_code"
"""Key of the exit code in what is sent."""

LONGEST_REASON = 100
"""Characters that a message repeats of what a web hook answers."""


@dataclass(frozen=True)
class Patience:
    """Time limits of notifications, in seconds.

    Attributes:
        command: a command that takes longer is killed: it must not hold up the next night.
        webhook: for connecting to a web hook, and again for each part of an answer.
        backoff: the pause before a web hook is tried again; it doubles each time.
        whole: for telling a web hook, all tries together.
    """

    command: float = 300.0
    webhook: float = 10.0
    backoff: float = 1.0
    whole: float = 30.0


class NotifyError(Exception):
    """Somebody could not be told; the message says who and why, in one line."""


def notify(
    settings: Notify, record: RunRecord, exit_code: int, patience: Patience = Patience()
) -> None:
    """Tell whom the configuration names about a night.

    What is sent is the run record as JSON, with `exit_code` in addition. With `on: alarm` nothing
    is sent where the exit code is 0.

    Args:
        settings: the section `notify` of the configuration.
        record: the run record.
        exit_code: what the night ends with.
        patience: time limits.

    Raises:
        NotifyError: somebody could not be told. The others have been.
    """
    if settings.on == "alarm" and exit_code == 0:
        return
    document = json.dumps({**record.to_document(), EXIT_CODE: exit_code}).encode()
    failed = []
    if settings.command:
        variables = {
            RUN_ID_VARIABLE: record.run_id,
            OUTPUT_VARIABLE: record.output,
            EXIT_CODE_VARIABLE: str(exit_code),
        }
        failed += _failure(run_command, settings.command, document, variables, patience)
    if settings.webhook:
        failed += _failure(post, settings.webhook, document, patience)
    if failed:
        raise NotifyError("; ".join(failed))


def run_command(
    command: tuple[str, ...], document: bytes, variables: dict[str, str], patience: Patience
) -> None:
    """Run a command, without a shell, with a document as its standard input.

    Its standard output goes where this process's goes.

    Raises:
        NotifyError: it cannot be started, takes too long or does not end with 0.
    """
    name = f"notify.command: {command[0]}"
    try:
        ended = subprocess.run(
            command,
            input=document,
            stderr=subprocess.PIPE,
            env={**os.environ, **variables},
            timeout=patience.command,
        )
    except subprocess.TimeoutExpired as error:
        raise NotifyError(f"{name}: killed after {patience.command:g} s without an end") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NotifyError(f"{name}: cannot be started: {reason}") from error
    if ended.returncode:
        lines = ended.stderr.decode(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip()] or ["it said nothing"]
        raise NotifyError(f"{name}: ended with {_ending(ended.returncode)}: {said[-1]}")


def post(url: str, document: bytes, patience: Patience) -> None:
    """Post a JSON document; what may pass by itself is tried again, so it may arrive twice.

    Raises:
        NotifyError: no answer in time, or one that is not 2xx. The message names the host only: the
            rest of a web hook's URL is often its password.
    """
    parts = urlsplit(url)
    name = f"notify.webhook: {parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    asked: futures.Future[requests.Response] = futures.Future()
    # In a thread that nobody waits for in the end: one byte now and then keeps a connection alive.
    threading.Thread(target=_ask, args=(asked, url, document, patience), daemon=True).start()
    try:
        answer = asked.result(patience.whole)
    except futures.TimeoutError as error:
        raise NotifyError(f"{name}: given up after {patience.whole:g} s") from error
    except (requests.RequestException, ValueError) as error:
        raise NotifyError(f"{name}: cannot be reached: {_reason(error)}") from None
    if not 200 <= answer.status_code < 300:
        reason = answer.reason[:LONGEST_REASON]
        raise NotifyError(f"{name}: answered {answer.status_code} {reason}".rstrip())


def _ask(
    asked: "futures.Future[requests.Response]", url: str, document: bytes, patience: Patience
) -> None:
    """Post a document, and give the head of the answer, or what was raised, to who waits for it."""
    retries = Retry(
        WEBHOOK_TRIES - 1,
        status_forcelist=RETRIED_STATUSES,
        allowed_methods=None,
        backoff_factor=patience.backoff,
        raise_on_status=False,
        respect_retry_after_header=False,
    )
    try:
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=retries))
            answer = session.post(
                url,
                data=document,
                headers={"Content-Type": "application/json"},
                timeout=patience.webhook,
                allow_redirects=False,
                stream=True,  # The body, which may never end, is not read.
            )
            asked.set_result(answer)
    except BaseException as error:
        asked.set_exception(error)


def _failure(tell: Callable[..., None], *arguments: object) -> list[str]:
    """What went wrong with telling, if anything."""
    try:
        tell(*arguments)
    except NotifyError as error:
        return [str(error)]
    return []


def _ending(code: int) -> str:
    return f"exit code {code}" if code > 0 else signal.Signals(-code).name


def _reason(error: BaseException) -> str:
    """The innermost reason in one line; of errors of libraries, which repeat the URL, the type."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    said = ""
    if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
        said = error.strerror or str(error)
    return " ".join(said.split()) or type(error).__name__
