"""The table of published networks."""

import shlex

import click
import pytest

from models.classes import CLASS_SETS, ClassTable
from models.known import known_models
from pipeline.cli import cli

KNOWN = known_models()
IMPORT = cli.get_command(click.Context(cli), "import")


def test_names_are_given_once():
    assert len({each.name for each in KNOWN}) == len(KNOWN) > 10


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_an_entry_is_whole(known):
    assert all((known.source, known.file, known.licence, known.data, known.reference))
    assert known.miou is None or 0.3 < known.miou < 0.9
    assert len(ClassTable.load(known.classes)) > 1


def test_every_class_set_but_camvids_and_the_newest_has_a_network():
    sets = {file.stem for file in CLASS_SETS.glob("*.csv")}
    assert sets - {each.classes for each in KNOWN} == {"camvid", "mapillary-vistas-2"}


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_its_command_names_its_classes(known):
    program, command, *arguments = shlex.split(known.command)
    assert (program, command) == ("citymask", "import")
    assert arguments[arguments.index("--classes") + 1] == known.classes


@pytest.mark.skipif(IMPORT is None, reason="there is no command import")
@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_its_command_is_one_that_the_program_understands(known):
    arguments = shlex.split(known.command)[2:]
    context = IMPORT.make_context("import", arguments)
    assert context.params["output"]
