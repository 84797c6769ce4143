"""Each thing that a result gives to think about is told in words, with what to do; nothing else is."""

from datetime import UTC, datetime

import msgspec
import pytest

from agent.findings import findings, findings_of_all
from agent.floor import Floor, Place, Source
from isochrone.marks import Marks
from isochrone.outcome import ClockSource, Connection, Flag, Outcome, Prober, RttMethod, TokenSource
from isochrone.result import Pings, Result, ServerTiming, Tokens

GOOD = Result(
    seq=0,
    endpoint="e",
    module="m",
    prober=Prober.INFERENCE,
    started_at=datetime(2026, 1, 2, tzinfo=UTC),
    started_boottime_seconds=1,
    outcome=Outcome.OK,
    connection=Connection.WARM,
    clock_source=ClockSource.KERNEL,
    marks=Marks(request_started=0, headers=0.1, first_event=0.1, first_token=0.3, end=1),
    rtt_seconds=0.020,
    ttft_seconds=0.300,
    served_region="East US",
    tokens=Tokens(source=TokenSource.USAGE, output=32, input=40, cached_input=0),
)


def told(result: Result = GOOD, **fields: object) -> str:
    return "\n".join(findings(msgspec.structs.replace(result, **fields)))


def timing(first_token: float | None, *, trusted: bool = True) -> ServerTiming:
    return ServerTiming(source="s", first_token_seconds=first_token, total_seconds=0.9, trusted=trusted)


def tokens(cached: int | None, asked: int | None = 40) -> Tokens:
    return Tokens(source=TokenSource.USAGE, output=32, input=asked, cached_input=cached)


def test_a_good_result_has_nothing_to_note() -> None:
    assert findings(GOOD) == []
    assert findings_of_all([GOOD]) == []


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        (Flag.BUFFERED, "proxy_buffering off"),
        (Flag.RETRANSMITS, "probe again"),
        (Flag.LATE_START, "this machine is busy"),
        (Flag.LOOP_LAG, "probe again when it is idle"),
        (Flag.THROTTLED, "give the container more CPU"),
        (Flag.CLOCK_UNSYNCHRONIZED, "the date may not be"),
        (Flag.BELOW_FLOOR, "faster than light"),
    ],
)
def test_each_flag_has_its_own_note(flag: Flag, words: str) -> None:
    assert words in told(flags=(flag,))
    assert len(findings(msgspec.structs.replace(GOOD, flags=(flag,)))) == 1


def test_a_user_space_clock_is_noted_where_arrivals_were_stamped() -> None:
    pings = Pings(method=RttMethod.TCP, sent=1, lost=0, min_seconds=0.01, median_seconds=0.01)
    assert "not by the kernel" in told(clock_source=ClockSource.USER)
    rtt = msgspec.structs.replace(GOOD, prober=Prober.RTT, clock_source=ClockSource.USER, pings=pings)
    assert told(rtt) == ""
    for method in (RttMethod.HTTP, RttMethod.TLS, RttMethod.ICMP):
        assert "not by the kernel" in told(rtt, pings=msgspec.structs.replace(pings, method=method))


def test_samples_that_were_sent_again_are_said_to_be_left_out_of_round_trips_not_in_them() -> None:
    pings = Pings(method=RttMethod.HTTP, sent=2, lost=1, min_seconds=0.01, median_seconds=0.01)
    rtt = msgspec.structs.replace(GOOD, prober=Prober.RTT, pings=pings, flags=(Flag.RETRANSMITS,))
    assert "count as lost" in told(rtt)
    assert "are in these times" in told(flags=(Flag.RETRANSMITS,))


@pytest.mark.parametrize(("bound", "noted"), [(None, False), (0.0, False), (0.001, False), (0.0042, True)])
def test_a_wide_bound_of_the_ttft_is_told_in_milliseconds(bound: float | None, *, noted: bool) -> None:
    assert ("TTFT may be up to 4.2 ms less" in told(ttft_bound_seconds=bound)) is noted
    assert ("TTFT may be" in told(ttft_bound_seconds=bound)) is noted


