"""The command line answers before anything heavy is imported."""

import subprocess
import sys

SAY_WHAT_IS_IMPORTED = (
    "import sys\n"
    "from pipeline.cli import cli\n"
    "try:\n"
    "    cli.main(['--version'])\n"
    "except SystemExit:\n"
    "    print(sorted({'apache_beam', 'tensorflow', 'pydantic'} & set(sys.modules)))\n"
)


def test_the_version_needs_neither_beam_nor_a_network():
    said = subprocess.run(
        [sys.executable, "-c", SAY_WHAT_IS_IMPORTED], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said[0].startswith("citymask, version ")
    assert said[1] == "[]"
