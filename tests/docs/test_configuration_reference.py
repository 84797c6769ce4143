"""`docs/reference/configuration.md` names every setting and every key of the target file, and no other."""

import re
import typing
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import msgspec
import pytest

from agent.config import ENVIRONMENT_PREFIX, FILE_SETTINGS, SETTINGS
from agent.config import Settings as AgentSettings
from agent.config import load_settings as load_agent_settings
from collector.config import Settings as CollectorSettings
from collector.config import load_settings as load_collector_settings
from collector.receivers import Receivers, load_receivers
from isochrone.config import (
    ApiKey,
    Budget,
    Duration,
    Endpoint,
    InferenceOptions,
    Location,
    Module,
    Region,
    RttOptions,
    Selector,
    Site,
    Targets,
    TokenPrice,
)
from isochrone.configcheck.rules import MAX_INTERVAL_SECONDS, MIN_TIMEOUT_SECONDS
from isochrone.durations import format_duration
from isochrone.outcome import Connection, Prober, RttMethod

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"
STRUCTS: tuple[type[msgspec.Struct], ...] = (
    *(Targets, Module, RttOptions, InferenceOptions, Endpoint, Site),
    *(ApiKey, Location, TokenPrice, Budget, Selector, Region),
)
FIELDS = [(kind, field) for kind in STRUCTS for field in msgspec.structs.fields(kind)]
NEEDED = {"ISOCHRONE_COLLECTOR_URL": "http://127.0.0.1:1", "ISOCHRONE_CREDENTIAL_FILE": "credential"}
DATABASE = {"ISOCHRONE_DATABASE_URL": "postgresql://user@host/name"}


def rows(heading: str) -> dict[str, list[str]]:
    """Return the cells of the table under `heading`, by the word in code that stands first."""
    section = re.split(rf"^##+ {heading}\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1]
    section = re.split(r"^##", section, maxsplit=1, flags=re.MULTILINE)[0]
    found = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in re.findall(r"^\| `.*\|$", section, flags=re.MULTILINE)
    ]
    return {cells[0].strip("`"): cells[1:] for cells in found}


AGENT, COLLECTOR, EXPORTS = rows("Agent"), rows("Collector"), rows("Collector: exports")


class Asked(dict[str, str]):
    """An environment that notes what it is asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def get(self, name: str, default: typing.Any = None) -> typing.Any:  # noqa: ANN401  as dict has it
        self.names.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return super().__getitem__(name)


def test_the_agents_settings_stand_in_the_reference_in_their_order() -> None:
    assert list(AGENT) == [ENVIRONMENT_PREFIX + key.upper() for key in SETTINGS]
    assert [cells[0] for cells in AGENT.values()] == [f"`{key}`" for key in SETTINGS]


def test_what_stands_in_the_agents_file_alone_has_a_section() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"^### Agent: the table `\[(\w+)\]`$", text, flags=re.MULTILINE)) == set(FILE_SETTINGS)


@pytest.mark.parametrize(
    "field",
    [field for field in msgspec.structs.fields(AgentSettings) if field.name not in FILE_SETTINGS],
    ids=lambda field: field.name,
)
def test_an_agents_setting_has_the_default_that_the_reference_says(field: msgspec.structs.FieldInfo) -> None:
    said = AGENT[ENVIRONMENT_PREFIX + field.name.upper()][-1]
    if field.name == "state_dir":
        assert "`~/.local/state/isochrone`" in said
    elif field.required or field.default in (None, ()):
        assert said == {None: "none", (): "empty"}.get(field.default, "required")
    else:
        given = NEEDED | {ENVIRONMENT_PREFIX + field.name.upper(): said.strip("`")}
        assert getattr(load_agent_settings(given, file=None, flags={}), field.name) == field.default


def test_the_collector_reads_the_settings_of_the_reference_and_no_other() -> None:
    environment = Asked(DATABASE)
    load_collector_settings(environment)
    assert environment.names == set(COLLECTOR) | set(EXPORTS)


@pytest.mark.parametrize("name", COLLECTOR)
def test_a_collectors_setting_has_the_default_that_the_reference_says(name: str) -> None:
    field = {one.name: one for one in msgspec.structs.fields(CollectorSettings)}.get(
        name.removeprefix(ENVIRONMENT_PREFIX).lower()
    )
    said = COLLECTOR[name][-1]
    if field is None or field.default is None:  # kept as a digest, or nothing is bounded
        assert said.startswith("none")
    elif field.required:
        assert said == "required"
    else:
        given = DATABASE | {name: said.strip("`")}
        assert getattr(load_collector_settings(given), field.name) == field.default


def test_the_settings_of_exports_have_the_defaults_that_the_reference_says() -> None:
    write = {"ISOCHRONE_REMOTE_WRITE_URL": "http://h/p"}
    said = {name: cells[-1].strip("`") for name, cells in EXPORTS.items() if cells[-1] != "none"}
    assert len(said) == 3
    assert load_receivers(write) == load_receivers(write | said)
    assert load_receivers({}) == Receivers()


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
def test_the_keys_of_the_target_file_stand_in_the_reference_in_their_order(kind: type[msgspec.Struct]) -> None:
    assert list(rows(kind.__name__)) == [field.name for field in msgspec.structs.fields(kind)]


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_a_key_has_the_default_that_the_reference_says(
    kind: type[msgspec.Struct], field: msgspec.structs.FieldInfo
) -> None:
    said = rows(kind.__name__)[field.name][-1].strip("`")
    assert said in {"required" if field.required else shown(field.default)} | (
        {"theirs"} if kind is Module and field.name in {"rtt", "inference"} else set()
    )


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_the_bounds_of_a_key_stand_in_its_row(kind: type[msgspec.Struct], field: msgspec.structs.FieldInfo) -> None:
    said = rows(kind.__name__)[field.name][0].replace(",", "")
    numbers = set(re.findall(r"-?\d+", said))
    assert {str(int(bound)) for bound in bounds(field.type)} <= numbers


def test_the_bounds_across_keys_stand_in_the_reference() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"at most {format_duration(MAX_INTERVAL_SECONDS)}" in text
    assert f"at least {format_duration(MIN_TIMEOUT_SECONDS)}" in text


@pytest.mark.parametrize(
    ("heading", "key", "words"),
    [("Module", "prober", Prober), ("RttOptions", "method", RttMethod), ("InferenceOptions", "connection", Connection)],
)
def test_the_words_of_a_choice_stand_in_its_row_and_no_other(heading: str, key: str, words: type[StrEnum]) -> None:
    assert re.findall(r"`(\w+)`", rows(heading)[key][0]) == [word.value for word in words]


def shown(default: object) -> str:
    """Return a default as the page writes it."""
    if isinstance(default, Duration):
        return format_duration(default)
    if isinstance(default, bool):
        return str(default).lower()
    if default in (None, ()):
        return "none"
    return "all agents" if default == Selector() else str(default)


def bounds(kind: object) -> Iterator[float]:
    """Yield the smallest and largest value and length that a type allows, those of its parts too."""
    for part in typing.get_args(kind):
        if isinstance(part, msgspec.Meta):
            found = (part.ge, part.gt, part.le, part.max_length)
            yield from (bound for bound in found if bound is not None)
        elif typing.get_origin(kind) is not tuple:
            yield from bounds(part)
