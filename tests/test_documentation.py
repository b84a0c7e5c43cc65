"""Documentation: its links lead to files of the project, its commands are understood."""

import re
import shlex
from pathlib import Path

import click
import pytest

from pipeline.cli import cli

PROJECT = Path(__file__).parents[1]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
COMPLETE = [PROJECT / "docs" / "two_classes.md"]
"""Pages whose commands can be copied as they are."""

BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://)([^)#\s]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_finds_it(page):
    links = LINK.findall(page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", COMPLETE, ids=lambda page: page.name)
def test_every_command_is_one_that_the_program_understands(page):
    blocks = BLOCK.findall(page.read_text())
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    commands = [line for line in lines if line.startswith("citymask ")]
    assert len(commands) >= 5
    for line in commands:
        _, name, *arguments = shlex.split(line, comments=True)
        command = cli.get_command(click.Context(cli), name)
        assert command, line
        command.make_context(name, arguments)
