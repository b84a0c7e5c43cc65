"""Telling somebody about a night: real commands, and a real server on the loopback."""

import json
import socket
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus

import pytest
from werkzeug import Request, Response

from pipeline import console
from pipeline.nights import notifying
from pipeline.nights.config import Notify
from pipeline.nights.notifying import NotifyError, Patience
from tests.http_server import HttpServer, target
from transforms.output.run_records import RunRecord

RECORD = RunRecord(
    run_id="20261123T010000Z-abcdef",
    started_at="2026-11-23T01:00:00+00:00",
    options={"output": "/srv/K\udcf6ln"},
)

KEEP = (
    "import json, os, sys; from pathlib import Path; "
    "seen = {k: v for k, v in os.environ.items() if k.startswith('CITYMASK_')}; "
    "Path(sys.argv[1]).write_text(json.dumps([json.load(sys.stdin), seen, sys.argv[2:]]))"
)


class Hook(HttpServer):
    """A web hook that answers with the statuses it is given, the last one again and again."""

    def __init__(self, statuses: tuple[int, ...], headers: dict[str, str]):
        self.statuses, self.headers = statuses, headers
        self.requests: list[tuple[str, str, str, bytes]] = []

    @property
    def secret_url(self) -> str:
        return f"{self.url}/services/SECRET?token=SECRET"

    def answer(self, request: Request) -> Response:
        kind = request.headers["Content-Type"]
        self.requests.append((request.method, target(request), kind, request.get_data()))
        status = HTTPStatus(self.statuses[min(len(self.requests), len(self.statuses)) - 1])
        return Response(status=f"{status.value} {status.phrase}", headers=self.headers)


