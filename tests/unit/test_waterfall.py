"""The waterfall shows what happened, in 80 columns, in colour only where that is wanted."""

import re
from datetime import UTC, datetime

import msgspec
import pytest

from agent.floor import Floor, Place, Source
from agent.waterfall import WIDTH, Style, phases, render, summary, timed_events
from isochrone.marks import Components, Marks
from isochrone.outcome import ClockSource, Connection, Flag, Outcome, Prober, RttMethod, RttSource, TokenSource
from isochrone.result import Pings, Result, ServerTiming, Tokens

PLAIN = Style()
GOOD = Result(
    seq=0,
    endpoint="e",
    module="m",
    prober=Prober.INFERENCE,
    started_at=datetime(2026, 1, 2, tzinfo=UTC),
    started_boottime_seconds=1,
    outcome=Outcome.OK,
    http_status=200,
    address="192.0.2.7",
    ip_version=4,
    connection=Connection.COLD,
    clock_source=ClockSource.KERNEL,
    marks=Marks(
        dns=0.010,
        tcp=0.030,
        tls=0.060,
        request_started=0.061,
        request_sent=0.062,
        headers=0.100,
        first_event=0.100,
        first_token=0.361,
        first_answer=0.361,
        last_token=0.981,
        end=1.000,
    ),
    duration_seconds=1.0,
    setup_seconds=0.061,
    rtt_seconds=0.020,
    rtt_source=RttSource.TCP_INFO_MIN,
    ttft_seconds=0.300,
    tpot_seconds=0.02,
    tokens_per_second=50,
    components=Components(network_seconds=0.081, model_seconds=0.280, streaming_seconds=0.639),
    tokens=Tokens(source=TokenSource.USAGE, output=32, arrivals=32),
)
FAILED = msgspec.structs.replace(
    GOOD, outcome=Outcome.RATE_LIMITED, reason="HTTP 429: " + "wait " * 30, components=None, marks=Marks(tcp=0.01)
)
PINGED = msgspec.structs.replace(
    GOOD,
    prober=Prober.RTT,
    marks=Marks(dns=0.01, tcp=0.03),
    pings=Pings(
        method=RttMethod.TCP,
        sent=5,
        lost=1,
        min_seconds=0.0181,
        median_seconds=0.0193,
        mean_seconds=0.02,
        max_seconds=0.1234,
        jitter_seconds=0.0002,
    ),
)


FULL = msgspec.structs.replace(
    GOOD,
    flags=tuple(Flag),
    clock_source=ClockSource.USER,
    answer_ttft_seconds=0.7,
    served_region="East US",
    tokens=Tokens(source=TokenSource.USAGE, output=32, arrivals=32, reasoning=20, input=48, cached_input=16),
    server_timing=ServerTiming(
        source="groq usage", first_token_seconds=0.2, queue_seconds=0.003, total_seconds=0.9, trusted=True
    ),
)
ASHBURN = Place(words="aws/us-east-1, Ashburn", latitude=39, longitude=-77)
FLOOR = Floor(
    there=ASHBURN,
    source=Source.GIVEN,
    distance_meters=1_500_000,
    floor_seconds=0.015,
    rtt_seconds=0.02,
    efficiency=0.75,
)
BELOW = msgspec.structs.replace(FLOOR, source=Source.HOST, floor_seconds=0.065, efficiency=3.25, below=True)
FLOORS = [None, Floor(), FLOOR, BELOW]


@pytest.mark.parametrize("source", list(RttSource))
def test_each_source_of_a_round_trip_has_words(source: RttSource) -> None:
    result = msgspec.structs.replace(PINGED, rtt_source=source)
    assert re.search(r"RTT 19\.3 ms \([A-Za-z, ]+\)", render(result, url="http://e", style=PLAIN))


def test_where_reasoning_came_first_the_wait_for_the_answer_is_told_too() -> None:
    thought = msgspec.structs.replace(GOOD, answer_ttft_seconds=0.7)
    assert "TTFT 300 ms, answer 700 ms, RTT 20.0 ms" in render(thought, url="http://e", style=PLAIN)
    plain = msgspec.structs.replace(GOOD, answer_ttft_seconds=GOOD.ttft_seconds)
    assert "answer" not in render(plain, url="http://e", style=PLAIN)


@pytest.mark.parametrize("result", [GOOD, FAILED, PINGED, FULL])
@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("floor", FLOORS)
def test_no_line_is_wider_than_80_columns(result: Result, floor: Floor | None, *, blocks: bool) -> None:
    text = render(result, url="https://api.example/v1" + "/long" * 40, style=Style(blocks=blocks), floor=floor)
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert blocks or text.isascii()


def test_every_phase_has_a_bar_where_the_one_before_ended() -> None:
    text = render(GOOD, url="u", style=PLAIN)
    bars = [line for line in text.splitlines() if "█" in line]
    assert [line.split("  ")[1] for line in bars] == ["DNS", "TCP", "TLS", "wait", "first token", "stream"]
    starts = [line.index("█") for line in bars]
    assert starts == sorted(starts)
    assert sum(phase.end - phase.start for phase in phases(GOOD.marks)) == pytest.approx(1.0, abs=0.002)


def test_network_model_and_streaming_stand_in_ms_and_per_cent() -> None:
    text = render(GOOD, url="u", style=PLAIN)
    assert "network 81.0 ms (8%) + model 280 ms (28%) + streaming 639 ms (64%)" in text
    assert "= 1,000 ms in all" in text
    assert "50.0 tokens/s (32 tokens by usage)" in text


def test_a_failure_is_told_in_red_with_its_reason() -> None:
    text = render(FAILED, url="u", style=Style(color=True))
    assert "\x1b[31m" in text
    assert "failed: rate_limited: HTTP 429: wait" in text


