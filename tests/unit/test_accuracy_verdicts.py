"""The accuracy bench calls a miss a miss, and no measurement no success."""

import json
from dataclasses import replace
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.outcome import RttMethod
from tests.bench.accuracy import report, round_trips, run
from tests.bench.accuracy.binomial import bounds, touched
from tests.bench.accuracy.clients import OURS, Client
from tests.bench.accuracy.conditions import QUICK, WHOLE, Cell, Schedule
from tests.bench.accuracy.lab import Pinged
from tests.bench.accuracy.scores import Score, score
from tests.bench.accuracy.session import Session
from tests.bench.accuracy.verdicts import Finding, RoundTrips, missed, of_round_trips, worst
from tests.bench.collector_stub import most_at_once

CELL = Cell(rtt_ms=20, streams=8)
GOOD = Score(
    client=OURS,
    cell=CELL,
    judged=64,
    stalled=0,
    ttft_p99_ms=0.004,
    token_p99_ms=0.05,
    rtt_ms=20.09,
    true_rtt_ms=20.03,
    unstated=0,
)
PEER = replace(GOOD, client="httpx", ttft_p99_ms=40.0, token_p99_ms=60.0, rtt_ms=None)
PATH = RoundTrips(
    method="tcp", rtt_ms=20, loss_percent=3, sent=180, lost=10, median_ms=20.56, true_ms=20.5, truly_lost=(10, 10)
)


def spread(n: int, p99: float) -> dict[str, float]:
    return {"n": n, "p50": p99 / 2, "abs_p99": p99}


def raw(*, requests: int = 64, cold: int = 0, errors: int = 0, stalled: int = 0, tokens: int = 2048) -> dict[str, Any]:
    """Return what the lab's bench returns, as far as it is read."""
    part = {"requests": requests, "errors": errors, "stalled": stalled, "ttft": spread(requests, 0.004)}
    part |= {"token": spread(tokens, 0.05) if tokens else None, "rtt_ms": {"p50": 20.06, "abs_p99": 21.0, "n": 64}}
    nothing = {"requests": 0}
    all_ = {**part, "requests": requests + cold}
    return {
        "all": all_,
        "warm": part,
        "cold": nothing,
        "cpu_s": 1.5,
        "startup_cpu_s": 0.5,
        "served": 100,
        "said": ["a", "last", ""],
        "least_ms": 20.03,
    }


def test_a_run_is_read_as_the_lab_scored_it() -> None:
    found = score(OURS, CELL, raw())
    assert (found.ttft_p99_ms, found.token_p99_ms, found.rtt_ms, found.true_rtt_ms) == (0.004, 0.05, 20.06, 20.03)
    assert found.cpu_ms_per_stream == pytest.approx(10.0)
    assert found.trouble is None


def test_a_request_on_a_connection_that_had_to_be_opened_anew_is_reported_too() -> None:
    assert score(OURS, CELL, raw(requests=62, cold=2)).trouble is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (raw(requests=60), "60 of 64 requests were reported without an error: last"),
        (raw(errors=1), "63 of 64 requests"),
        (raw(stalled=40), "the machine stood still during 40 of 64"),
        (raw(tokens=0), "only 0 arrivals of tokens"),
    ],
)
def test_a_run_that_says_too_little_is_no_measurement(found: dict[str, Any], words: str) -> None:
    one = score(OURS, CELL, found)
    assert words in (one.trouble or "")
    assert missed(one)


@pytest.mark.parametrize(
    ("changed", "is_missed"),
    [
        (GOOD, False),
        (replace(GOOD, ttft_p99_ms=0.021), True),
        (replace(GOOD, ttft_p99_ms=None), True),
        (replace(GOOD, token_p99_ms=0.21), True),
        (replace(GOOD, rtt_ms=19.7), True),
        (replace(GOOD, rtt_ms=None), True),
        (replace(GOOD, true_rtt_ms=None), True),
        (replace(GOOD, rtt_ms=20.5, true_rtt_ms=20.4), False),  # the path itself is late
    ],
)
def test_a_cell_is_missed_beyond_any_of_its_limits(changed: Score, is_missed: bool) -> None:  # noqa: FBT001  a table
    assert missed(changed) is is_missed


