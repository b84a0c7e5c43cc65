"""The programs under `examples/` run as their first lines say."""

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_shares_per_group_prints_a_row_per_class_and_country(tmp_path, capfd):
    program = runpy.run_path(str(ROOT / "examples" / "shares_per_group.py"))
    program["main"](str(ROOT / "demo" / "photos"), str(tmp_path / "out"))
    lines = capfd.readouterr().out.splitlines()
    groups = [line.split(",")[0] for line in lines if line.count(",") == 8]
    assert groups == ["group"] + [""] * 11 + ["france"] * 11 + ["germany"] * 11 + ["italy"] * 11
