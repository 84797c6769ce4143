"""Durations as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.config import Duration
from isochrone.durations import format_duration, parse_duration

UNITS = ("ms", "s", "m", "h", "d")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("1.5s", 1.5),
        ("5m", 300),
        ("1h", 3_600),
        ("1d", 86_400),
        ("0s", 0),
        (" 7s ", 7),
    ],
)
def test_a_number_and_a_unit_are_a_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "30", "s", "-1s", "+1s", "1e3s", "1 s", "1m30s", ".5s", "5.s", "5S", "inf", "nans", "5min", "1s\n2s"]
)
def test_anything_else_is_refused_and_the_form_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="write a number and a unit, as in 500ms") as refused:
        parse_duration(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "500ms"), (1, "1s"), (90, "90s"), (60, "1m"), (3_600, "1h"), (172_800, "2d"), (1.5, "1.5s"), (0, "0ms")],
)
def test_a_duration_is_written_in_its_largest_whole_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 100_000), st.sampled_from(UNITS))
def test_a_whole_number_of_any_unit_survives_writing(count: int, unit: str) -> None:
    seconds = parse_duration(f"{count}{unit}")
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-5)


@given(st.floats(min_value=1e-3, max_value=1e6))
def test_any_duration_survives_writing(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-5)


def test_a_number_too_large_for_a_float_is_no_duration() -> None:
    with pytest.raises(ValueError, match="longer than a number can say"):
        parse_duration("9" * 400 + "d")


@pytest.mark.parametrize(("text", "fits"), [("11d", True), ("1000000s", True), ("12d", False), ("4000000d", False)])
def test_a_duration_of_a_configuration_is_bounded(*, text: str, fits: bool) -> None:
    if fits:
        assert Duration.parse(text) == parse_duration(text)
        return
    with pytest.raises(ValueError, match="the longest duration here"):
        Duration.parse(text)


@pytest.mark.parametrize("value", [30, 1.5, None, True, ["1s"]])
def test_a_number_without_a_unit_is_no_duration_of_a_configuration(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        Duration.parse(value)
