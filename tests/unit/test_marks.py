"""Values that follow from marks alone: above all, that the components add up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.marks import (
    MARKS,
    Components,
    Marks,
    answer_ttft_seconds,
    components,
    phase_seconds,
    setup_seconds,
    ttft_seconds,
)

COLD = Marks(
    dns=0.0125,
    tcp=0.075,
    tls=0.15,
    request_started=0.15625,
    request_sent=0.1565,
    headers=0.375,
    first_event=0.375,
    first_token=0.46875,
    first_answer=0.53125,
    last_token=1.09375,
    end=1.125,
)
WARM = Marks(request_started=0.0, request_sent=0.0001, headers=0.25, first_token=0.25, end=0.5)
moments = st.floats(min_value=0, max_value=1e5)


@st.composite
def ordered_marks(draw: st.DrawFn) -> Marks:
    """Return marks in a probe's order; any but the three that bound a component may be missing."""
    times = sorted(draw(st.lists(moments, min_size=len(MARKS), max_size=len(MARKS))))
    kept = {*draw(st.sets(st.sampled_from(MARKS))), "request_started", "first_token", "end"}
    return Marks(**{name: time for name, time in zip(MARKS, times, strict=True) if name in kept})


@given(ordered_marks(), moments)
def test_components_add_up_to_the_duration_for_any_ordered_marks(marks: Marks, rtt_seconds: float) -> None:
    parts = components(marks, rtt_seconds=rtt_seconds)
    assert parts is not None
    total = parts.network_seconds + parts.model_seconds + parts.streaming_seconds
    assert total == pytest.approx(marks.end, rel=1e-9, abs=1e-9)
    assert min(parts.network_seconds, parts.model_seconds, parts.streaming_seconds) >= 0


def test_components_of_a_cold_probe() -> None:
    assert components(COLD, rtt_seconds=0.0625) == Components(
        network_seconds=0.21875, model_seconds=0.25, streaming_seconds=0.65625
    )


def test_a_round_trip_longer_than_the_ttft_is_cut_to_it() -> None:
    assert components(WARM, rtt_seconds=0.75) == Components(
        network_seconds=0.25, model_seconds=0.0, streaming_seconds=0.25
    )


@pytest.mark.parametrize("missing", ["request_started", "first_token", "end"])
def test_a_stream_that_did_not_come_to_its_end_has_no_components(missing: str) -> None:
    kept = {name: getattr(COLD, name) for name in MARKS if name != missing}
    assert components(Marks(**kept), rtt_seconds=0.0625) is None


def test_an_unknown_round_trip_leaves_the_components_unknown() -> None:
    assert components(COLD, rtt_seconds=None) is None


def test_ttft_counts_from_the_request_on_an_open_connection() -> None:
    assert (ttft_seconds(COLD), answer_ttft_seconds(COLD)) == (0.3125, 0.375)
    assert (setup_seconds(COLD), setup_seconds(WARM)) == (0.15625, 0.0)


def test_without_a_token_there_is_no_ttft() -> None:
    silent = Marks(request_started=0.1, headers=0.2, end=5.0)
    assert (ttft_seconds(silent), answer_ttft_seconds(silent)) == (None, None)


def test_phases_that_did_not_take_place_are_left_out() -> None:
    assert phase_seconds(COLD) == {"dns": 0.0125, "tcp": 0.0625, "tls": pytest.approx(0.075)}
    assert phase_seconds(Marks(tcp=0.5)) == {"tcp": 0.5}
    assert phase_seconds(WARM) == {}


@given(st.builds(Marks, dns=moments, tcp=moments, tls=moments))
def test_no_order_of_marks_makes_a_phase_negative(marks: Marks) -> None:
    assert min(phase_seconds(marks).values()) >= 0