@pytest.fixture
def serve(monkeypatch):
    """A function that starts web hooks."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ExitStack() as hooks:
        yield lambda *statuses, **headers: hooks.enter_context(Hook(statuses, headers))


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def notify(settings: Notify, record: RunRecord, exit_code: int, **patience: float) -> None:
    """Notify without a pause between tries."""
    notifying.notify(settings, record, exit_code, Patience(**{"backoff": 0.0, **patience}))


def program(code: str, *arguments: object) -> Notify:
    """Settings with a Python program as their command."""
    return Notify(command=(sys.executable, "-c", code, *map(str, arguments)))


def failure(settings: Notify, **patience: float) -> str:
    with pytest.raises(NotifyError) as caught:
        notify(settings, RECORD, 3, **patience)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_command_gets_the_record_and_three_variables(tmp_path, monkeypatch):
    monkeypatch.delenv("CITYMASK_CACHE")  # Set for all tests.
    record = RECORD.model_copy(update={"options": {"output": "/srv/out"}})
    settings = program(KEEP, tmp_path / "kept.json", "$HOME; `id` *")
    notify(settings, record, 3)
    sent, variables, arguments = json.loads((tmp_path / "kept.json").read_text())
    assert sent == {**record.to_document(), "exit_code": 3}
    assert variables == {
        "CITYMASK_RUN_ID": record.run_id,
        "CITYMASK_OUTPUT": "/srv/out",
        "CITYMASK_EXIT_CODE": "3",
    }
    assert arguments == ["$HOME; `id` *"]


def test_a_record_with_names_that_are_no_text_is_sent_all_the_same(tmp_path):
    notify(program(KEEP, tmp_path / "kept.json"), RECORD, 0)
    sent, _, _ = json.loads((tmp_path / "kept.json").read_text())
    assert sent["options"] == RECORD.options


def test_a_command_need_not_read_the_record():
    notify(program("pass"), RECORD.model_copy(update={"fingerprint": "x" * 10_000_000}), 0)


def test_what_a_command_prints_is_seen(capfd):
    notify(program("print('told them')"), RECORD, 0)
    assert capfd.readouterr().out == "told them\n"


def test_a_command_that_fails_is_said_with_its_last_line():
    code = "import sys; print('first\\n\\nno such\\rrecipient\\n', file=sys.stderr); sys.exit(7)"
    assert failure(program(code)) == (
        f"notify.command: {sys.executable}: ended with exit code 7: recipient"
    )


def test_a_command_that_fails_without_a_word_is_said():
    expected = f"notify.command: {sys.executable}: ended with exit code 1: it said nothing"
    assert failure(program("raise SystemExit(1)")) == expected


def test_a_command_that_is_killed_is_said_with_the_signal():
    assert "ended with SIGKILL" in failure(program("import os; os.kill(os.getpid(), 9)"))


def test_a_command_that_is_not_there_or_no_program_is_said(tmp_path):
    assert failure(Notify(command=(f"{tmp_path}/no", "x"))) == (
        f"notify.command: {tmp_path}/no: cannot be started: No such file or directory"
    )
    assert failure(Notify(command=(str(tmp_path),))).endswith("Permission denied")


def test_a_command_that_does_not_end_is_killed():
    message = failure(program("import time; time.sleep(60)"), command=0.2)
    assert message == f"notify.command: {sys.executable}: killed after 0.2 s without an end"


def test_a_web_hook_gets_the_record_as_json(serve):
    hook = serve(204)
    notify(Notify(webhook=hook.secret_url), RECORD, 0)
    ((method, path, kind, body),) = hook.requests
    assert (method, path, kind) == (
        "POST", "/services/SECRET?token=SECRET", "application/json"
    )  # fmt: skip
    assert json.loads(body) == {**RECORD.to_document(), "exit_code": 0}


@pytest.mark.parametrize("status", [503, 429, 500, 502, 504])
def test_a_web_hook_that_is_busy_is_asked_again(serve, status):
    hook = serve(status, 200)
    notify(Notify(webhook=hook.secret_url), RECORD, 0)
    assert len(hook.requests) == 2
    assert hook.requests[0] == hook.requests[1]


def test_a_web_hook_cannot_make_the_night_wait(serve):
    hook = serve(503, 200, **{"Retry-After": "86400"})
    notify(Notify(webhook=hook.secret_url), RECORD, 0)
    assert len(hook.requests) == 2


def test_a_web_hook_that_stays_busy_is_given_up_without_saying_its_secret(serve):
    hook = serve(503)
    message = failure(Notify(webhook=hook.secret_url))
    assert message == f"notify.webhook: {hook.url}: answered 503 Service Unavailable"
    assert len(hook.requests) == notifying.WEBHOOK_TRIES


@pytest.mark.parametrize(("status", "said"), [(404, "404 Not Found"), (302, "302 Found")])
def test_an_answer_that_is_not_2xx_is_said_at_once(serve, status, said):
    hook = serve(status, 200, Location="/elsewhere")
    assert (
        failure(Notify(webhook=hook.secret_url)) == f"notify.webhook: {hook.url}: answered {said}"
    )
    assert len(hook.requests) == 1


def test_a_web_hook_that_refuses_the_connection_is_said(serve, free_port):
    message = failure(Notify(webhook=f"http://me:SECRET@127.0.0.1:{free_port}/SECRET"))
    assert message == (
        f"notify.webhook: http://127.0.0.1:{free_port}: cannot be reached: Connection refused"
    )


def test_a_web_hook_that_does_not_answer_is_given_up(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        message = failure(Notify(webhook=url), webhook=0.1)
    assert message == f"notify.webhook: {url}: cannot be reached: timed out"


DRIPS = {
    "a head that never ends": (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
    "a status that never ends": (b"", b"H"),
    "answers that are not final": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@contextmanager
def dripping(first: bytes, then: bytes):
    """The address of a server that sends bytes again and again, and never the end."""

    def answer(connection):
        with suppress(OSError), connection:
            connection.sendall(first)
            while not closed.wait(0.03):
                connection.sendall(then)

    def serve():
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

    closed = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        closed.set()


@pytest.mark.parametrize("drip", DRIPS)
def test_a_web_hook_that_drips_does_not_hold_the_night(monkeypatch, drip):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with dripping(*DRIPS[drip]) as url:
        started = time.monotonic()
        message = failure(Notify(webhook=f"{url}/SECRET"), whole=0.4, webhook=0.2)
        assert time.monotonic() - started < 2
    assert message == f"notify.webhook: {url}: given up after 0.4 s"


def test_an_answer_whose_body_never_ends_is_an_answer(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with dripping(b"HTTP/1.1 200 OK\r\n\r\n", b"x") as url:
        notify(Notify(webhook=url), RECORD, 0, whole=5)


def test_a_night_waits_half_a_minute_at_most():
    assert Patience().whole == 30


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://.example/SECRET", "InvalidURL"),
        ("http://me:SECRET@127.0.0.1:{port}/SECRET?SECRET#SECRET", "Connection refused"),
    ],
)
def test_what_cannot_be_reached_is_said_without_the_secret(
    free_port, capsys, logging_kept, url, said
):
    console.set_up_logging(console.VERBOSE)
    message = failure(Notify(webhook=url.format(port=free_port)))
    assert "SECRET" not in message + capsys.readouterr().err
    assert message.startswith("notify.webhook: http://") and message.endswith(said)


def test_everybody_is_told_though_the_first_could_not_be(serve, tmp_path):
    hook = serve(200)
    settings = Notify(command=(f"{tmp_path}/no",), webhook=hook.secret_url)
    assert "notify.command" in failure(settings)
    assert len(hook.requests) == 1


def test_all_who_could_not_be_told_are_in_one_line(serve, tmp_path):
    hook = serve(400)
    message = failure(Notify(command=(f"{tmp_path}/no",), webhook=hook.secret_url))
    assert "notify.command" in message and "; notify.webhook" in message


@pytest.mark.parametrize(
    ("on", "exit_code", "told"), [("alarm", 0, 0), ("alarm", 3, 1), ("always", 0, 1)]
)
def test_alarms_only_are_told_if_so_wanted(serve, on, exit_code, told):
    hook = serve(200)
    notify(Notify(webhook=hook.secret_url, on=on), RECORD, exit_code)
    assert len(hook.requests) == told


def test_nobody_is_told_where_nobody_is_named():
    notify(Notify(), RECORD, 3)