def test_under_loss_only_the_round_trip_is_held_against_the_packets() -> None:
    lossy = replace(GOOD, cell=Cell(rtt_ms=20, streams=8, loss_percent=3), ttft_p99_ms=5.0)
    assert not missed(lossy)
    assert missed(replace(lossy, rtt_ms=25.0))


@pytest.mark.parametrize(
    ("row", "misses"),
    [
        (PATH, []),
        (replace(PATH, lost=9), ["samples miscounted as lost or not"]),
        (replace(PATH, lost=11), ["samples miscounted as lost or not"]),
        (replace(PATH, median_ms=20.8), ["round trip of the rtt prober, |error|"]),
        (replace(PATH, median_ms=20.0), ["round trip of the rtt prober, |error|"]),
        (replace(PATH, median_ms=None), ["round trip of the rtt prober, |error|"]),
        (replace(PATH, true_ms=None), ["round trip of the rtt prober, |error|"]),
        (replace(PATH, method="tls", median_ms=22.0), []),
    ],
)
def test_round_trips_are_held_against_the_packets(row: RoundTrips, misses: list[str]) -> None:
    assert [finding.what for finding in of_round_trips([row]) if not finding.met] == misses


def pinged(*, sources: tuple[str, ...] = ("icmp",) * 4, lost: int = 2, sent: int = 45) -> Pinged:
    pings = {"sent": sent, "lost": lost, "median_seconds": 0.02006}
    out, back = {"packets": 182, "lost": 6}, {"packets": 176, "lost": 3}
    results = [{"pings": pings, "rtt_source": source} for source in sources]
    return Pinged(
        results=results,
        said="",
        wan={"ab": out, "ba": back},
        handshakes=9,
        lost_handshakes=8,
        handshakes_ms=20.1,
        answers_ms=20.2,
        echoes_ms=20.3,
    )


def judged(found: Pinged, method: RttMethod) -> RoundTrips:
    return round_trips.judged(found, method=method, rtt_ms=20, loss_percent=3)


def test_lost_echoes_are_those_that_the_path_dropped_less_the_packets_of_others() -> None:
    found = judged(pinged(), RttMethod.ICMP)
    assert (found.sent, found.lost, found.trouble) == (180, 8, None)
    assert found.truly_lost == (7, 9)  # two of 182 packets were none of ours


def test_lost_handshakes_are_counted_in_the_capture() -> None:
    assert judged(pinged(sources=("tcp_info_min",) * 4), RttMethod.TCP).truly_lost == (8, 8)


@pytest.mark.parametrize(
    ("method", "source", "true_ms"),
    [("tcp", "tcp_info_min", 20.1), ("http", "http", 20.2), ("icmp", "icmp", 20.3), ("tls", "tls", None)],
)
def test_each_method_is_held_against_its_own_packets(method: str, source: str, true_ms: float | None) -> None:
    assert judged(pinged(sources=(source,) * 4), RttMethod(method)).true_ms == true_ms


def test_a_method_that_measured_in_another_way_is_no_measurement() -> None:
    found = judged(pinged(sources=("tcp_info_min",) * 4), RttMethod.ICMP)
    assert found.trouble == "the prober measured by tcp_info_min instead"


def test_samples_that_were_not_taken_are_told() -> None:
    assert "135 of 180 samples" in (judged(pinged(sources=("icmp",) * 3), RttMethod.ICMP).trouble or "")


@pytest.mark.parametrize(
    ("trials", "chance", "between"),
    [(180, 0.0, (0, 0)), (180, 1.0, (180, 180)), (10, 0.5, (0, 10)), (1000, 0.5, (425, 575))],
)
def test_binomial_bounds(trials: int, chance: float, between: tuple[int, int]) -> None:
    assert bounds(trials, chance) == between


@given(trials=st.integers(1, 300), chance=st.floats(0, 1))
def test_the_expected_count_lies_within_its_bounds(trials: int, chance: float) -> None:
    least, greatest = bounds(trials, chance)
    assert 0 <= least <= trials * chance + 1
    assert trials * chance - 1 <= greatest <= trials


