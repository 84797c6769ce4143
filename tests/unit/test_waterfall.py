"""The waterfall shows what happened, in 80 columns, in colour only where that is wanted."""

import re
from datetime import UTC, datetime

import msgspec
import pytest

from agent.waterfall import WIDTH, Style, phases, render, summary, timed_events
from isochrone.marks import Components, Marks
from isochrone.outcome import ClockSource, Connection, Flag, Outcome, Prober, RttMethod, RttSource, TokenSource
from isochrone.result import Pings, Result, Tokens

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


@pytest.mark.parametrize("source", list(RttSource))
def test_each_source_of_a_round_trip_has_words(source: RttSource) -> None:
    result = msgspec.structs.replace(PINGED, rtt_source=source)
    assert re.search(r"RTT 19\.3 ms \([A-Za-z, ]+\)", render(result, url="http://e", style=PLAIN))


def test_where_reasoning_came_first_the_wait_for_the_answer_is_told_too() -> None:
    thought = msgspec.structs.replace(GOOD, answer_ttft_seconds=0.7)
    assert "TTFT 300 ms, answer 700 ms, RTT 20.0 ms" in render(thought, url="http://e", style=PLAIN)
    plain = msgspec.structs.replace(GOOD, answer_ttft_seconds=GOOD.ttft_seconds)
    assert "answer" not in render(plain, url="http://e", style=PLAIN)


@pytest.mark.parametrize("result", [GOOD, FAILED, PINGED])
@pytest.mark.parametrize("blocks", [True, False])
def test_no_line_is_wider_than_80_columns(result: Result, *, blocks: bool) -> None:
    text = render(result, url="https://api.example/v1" + "/long" * 40, style=Style(blocks=blocks))
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