def test_without_colour_there_is_no_escape() -> None:
    assert "\x1b" not in render(FAILED, url="u\x1b[2J", style=PLAIN)
    assert "\x1b" not in summary([GOOD, FAILED], style=PLAIN)


def test_the_round_trip_alone_shows_its_samples() -> None:
    text = render(PINGED, url="u", style=PLAIN)
    assert "RTT 19.3 ms (kernel, least)\n  least 18.1 ms, most 123 ms, jitter 0.200 ms; 1 of 5 lost" in text


def test_what_spoiled_a_result_is_noted() -> None:
    spoiled = msgspec.structs.replace(GOOD, flags=tuple(Flag), tokens_per_second=None)
    text = render(spoiled, url="u", style=PLAIN)
    assert text.count("note:") == len(Flag)
    assert "32 tokens by usage" in text


def words(result: Result, floor: Floor | None = None) -> str:
    """Return the text as one line: where it is broken does not matter."""
    return " ".join(render(result, url="u", style=PLAIN, floor=floor).split())


def test_the_servers_own_word_is_told_with_its_source_and_whether_it_fits() -> None:
    said = "server's own word: first token 200 ms, queue 3.0 ms, total 900 ms, by groq usage: it"
    assert f"{said} fits what was seen" in words(FULL)
    assert FULL.server_timing is not None
    doubted = msgspec.structs.replace(FULL.server_timing, trusted=False)
    assert f"{said} does not fit" in words(msgspec.structs.replace(FULL, server_timing=doubted))
    assert "server's own word" not in words(GOOD)


def test_region_tokens_and_sources_are_told() -> None:
    text = words(FULL)
    assert "served from East US (azure/eastus, Virginia)" in text
    assert "32 tokens by usage, 20 of reasoning; 48 in the prompt, 16 of them cached" in text
    assert "RTT 20.0 ms (kernel, least)" in text
    assert "clock: user" in text
    assert "served from us (" not in words(msgspec.structs.replace(FULL, served_region="us"))
    assert "served from" not in words(msgspec.structs.replace(FULL, served_region="edge:MIA"))


def test_the_floor_is_told_with_its_distance_and_where_the_place_comes_from() -> None:
    assert "floor 15.0 ms: light in fibre over 1,500 km to aws/us-east-1, Ashburn; efficiency 75%" in words(GOOD, FLOOR)
    assert "Ashburn (a guess from the host name)" in words(GOOD, BELOW)
    assert "efficiency" not in words(GOOD, BELOW)
    served = msgspec.structs.replace(FLOOR, source=Source.SERVED_REGION)
    assert "Ashburn (the provider says so)" in words(GOOD, served)


def test_between_neighbours_no_efficiency_is_told() -> None:
    near = msgspec.structs.replace(FLOOR, distance_meters=13_000, floor_seconds=0.00013, efficiency=0.0065)
    assert "floor under 1 ms: light in fibre over 13 km to aws/us-east-1, Ashburn" in words(GOOD, near)
    assert "efficiency" not in words(GOOD, near)


def test_where_the_endpoint_is_unknown_the_option_is_named_and_where_nobody_asked_nothing_is() -> None:
    assert "floor unknown" in words(GOOD, Floor())
    assert "--endpoint-location" in words(GOOD, Floor())
    assert "floor" not in words(GOOD)


@pytest.mark.parametrize(("blocks", "pale", "full"), [(True, "░", "█"), (False, "=", "#")])
def test_the_part_of_a_round_trip_that_light_needs_is_drawn_pale(pale: str, full: str, *, blocks: bool) -> None:
    """30 ms of 1 s are 2 of 52 columns."""
    text = render(GOOD, url="u", style=Style(blocks=blocks), floor=msgspec.structs.replace(FLOOR, floor_seconds=0.03))
    bars = {line.split()[0]: line.split()[-1] for line in text.splitlines() if line.endswith((pale, full))}
    assert bars["wait"] == pale * 2 + full * (len(bars["wait"]) - 2)
    assert bars["stream"] == full * len(bars["stream"])
    assert bars["DNS"] == full
    without = render(GOOD, url="u", style=Style(blocks=blocks))
    assert pale * 2 not in without


def test_a_bar_is_no_longer_for_its_floor() -> None:
    lengths = [
        [len(line) for line in render(GOOD, url="u", style=PLAIN, floor=floor).splitlines()[2:8]] for floor in FLOORS
    ]
    assert all(each == lengths[0] for each in lengths)


def test_what_several_probes_show_stands_under_their_summary() -> None:
    warm = msgspec.structs.replace(GOOD, connection=Connection.WARM)
    marks = msgspec.structs.replace(GOOD.marks, first_event=0.161)
    held = msgspec.structs.replace(warm, marks=marks)
    text = summary([warm, held, held, held], style=PLAIN)
    assert "note: reused connections wait some 40 ms" in text
    assert max(len(line) for line in text.splitlines()) <= WIDTH


def test_a_summary_counts_failures_and_takes_medians_of_the_good() -> None:
    faster = msgspec.structs.replace(GOOD, ttft_seconds=0.1)
    text = summary([GOOD, faster, FAILED], style=PLAIN)
    assert "3 probes: 2 ok, 1 rate_limited" in text
    assert re.search(r"TTFT +median 200 ms, from 100 ms to 300 ms", text)
    assert "none failed" in summary([GOOD], style=PLAIN)


def test_moments_are_listed_in_order_of_time() -> None:
    lines = timed_events(GOOD).splitlines()
    times = [float(line[1:].split(" ms")[0]) for line in lines if line.startswith("+")]
    assert times == sorted(times)
    assert len(times) == 11
