"""The systemd units, checked by systemd's own tool and against what the program promises."""

import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICE = UNITS / "citymask-nightly.service"
TIMER = UNITS / "citymask-nightly.timer"
ANALYZE = shutil.which("systemd-analyze")

needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


def directives(unit: Path) -> dict[str, dict[str, list[str]]]:
    """Section -> directive -> its values: in units a directive may stand more than once."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in unit.read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), defaultdict(list))
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            section[name].append(value)
    return sections


def installed(root: Path) -> Path:
    """A root folder where the units and the program are in their places."""
    program = root / directives(SERVICE)["Service"]["ExecStart"][0].split()[0].lstrip("/")
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    folder = root / "etc" / "systemd" / "system"
    folder.mkdir(parents=True)
    for unit in (SERVICE, TIMER):
        shutil.copy(unit, folder)
    return folder


def verify(root: Path) -> subprocess.CompletedProcess:
    options = (f"--root={root}", "--man=no", "--recursive-errors=no")
    return subprocess.run(
        [ANALYZE, "verify", *options, SERVICE.name, TIMER.name], capture_output=True, text=True
    )


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    installed(tmp_path)
    done = verify(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
def test_a_misspelt_directive_would_be_found(tmp_path):
    service = installed(tmp_path) / SERVICE.name
    service.write_text(service.read_text().replace("ProtectClock", "ProtectClok"))
    done = verify(tmp_path)
    assert done.returncode != 0
    assert "ProtectClok" in done.stderr


@needs_systemd
def test_systemd_rates_the_service_as_well_locked_up():
    """The threshold is ten times the exposure level: below 4 is systemd's OK."""
    done = subprocess.run(
        [ANALYZE, "security", "--offline=yes", "--no-pager", "--threshold=40", str(SERVICE)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@needs_systemd
def test_the_timer_fires_once_a_night():
    (calendar,) = directives(TIMER)["Timer"]["OnCalendar"]
    done = subprocess.run(
        [ANALYZE, "calendar", "--iterations=3", calendar],
        capture_output=True,
        text=True,
        check=True,
        env={"TZ": "UTC"},
    )
    nights = [line.split()[-2] for line in done.stdout.splitlines() if line.endswith("UTC")]
    assert nights == ["01:30:00"] * 3


def test_a_missed_night_is_made_up_for_and_machines_do_not_begin_at_once():
    timer = directives(TIMER)
    assert timer["Timer"]["Persistent"] == ["true"]
    assert timer["Timer"]["RandomizedDelaySec"] == ["15min"]
    assert timer["Install"]["WantedBy"] == ["timers.target"]


def test_a_stop_lets_the_night_end_in_order_and_is_no_failure():
    service = directives(SERVICE)["Service"]
    assert service["Type"] == ["oneshot"]
    assert service["KillSignal"] == ["SIGTERM"]
    assert service["KillMode"] == ["mixed"]
    assert service["TimeoutStopSec"] == ["10min"]
    assert service["SuccessExitStatus"] == ["130 143 SIGINT SIGTERM"]


def test_no_failure_is_started_again_before_the_next_night():
    assert directives(SERVICE)["Service"]["Restart"] == ["no"]


def test_the_night_runs_as_a_user_that_writes_only_results():
    service = directives(SERVICE)["Service"]
    assert service["User"] == ["citymask"]
    assert service["NoNewPrivileges"] == ["yes"]
    assert service["ProtectSystem"] == ["strict"]
    assert service["ReadWritePaths"] == ["/srv/citymask"]
    assert service["PrivateTmp"] == ["yes"]


def test_compiled_loops_are_kept_in_the_folder_that_systemd_makes():
    service = directives(SERVICE)["Service"]
    cache = f"/var/cache/{service['CacheDirectory'][0]}"
    assert f"NUMBA_CACHE_DIR={cache}/numba" in service["Environment"]
    assert "MemoryDenyWriteExecute" not in service, "loops are compiled at run time"
