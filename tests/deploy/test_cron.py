"""The crontab: read by a crontab library, and its command run by a shell as cron does."""

import re
import subprocess
from pathlib import Path

import pytest
from crontab import CronTab

FILE = Path(__file__).parents[2] / "deploy" / "cron" / "citymask"


@pytest.fixture
def table():
    return CronTab(tabfile=str(FILE), user=False)


@pytest.fixture
def job(table):
    (job,) = list(table)
    return job


def test_one_line_starts_a_night_as_the_user_citymask(job):
    assert job.is_valid() and job.is_enabled()
    assert str(job.slices) == "30 1 * * *"
    assert job.frequency_per_day() == 1
    assert job.user == "citymask"
    assert job.command.startswith("citymask nightly /etc/citymask/nightly.yaml ")


def test_what_cron_needs_and_does_not_say_is_in_the_file(table):
    assert table.env["PATH"].split(":")[0] == "/opt/citymask/bin"
    assert table.env["SHELL"] == "/bin/sh"
    assert table.env["MAILTO"]
    assert table.env["NUMBA_CACHE_DIR"].startswith("/var/cache/citymask")


def test_cron_would_read_the_file_at_all():
    """cron passes over names with a dot and a last line without an end; % ends a command."""
    text = FILE.read_text(encoding="ascii")
    assert re.fullmatch(r"[A-Za-z0-9_-]+", FILE.name)
    assert text.endswith("\n") and "\r" not in text
    assert "%" not in text


def mail(job, tmp_path, code: int) -> tuple[str, str]:
    """What cron would mail after a night that ends with `code`, and the log."""
    log = tmp_path / "nightly.log"
    fake = tmp_path / "citymask"
    fake.write_text(f'#!/bin/sh\necho "called with $@"\necho complaint >&2\nexit {code}\n')
    fake.chmod(0o755)
    command = job.command.replace("/var/log/citymask/nightly.log", str(log))
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr, log.read_text()


def test_a_night_that_is_done_mails_nothing(job, tmp_path):
    mailed, log = mail(job, tmp_path, 0)
    assert mailed == ""
    assert log == "called with nightly /etc/citymask/nightly.yaml\ncomplaint\n"


@pytest.mark.parametrize("code", [1, 2, 3, 4, 130, 143])
def test_any_other_night_mails_its_exit_code_and_the_end_of_the_log(job, tmp_path, code):
    mailed, log = mail(job, tmp_path, code)
    assert mailed == f"citymask nightly: exit code {code}\n{log}"
    assert "complaint" in mailed
