"""`docs/reference/measurement.md` names every mark, value, outcome and flag of the contract, and no other."""

import re
from pathlib import Path

import pytest

from agent.floor import JSON_FIELDS, Source
from agent.host import LOOP_LAG_SECONDS, TICK_SECONDS
from agent.probes.pool import MIN_TTL_SECONDS, UNKNOWN_TTL_SECONDS
from agent.probes.rtt.handshakes import TLS_SECONDS
from agent.probes.rtt.series import SAMPLE_SECONDS
from agent.schedule import LATE_START_SECONDS
from agent.timeline import (
    BUFFERED_GAP_NS,
    BUFFERED_MIN_READS,
    BUFFERED_MIN_TOKENS,
    BUFFERED_SHARE,
    MIN_ARRIVALS,
    MIN_SPAN_NS,
)
from isochrone.catalogue import Kind, regions
from isochrone.marks import MARKS, Components
from isochrone.outcome import ClockSource, Flag, Outcome, RttSource, TokenSource
from isochrone.result import Pings, Result, ServerTiming, Tokens

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "measurement.md"


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the tables under `heading` whose first cell is in code, in order."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]


def table(heading: str) -> list[str]:
    """Return the words in code of the first column under `heading`, in order."""
    return [word for row in rows(heading) for word in re.findall(r"`([^`]+)`", row[0])]


def test_the_marks_stand_in_the_reference_in_their_order() -> None:
    assert table("Marks") == list(MARKS)


def test_the_outcomes_stand_in_the_reference_and_no_other() -> None:
    assert table("Outcomes") == [outcome.value for outcome in Outcome]


def test_the_flags_stand_in_the_reference_and_no_other() -> None:
    assert table("Flags") == [flag.value for flag in Flag]


def measured() -> list[str]:
    """Return the names of all values of a result that are measured or counted, parts of it by their path."""
    told = {"seq", "endpoint", "module", "prober", "started_at", "started_boottime_seconds", "config_revision"}
    told |= {"outcome", "reason", "http_status", "address", "ip_version", "connection", "clock_source", "rtt_source"}
    told |= {"marks", "flags", "served_region"}  # in sections of their own
    parts = {"components": Components, "pings": Pings, "tokens": Tokens, "server_timing": ServerTiming}
    names = []
    for name in Result.__struct_fields__:
        if name in parts:
            names += [f"{name}.{field}" for field in parts[name].__struct_fields__]
        elif name not in told:
            names.append(name)
    return names


def test_every_value_of_a_result_is_defined_in_the_reference_and_no_other() -> None:
    assert sorted(table("Values")) == sorted([*measured(), *(source.value for source in RttSource)])


@pytest.mark.parametrize("heading", ["Marks", "Values", "Flags"])
def test_every_mark_value_and_flag_has_its_formula_and_its_source(heading: str) -> None:
    for row in rows(heading):
        name, definition, source = (cell.strip() for cell in row)
        assert definition, name
        assert source or name == "`tokens.source`", name


def test_every_source_is_named_in_the_reference() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for source in (*RttSource, *ClockSource, *TokenSource):
        assert f"`{source.value}`" in text
    assert "`served_region`" in text


def test_the_numbers_in_the_definitions_are_those_of_the_code() -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    for words in (
        f"started more than {LATE_START_SECONDS:g} s after its planned moment",
        f"more than {LOOP_LAG_SECONDS * 1000:g} ms late during the probe",
        f"the agent's clock, every {TICK_SECONDS * 1000:g} ms",
        f"{BUFFERED_MIN_TOKENS} tokens or more came in fewer than {BUFFERED_MIN_READS} reads, or {BUFFERED_SHARE:.0%}"
        f" of the gaps between them are under {BUFFERED_GAP_NS / 1e6:g} ms".replace("80%", "80 %"),
        f"fewer than {MIN_ARRIVALS} arrivals or less than {MIN_SPAN_NS / 1e6:g} ms between them",
        f"without an answer within {SAMPLE_SECONDS:g} s (`tls`: {TLS_SECONDS:g} s; `http`: the probe's timeout)",
        f"at least {MIN_TTL_SECONDS:g} s; {UNKNOWN_TTL_SECONDS:g} s where the system gave",
    ):
        assert words in text


def test_what_a_told_location_adds_to_json_is_defined_in_the_reference() -> None:
    fields = [word for word in table("The floor") if word in JSON_FIELDS]
    assert fields == list(JSON_FIELDS)
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{source.value}`" in text for source in Source)


def test_the_catalogue_is_as_large_as_the_reference_says() -> None:
    text = PAGE.read_text(encoding="utf-8")
    counts = {kind: sum(one.kind is kind for one in regions()) for kind in Kind}
    assert f"holds {len(regions())} places" in text
    assert f"{counts[Kind.REGION]} regions of AWS" in text
    assert f"{counts[Kind.BEHIND_ANYCAST]} of Fly" in text
    assert f"{counts[Kind.EDGE]} edge cities" in text
