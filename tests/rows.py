"""Results in which anything may be missing, fit or not fit: what a row leaves out must come back from v_result."""

from datetime import UTC, datetime, timedelta
from random import Random

from isochrone.marks import MARKS, Components, Marks
from isochrone.outcome import Connection, Flag, Outcome, Prober, RttMethod, RttSource, TokenSource
from isochrone.result import Pings, Result, ServerTiming, Tokens
from tests.collecting import boottime

FEW = (0.0, 0.25, 0.5, 0.1, 1 / 3)
"""Seconds that meet again and again, so that marks and values fit often by chance."""
ADDRESSES = ("10.0.0.1", "255.255.255.255", "2001:DB8::1", "2001:db8::1", "::ffff:10.0.0.1", "010.0.0.1", "", "1.2.3")
CLOCKS = (timedelta(), timedelta(microseconds=1), timedelta(minutes=-30), timedelta(days=400), timedelta(days=-18_000))
"""How wrong an agent's wall clock may be; beyond 35 minutes it is stored in another column."""


def any_results(count: int, seed: int) -> list[Result]:
    """Return results of both probers, the same for the same seed."""
    dice = Random(seed)  # noqa: S311  no secret
    return [_any_result(seq, dice) for seq in range(count)]


def _any_result(seq: int, dice: Random) -> Result:
    def few() -> float | None:
        return dice.choice((None, *FEW, dice.random()))

    rtt = few()
    inference = dice.random() < 0.7
    setup, ttft, answer = few(), few(), few()
    marks = {name: few() for name in MARKS}
    if dice.random() < 0.5 and setup is not None:
        marks["request_started"] = setup
        marks["first_token"] = None if ttft is None else setup + ttft
        marks["first_answer"] = None if answer is None else setup + answer
    return Result(
        seq=seq,
        endpoint="near",
        module="chat" if inference else "rtt",
        prober=Prober.INFERENCE if inference else Prober.RTT,
        started_at=datetime.now(UTC) + dice.choice(CLOCKS),
        started_boottime_seconds=boottime() - dice.random() * 100,
        outcome=dice.choice(tuple(Outcome)),
        reason=dice.choice((None, "", "why")),
        http_status=dice.choice((None, 200)),
        address=dice.choice((None, *ADDRESSES)),
        ip_version=dice.choice((None, 4, 6)),
        connection=dice.choice((None, *Connection)),
        marks=Marks(**marks),
        duration_seconds=dice.choice((None, marks["end"], few())),
        setup_seconds=setup,
        rtt_seconds=rtt,
        rtt_source=dice.choice((None, *RttSource)),
        rtt_variation_seconds=few(),
        ttft_seconds=ttft,
        ttft_bound_seconds=few(),
        answer_ttft_seconds=answer,
        tpot_seconds=few(),
        tokens_per_second=few(),
        stall_seconds=few(),
        components=dice.choice((None, Components(network_seconds=0.5, model_seconds=0.25, streaming_seconds=0.0))),
        pings=dice.choice((None, _pings(dice, rtt), _pings(dice, few()))),
        tokens=dice.choice((None, _tokens(dice))),
        server_timing=dice.choice((None, ServerTiming(source="x", total_seconds=few(), trusted=dice.random() < 0.5))),
        served_region=dice.choice((None, "eu")),
        flags=dice.choice(((), (Flag.BUFFERED, Flag.LATE_START))),
        start_delay_seconds=few(),
    )


def _pings(dice: Random, median: float | None) -> Pings:
    return Pings(method=dice.choice(tuple(RttMethod)), sent=5, lost=dice.randrange(6), median_seconds=median)


def _tokens(dice: Random) -> Tokens:
    counts = [dice.choice((None, 0, 3, 2**31 - 1)) for _ in range(3)]
    return Tokens(
        source=dice.choice(tuple(TokenSource)),
        output=dice.choice((0, 3, 4)),
        input=counts[0],
        cached_input=counts[1],
        reasoning=counts[2],
        arrivals=dice.choice((0, 3)),
    )
