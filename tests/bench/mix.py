"""A day of one agent as it is in the field: of four results two are round trips, one is a cold stream, one a warm one.

As the modules of the documentation have it (round trips twice as often as streams). Values differ from result to result
and have the digits that clocks of nanoseconds give them, so that neither gzip nor the JSON reader has it easy.
"""

from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid4

from isochrone.batch import Batch
from isochrone.marks import Marks, answer_ttft_seconds, components, setup_seconds, ttft_seconds
from isochrone.outcome import ClockSource, Connection, Outcome, RttMethod, RttSource, TokenSource
from isochrone.result import Pings, Result, Tokens
from tests.collecting import batch_of, boottime, inference_result, rtt_result

ADDRESS = "104.18.32.47"
FAILED_OF_A_HUNDRED = 2


def mixed_batch(count: int, dice: Random) -> Batch:
    """Return a batch of `count` results of the last minute."""
    return batch_of(mixed_results(count, dice), batch_id=uuid4(), boot_id=UUID(int=dice.getrandbits(128)))


def mixed_results(count: int, dice: Random) -> list[Result]:
    """Return results of the last minute."""
    return [_RESULTS[n % len(_RESULTS)](n, dice) for n in range(count)]


def _round_trips(seq: int, dice: Random) -> Result:
    samples = sorted(_ns(0.02 + dice.expovariate(100)) for _ in range(5))
    pings = Pings(
        method=RttMethod.TCP,
        sent=5,
        lost=0,
        min_seconds=samples[0],
        median_seconds=samples[2],
        mean_seconds=_ns(sum(samples) / 5),
        max_seconds=samples[4],
        jitter_seconds=_ns(dice.expovariate(1000)),
    )
    return rtt_result(
        seq,
        **_when(dice),
        address=ADDRESS,
        ip_version=4,
        clock_source=ClockSource.KERNEL,
        marks=Marks(dns=_ns(dice.expovariate(500))),
        rtt_seconds=samples[2],
        duration_seconds=_ns(1 + dice.random()),
        pings=pings,
    )


def _cold(seq: int, dice: Random) -> Result:
    dns = _ns(dice.expovariate(500))
    tcp = _ns(dns + 0.02 + dice.expovariate(100))
    tls = _ns(tcp + 0.03 + dice.expovariate(100))
    return _stream(seq, dice, Marks(dns=dns, tcp=tcp, tls=tls, request_started=_ns(tls + dice.expovariate(10_000))))


def _warm(seq: int, dice: Random) -> Result:
    return _stream(seq, dice, Marks(request_started=0.0))


def _stream(seq: int, dice: Random, opening: Marks) -> Result:
    started = opening.request_started or 0.0
    sent = _ns(started + dice.expovariate(10_000))
    headers = _ns(sent + 0.1 + dice.expovariate(5))
    first = _ns(headers + dice.expovariate(100))
    last = _ns(first + 0.5 + dice.random())
    more = {"request_sent": sent, "headers": headers, "first_event": headers, "first_token": first}
    opened = {name: getattr(opening, name) for name in ("dns", "tcp", "tls", "request_started")}
    marks = Marks(**opened, **more, first_answer=first, last_token=last, end=_ns(last + dice.expovariate(100)))
    rtt = _ns(0.02 + dice.expovariate(100))
    tpot = _ns((last - first) / 31)
    warm = opening.tcp is None
    failed = dice.randrange(100) < FAILED_OF_A_HUNDRED
    return inference_result(
        seq,
        **_when(dice),
        module="warm" if warm else "chat",
        connection=Connection.WARM if warm else Connection.COLD,
        outcome=Outcome.TRUNCATED if failed else Outcome.OK,
        reason="the stream ended without a finish reason after 31 tokens" if failed else None,
        clock_source=ClockSource.KERNEL,
        address=ADDRESS,
        marks=marks,
        duration_seconds=marks.end,
        setup_seconds=setup_seconds(marks),
        rtt_seconds=rtt,
        rtt_source=RttSource.TCP_INFO_MIN,
        rtt_variation_seconds=_ns(dice.expovariate(1000)),
        ttft_seconds=ttft_seconds(marks),
        ttft_bound_seconds=0.0,
        answer_ttft_seconds=answer_ttft_seconds(marks),
        tpot_seconds=tpot,
        tokens_per_second=1 / tpot,
        stall_seconds=_ns(tpot + dice.expovariate(100)),
        components=components(marks, rtt_seconds=rtt),
        tokens=Tokens(source=TokenSource.USAGE, output=32, input=20, cached_input=0, reasoning=0, arrivals=32),
    )


def _when(dice: Random) -> dict[str, object]:
    ago = dice.random() * 60
    return {
        "started_at": datetime.now(UTC) - timedelta(seconds=ago),
        "started_boottime_seconds": _ns(boottime() - ago),
        "start_delay_seconds": _ns(dice.expovariate(1000)),
    }


def _ns(seconds: float) -> float:
    return round(seconds, 9)


_RESULTS = (_round_trips, _cold, _round_trips, _warm)