@given(trials=st.integers(1, 300), chances=st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_bounds_grow_with_the_chance(trials: int, chances: list[float]) -> None:
    found = [bounds(trials, chance) for chance in sorted(chances)]
    assert all(low[0] <= high[0] and low[1] <= high[1] for low, high in pairwise(found))


def test_the_more_packets_the_likelier_that_one_is_lost() -> None:
    assert touched(0.03, packets=1) == pytest.approx(0.03)
    assert touched(0.03, packets=2) == pytest.approx(0.0591)


def test_the_table_shows_ours_and_how_many_times_as_wrong_others_are() -> None:
    _, _, line = report.cells([GOOD, PEER]).splitlines()
    assert " ".join(line.split()) == "20 ms, 8 streams, plain 0.004 0.050 0.060 0.030 0 of 64 40.0 (10,000 x)"


def test_an_expectation_shows_its_worst_cell_and_how_many_meet_it() -> None:
    good = Finding(what="error", where="here", measured=0.1, at_most=0.2, unit="ms")
    found = [good, replace(good, where="there", measured=inf), replace(good, what="other", unit="")]
    assert [(one.where, count) for one, count in worst(found)] == [("there", 2), ("here", 1)]
    _, _, first, second = report.verdicts(found).splitlines()
    assert " ".join(first.split()) == "error - ms 0.2 ms there 1 of 2"
    assert " ".join(second.split()) == "other 0.100 0.2 here 1 of 1"


class FakeLab:
    """Answers with the scores it was given, one a run."""

    def __init__(self, *scores: Score) -> None:
        self.left = list(scores)

    def measure(self, _client: Client, _cell: Cell) -> Score:
        return self.left.pop(0)


def session(*scores: Score) -> Session:
    schedule = Schedule(
        cells=[CELL], beside=frozenset({CELL}), lossy=[], weighed=[], rounds=1, paths_ms=[], losses_percent=[]
    )
    clients = [Client(name=OURS, command=["ours"], judged=True), Client(name="cmd", command=["other"])]
    found = Session(schedule, clients)
    found.measure(FakeLab(*scores), ["cells"])  # type: ignore[arg-type]
    return found


BAD = replace(GOOD, ttft_p99_ms=1.0)


def test_what_is_missed_once_is_measured_again_and_what_is_missed_twice_counts() -> None:
    assert session(BAD, GOOD, PEER).met()
    twice = session(BAD, BAD, PEER)
    assert not twice.met()
    assert twice.verdict() == "FAIL: 2 of 3 met"


def test_others_are_shown_and_not_judged() -> None:
    found = session(GOOD, replace(PEER, trouble="it fell over"))
    assert found.met()
    assert found.verdict().startswith("PASS: 3 of 3 met")


def test_what_was_not_measured_is_no_success() -> None:
    nothing = replace(GOOD, trouble="no answer")
    found = session(nothing, nothing, PEER)
    assert not found.met()
    assert found.verdict() == "FAIL: 0 of 0 met, 1 not measured"


def test_json_holds_every_measurement_and_no_infinity(tmp_path: Path) -> None:
    session(replace(GOOD, rtt_ms=None), replace(GOOD, rtt_ms=None), PEER).write(tmp_path / "found")
    rows = [json.loads(line) for line in (tmp_path / "found").read_text().splitlines()]
    assert [row["kind"] for row in rows] == ["cell", "cell", "finding", "finding", "finding"]
    assert (rows[0]["cell"]["streams"], rows[-1]["measured"], rows[-1]["met"]) == (8, None, False)


def test_every_kind_of_cell_is_measured_beside_others() -> None:
    assert set(WHOLE.cells) >= WHOLE.beside
    assert set(QUICK.cells) >= QUICK.beside
    for kind in ("rtt_ms", "streams", "tls"):
        assert {getattr(cell, kind) for cell in WHOLE.beside} == {getattr(cell, kind) for cell in WHOLE.cells}
    assert all(cell.hogs == 1 for cell in WHOLE.cells)


@pytest.mark.parametrize(
    ("spans", "most"),
    [([], 0), ([(0, 1), (1, 2)], 1), ([(0, 3), (1, 2), (1.5, 4)], 3)],
)
def test_streams_at_once_are_counted_from_their_spans(spans: list[tuple[float, float]], most: int) -> None:
    assert most_at_once(spans) == most


@pytest.mark.parametrize(
    ("arguments", "words"), [(["cell"], "there are: cells"), (["--client", "requests"], "there are: aiohttp")]
)
def test_unknown_parts_and_clients_are_wrong_usage(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run.main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