@pytest.mark.parametrize(("cached", "noted"), [(None, False), (0, False), (1, True), (40, True)])
def test_a_cached_prompt_is_noted(cached: int | None, *, noted: bool) -> None:
    assert ("a prefix cache answered" in told(tokens=tokens(cached))) is noted
    assert f"answered {cached} input tokens" in told(tokens=tokens(cached, None)) or not noted


@pytest.mark.parametrize(
    ("served", "words"),
    [("edge:MIA", "MIA (Miami, US)"), ("edge:QQQ", "took the request, QQQ:"), ("East US", ""), (None, "")],
)
def test_an_edge_is_named_and_where_the_way_on_counts(served: str | None, words: str) -> None:
    text = told(served_region=served)
    assert words in text
    assert ("counts as model" in text) is bool(words)


@pytest.mark.parametrize(
    ("first_token", "trusted", "noted"),
    [
        (0.280, True, False),
        (0.262, True, False),
        (0.255, True, True),
        (0.100, True, True),
        (0.100, False, False),
        (None, True, False),
    ],
)
def test_a_wait_that_is_neither_the_ways_nor_the_servers_is_noted_beyond_20_ms(
    first_token: float | None, *, trusted: bool, noted: bool
) -> None:
    """TTFT 300 ms, RTT 20 ms."""
    text = told(server_timing=timing(first_token, trusted=trusted))
    assert ("neither the RTT nor what the server tells" in text) is noted


def test_over_a_long_way_less_than_one_more_round_trip_is_not_worth_a_word() -> None:
    assert told(server_timing=timing(0.12), rtt_seconds=0.1) == ""
    assert told(server_timing=timing(None), rtt_seconds=None) == ""


PLACE = Place(words="aws/us-east-1, Ashburn", latitude=39, longitude=-77)


def below(rtt_seconds: float, source: Source = Source.GIVEN) -> str:
    floor = Floor(
        there=PLACE, source=source, distance_meters=6.5e6, floor_seconds=0.065, rtt_seconds=rtt_seconds, below=True
    )
    flagged = msgspec.structs.replace(GOOD, flags=(Flag.BELOW_FLOOR,))
    (note,) = findings(flagged, floor=floor)
    return note


def test_below_the_floor_both_explanations_are_told_with_their_numbers() -> None:
    note = below(0.050)
    assert "RTT 50.0 ms is less than light in fibre takes to aws/us-east-1, Ashburn and back (65.0 ms in fibre)" in note
    assert "an edge near you ended the connection, or a location is wrong" in note
    assert "15.0 ms or more, counts as model" in note


def test_below_light_in_a_vacuum_that_is_said() -> None:
    assert "even in a vacuum" in below(0.043)
    assert "even in a vacuum" not in below(0.044)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Source.GIVEN, "check --location and --endpoint-location"),
        (Source.HOST, "guessed from the host name"),
        (Source.SERVED_REGION, "the provider's word"),
    ],
)
def test_below_the_floor_the_cure_follows_from_how_the_place_is_known(source: Source, words: str) -> None:
    assert words in below(0.01, source)


def test_a_floor_that_holds_is_no_finding() -> None:
    floor = Floor(there=PLACE, source=Source.GIVEN, distance_meters=1e6, floor_seconds=0.01, rtt_seconds=0.02)
    assert findings(GOOD, floor=floor) == []


def test_writes_held_back_are_told_of_a_whole_run_with_the_cure() -> None:
    held = msgspec.structs.replace(GOOD, marks=Marks(request_started=0, headers=0.1, first_event=0.161, end=1))
    (note,) = findings_of_all([GOOD, held, held, held])
    assert "TCP_NODELAY" in note


def test_a_stream_in_bursts_of_a_round_trip_is_not_blamed_on_a_proxys_buffer() -> None:
    marks = Marks(request_started=0, headers=0.1, first_event=0.19, first_token=0.19, end=1)
    text = told(flags=(Flag.BUFFERED,), rtt_seconds=0.09, stall_seconds=0.09, marks=marks)
    assert "Set TCP_NODELAY there" in text
    assert "proxy_buffering" not in text
