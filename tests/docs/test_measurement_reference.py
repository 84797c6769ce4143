"""`docs/reference/measurement.md` names every mark, value, outcome and flag of the contract, and no other."""

import re
from pathlib import Path

from agent.floor import JSON_FIELDS, Source
from isochrone.catalogue import Kind, regions
from isochrone.marks import MARKS
from isochrone.outcome import ClockSource, Flag, Outcome, RttSource, TokenSource
from isochrone.result import Result

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "measurement.md"


def table(heading: str) -> list[str]:
    """Return the words in code of the first column under `heading`, in order."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| (`[^|]*)\|", section, flags=re.MULTILINE)
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row)]


def test_the_marks_stand_in_the_reference_in_their_order() -> None:
    assert table("Marks") == list(MARKS)


def test_the_outcomes_stand_in_the_reference_and_no_other() -> None:
    assert table("Outcomes") == [outcome.value for outcome in Outcome]


def test_the_flags_stand_in_the_reference_and_no_other() -> None:
    assert table("Flags") == [flag.value for flag in Flag]


def test_every_duration_of_a_result_is_defined_in_the_reference() -> None:
    fields = {name for name in Result.__struct_fields__ if name.endswith("_seconds") and "boottime" not in name}
    fields.discard("components")
    assert fields <= set(table("Values")) | {"tokens_per_second"}
    assert "tokens_per_second" in table("Values")


def test_every_source_is_named_in_the_reference() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for source in (*RttSource, *ClockSource, *TokenSource):
        assert f"`{source.value}`" in text


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
