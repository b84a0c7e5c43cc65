"""Standard streams that are closed, full or a broken pipe: the work is done all the same."""

import subprocess
import sys

import pytest

PROGRAM = f"{sys.executable} -m pipeline"

CLOSED = "<&- >&- 2>&-"
FULL = ">/dev/full 2>/dev/full"
ONLY_TO_READ = ">/dev/null 2</dev/null"
BROKEN = "2>&1 | true"

REASON = "Error: standard output cannot be written: "


def shell(command: str, streams: str, cwd=None) -> tuple[int, str]:
    """The exit code of a command with redirected streams, and what it said to standard error."""
    line = f"{command} {streams}; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", line], cwd=cwd, capture_output=True, text=True)
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("streams", "options"),
    [(CLOSED, ""), (FULL, "--workers 2"), (ONLY_TO_READ, "--verbose"), (BROKEN, "--report")],
)
def test_a_run_does_its_work_whatever_the_streams_are(
    archive, output, tiny_model, streams, options
):
    command = f"{PROGRAM} run {archive} -o {output.path} --model {tiny_model} {options}"
    assert shell(command, streams) == (0, "")
    assert len(output.rows) == len(output.masks) == 4
    assert output.summary["images"]["done"] == 4


def test_a_night_ends_with_its_own_code_without_streams(archive, output, tiny_model, tmp_path):
    (archive / "broken.jpg").write_bytes(b"no photo")
    night = tmp_path / "night.yaml"
    told = tmp_path / "told"
    night.write_text(
        f"inputs: [{archive}]\noutput: {output.path}\nmodel: {tiny_model}\n"
        "thresholds: {max_failures: 0%}\n"
        f"notify: {{command: [bash, -c, 'echo told; cat > {told}']}}\n"
    )
    assert shell(f"{PROGRAM} nightly {night}", CLOSED) == (3, "")
    assert len(output.rows) == 4
    assert '"exit_code": 3' in told.read_text()


@pytest.mark.parametrize(("command", "streams"), [("verify", FULL), ("compact", BROKEN)])
def test_commands_that_write_files_end_as_usual(run, output, command, streams):
    run()
    assert shell(f"{PROGRAM} {command} {output.path}", streams) == (0, "")


@pytest.mark.parametrize("streams", [CLOSED, FULL])
def test_errors_that_nobody_sees_keep_their_code(tmp_path, streams):
    assert shell(f"{PROGRAM} verify {tmp_path / 'none'}", streams)[0] == 2


@pytest.mark.parametrize(
    ("command", "streams", "ending"),
    [
        ("models", ">/dev/full", (1, f"{REASON}No space left on device\n")),
        ("--help", ">/dev/full", (1, f"{REASON}No space left on device\n")),
        ("--version", ">&-", (1, f"{REASON}Bad file descriptor\n")),
        ("--version", "1</dev/null", (1, f"{REASON}Bad file descriptor\n")),
        ("models", CLOSED, (1, "")),
        ("models", ">/dev/null 2>&-", (0, "")),
        ("models", "| true", (0, "")),
        ("--help", "| true", (0, "")),
    ],
)
def test_a_result_that_cannot_be_printed_is_an_error_unless_the_reader_left(
    command, streams, ending
):
    assert shell(f"{PROGRAM} {command}", streams) == ending


def python(code: str, streams: str, cwd) -> tuple[int, str]:
    return shell(f"{sys.executable} -c '{code}'", streams, cwd)


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    code = (
        "from pipeline import streams; streams.secure(); import os, subprocess, sys;"
        'file = open("data", "w"); assert file.fileno() > 2;'
        'os.write(2, b"lost"); print("lost", file=sys.stderr); assert sys.stdin.read() == "";'
        'subprocess.run(["sh", "-c", "echo lost && echo lost >&2"], check=True)'
    )
    assert python(code, CLOSED, tmp_path) == (0, "")
    assert (tmp_path / "data").read_text() == ""


def test_a_pipe_that_does_not_block_gets_everything(tmp_path):
    code = (
        "from pipeline import streams; streams.secure(); import os;"
        "os.set_blocking(1, False); os.set_blocking(2, False); print(300_000 * chr(49))"
    )
    assert python(code, "| (sleep 0.3; wc -c >&2)", tmp_path) == (0, "300001\n")


def test_text_that_the_encoding_lacks_is_escaped(tmp_path):
    code = 'from pipeline import streams; streams.secure(); print("\\u4eac\\udcff ok")'
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONIOENCODING": "latin-1", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
    )
    assert (ended.stdout, ended.stderr) == (b"\\u4eac\\udcff ok\n", b"")
