"""`docs/reference/command-line.md` names every command, option and exit status of both programs, and no other."""

import argparse
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli import COMMANDS
from agent.commands import check_config, run
from agent.selftest.cells import Cell
from agent.selftest.verdict import Facts, Verdict
from agent.simulator import Seen
from agent.simulator.script import Scenario, Silence
from collector import cli
from collector.up import session

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command-line.md"


def agent_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="isochrone-agent")
    subparsers = parser.add_subparsers()
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.dest != "help"]  # noqa: SLF001  argparse tells it nowhere else


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers that have no subcommand."""
    below = [
        child for action in actions(parser) if isinstance(action.choices, dict) for child in action.choices.values()
    ]
    if not below:
        yield parser
    for child in below:
        yield from leaves(child)


LEAVES = {one.prog: one for one in (*leaves(agent_parser()), *leaves(cli._parser()))}  # noqa: SLF001  `main` parses and runs in one
SECTIONS = re.split(r"^##+ ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
BY_TITLE = {section.partition("\n")[0]: section for section in SECTIONS}


def first_column(section: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)`", section, flags=re.MULTILINE)


def written(action: argparse.Action) -> str:
    """Return an argument as the page writes it: its name, and what it takes."""
    if not action.option_strings:
        return str(action.metavar or action.dest)
    name = action.option_strings[-1]
    if action.nargs == 0:
        return name
    choices = None if action.choices is None else "{" + ",".join(action.choices) + "}"
    return f"{name} {action.metavar or choices or action.dest.upper()}"


def test_every_command_has_a_section_and_no_section_names_another() -> None:
    titles = [title for title in BY_TITLE if title.startswith(("isochrone-agent ", "isochrone-collector "))]
    assert titles == list(dict.fromkeys(titles))
    assert sorted(titles) == sorted(LEAVES)


@pytest.mark.parametrize("prog", LEAVES)
def test_the_arguments_of_a_command_stand_in_its_section_and_no_other(prog: str) -> None:
    wanted = [written(action) for action in actions(LEAVES[prog])]
    assert sorted(first_column(BY_TITLE[prog])) == sorted(wanted)


@pytest.mark.parametrize("prog", LEAVES)
def test_a_default_that_the_parser_has_stands_in_the_row_of_its_option(prog: str) -> None:
    rows = dict(re.findall(r"^\| `([^`]+)` (\|.*)$", BY_TITLE[prog], flags=re.MULTILINE))
    for action in actions(LEAVES[prog]):
        if isinstance(action.default, str) and action.default != argparse.SUPPRESS and action.nargs != 0:
            assert f"`{action.default}`" in rows[written(action)]


@pytest.mark.parametrize(
    ("program", "codes"),
    [
        (
            "isochrone-agent",
            {0, run.EXIT_FAILED, run.EXIT_USAGE, run.EXIT_LOCKED, check_config.EXIT_WRONG, 128 + signal.SIGINT},
        ),
        (
            "isochrone-collector",
            {
                *(0, cli.EXIT_FAILED, cli.EXIT_USAGE),
                *(session.EXIT_FAILED, session.EXIT_USAGE, session.EXIT_BUSY, session.EXIT_KILLED),
            },
        ),
    ],
)
def test_the_exit_statuses_stand_in_the_reference_and_no_other(program: str, codes: set[int]) -> None:
    assert [int(word) for word in first_column(BY_TITLE[f"Exit status of {program}"])] == sorted(codes)


def test_the_keys_of_a_scenario_stand_in_the_reference_in_their_order() -> None:
    section = BY_TITLE["Scripts of the simulator"]
    assert first_column(section) == list(Scenario.__struct_fields__)
    assert all(f"`{silence.value}`" in section for silence in Silence)


def test_the_fields_of_the_simulators_log_stand_in_the_reference_in_their_order() -> None:
    assert first_column(BY_TITLE["Log of the simulator"]) == list(Seen.__struct_fields__)


def test_the_fields_of_the_self_tests_document_stand_in_the_reference() -> None:
    section = BY_TITLE["Document of the self-test"]
    rows = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(Cell.__struct_fields__)
    assert all(f"`{name}`" in section for name in (*Facts.__struct_fields__, *Verdict.__struct_fields__))
