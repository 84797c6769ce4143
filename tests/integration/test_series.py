"""`/v1/series` and long summaries, from the rollups: the same numbers as the results have, within the stated error."""

import statistics
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count

import psycopg
import pytest

from collector.api import kept
from collector.config import Settings
from collector.stats.sketch import RELATIVE_ERROR
from isochrone.outcome import Connection, Flag, Outcome
from tests.collecting import Collector, batch_of, boottime, inference_result, rtt_result, running_collector

pytestmark = pytest.mark.anyio

NEAR = {"agent_region": "eu-central", "endpoint": "near", "model": "model-1", "connection": "cold"}
UPTIME_SECONDS = 1e6
"""More than this machine has been up: results of yesterday have a time on its clock."""


async def series(collector: Collector, **query: object) -> Mapping[str, object]:
    answer = await collector.client.get("/v1/series", params=query)
    assert answer.status_code == 200, answer.text
    body: Mapping[str, object] = answer.json()
    return body


async def only(collector: Collector, **query: object) -> dict[str, object]:
    found = await series(collector, **query)
    lines = found["series"]
    assert isinstance(lines, list)
    (line,) = lines
    return dict(line)


async def send_hours(collector: Collector, hours: int, *, each: int = 10) -> dict[datetime, list[float]]:
    """Send results of the last hours with TTFTs that rise; return them by the hour in which they started."""
    seqs, found = count(), {}
    now, ticks = datetime.now(UTC), boottime() + UPTIME_SECONDS
    for hour in range(hours):
        start = now.replace(minute=30, second=0, microsecond=0) - timedelta(hours=hour + 1)
        ages = [(now - start).total_seconds() - 10 * n for n in range(each)]
        ttfts = [0.1 * (n + 1) * (hour + 1) for n in range(each)]
        results = [
            inference_result(next(seqs), started_boottime_seconds=ticks - age, ttft_seconds=ttft)
            for age, ttft in zip(ages, ttfts, strict=True)
        ]
        sent = await collector.send(batch_of(results, sent_boottime_seconds=boottime() + UPTIME_SECONDS))
        assert sent.json()["accepted"] == each
        found[start.replace(minute=0)] = ttfts
    await collector.roll_up()
    return found


async def test_a_series_tells_each_step_within_the_stated_error(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        sent = await send_hours(collector, 4)
        names = ("p50", "p95", "mean", "min", "max", "count", "probes", "failures", "success_ratio")
        line = await only(collector, signal="ttft", window="6h", step="1h", statistic=list(names), **NEAR)
        finest = await only(collector, signal="ttft", window="6h", step="1m", statistic="count")
    assert {name: line[name] for name in NEAR} == NEAR
    assert [datetime.fromisoformat(str(at)) for at in line["at"]] == sorted(sent)
    told = line["statistics"]
    assert list(told) == list(names)
    for index, hour in enumerate(sorted(sent)):
        values = sorted(sent[hour])
        assert told["p50"][index] == pytest.approx(values[4], rel=RELATIVE_ERROR)
        assert told["p95"][index] == pytest.approx(values[9], rel=RELATIVE_ERROR)
        assert told["mean"][index] == pytest.approx(statistics.fmean(values), rel=1e-5)
        assert (told["min"][index], told["max"][index]) == pytest.approx((values[0], values[-1]), rel=1e-5)
        assert (told["count"][index], told["probes"][index], told["failures"][index]) == (10, 10, 0)
        assert told["success_ratio"][index] == 1
    assert sum(finest["statistics"]["count"]) == 40
    assert len(finest["at"]) == 8, "ten results every ten seconds fall into two minutes"


async def test_by_hour_of_day_the_days_are_laid_upon_each_other(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        sent = await send_hours(collector, 26, each=2)
        line = await only(collector, signal="ttft", by="hour_of_day", statistic=["count", "max"])
    by_hour: dict[int, list[float]] = {}
    for hour, values in sent.items():
        by_hour.setdefault(hour.hour, []).extend(values)
    assert line["at"] is None
    assert line["hour_of_day"] == sorted(by_hour)
    assert line["statistics"]["count"] == [len(by_hour[hour]) for hour in sorted(by_hour)]
    assert line["statistics"]["max"] == pytest.approx([max(by_hour[hour]) for hour in sorted(by_hour)], rel=1e-5)


async def test_failures_spoiled_results_and_lost_round_trips_are_counted_and_have_no_value(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        failed = inference_result(1, outcome=Outcome.AUTH, reason="401", connection=None)
        spoiled = inference_result(2, flags=(Flag.LOOP_LAG,), ttft_seconds=9.0)
        await collector.send(batch_of([inference_result(0), failed, spoiled, rtt_result(3), rtt_result(4)]))
        await collector.roll_up()
        names = ["probes", "failures", "spoiled", "count", "p95", "success_ratio", "sent"]
        streams = await only(collector, signal="ttft", prober="inference", statistic=names)
        trips = await only(collector, signal="rtt", prober="rtt", statistic=["sent", "lost", "p50"])
        both = await series(collector, signal="rtt")
        empty = await only(collector, signal="ttft", prober="rtt", statistic=["count", "mean"])
    told = {name: values[0] for name, values in streams["statistics"].items()}
    assert told.pop("p95") == pytest.approx(0.3, rel=RELATIVE_ERROR)
    assert told == {"probes": 3, "failures": 1, "spoiled": 1, "count": 1, "success_ratio": 1 - 1 / 3, "sent": None}
    assert trips["statistics"] == {"sent": [10], "lost": [2], "p50": [pytest.approx(0.1, rel=RELATIVE_ERROR)]}
    assert [line["prober"] for line in both["series"]] == ["inference", "rtt"]
    assert empty["statistics"] == {"count": [0], "mean": [None]}


async def test_the_step_is_chosen_by_the_span_and_falls_on_whole_ones(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        for window, expected, level in (
            ("1h", 60, "minute"),
            ("1d", 300, "minute"),
            ("7d", 3_600, "hour"),
            ("90d", 21_600, "hour"),
            ("1000d", 86_400, "hour"),
        ):
            found = await series(collector, signal="ttft", window=window)
            assert (found["step_seconds"], found["level"]) == (expected, level), window
            since = datetime.fromisoformat(str(found["since"]))
            assert since.timestamp() % expected == 0


REFUSED = (
    ({}, "signal"),
    ({"signal": "speed"}, "'rtt', 'ttft'"),
    ({"signal": "ttft", "statistic": "p90"}, "'p95'"),
    ({"signal": "ttft", "step": "7m"}, "this span has: 1m, 5m, 15m, 1h, 6h, 1d"),
    ({"signal": "ttft", "window": "30d", "step": "1m"}, "this span has: 1h, 6h, 1d"),
    ({"signal": "ttft", "window": "2000d"}, "between 1s and 1830d"),
    ({"signal": "ttft", "by": "weekday"}, "hour_of_day"),
    ({"signal": "ttft", "by": "hour_of_day", "window": "93d"}, "between 1s and 92d"),
    ({"signal": "ttft", "by": "hour_of_day", "step": "1h"}, "leave it out"),
    ({"signal": "ttft", "agent_region": "mars"}, "there is eu-central"),
    ({"signal": "ttft", "outcome": "ok"}, "there is no parameter 'outcome'"),
)


async def test_what_is_wrong_is_told_with_what_would_be_right(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        for query, said in REFUSED:
            answer = await collector.client.get("/v1/series", params=query)
            assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
            assert said in answer.json()["detail"]


async def test_more_values_than_an_answer_holds_are_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.api.series.MAX_VALUES", 100)
    async with running_collector(database_url) as collector:
        for query, status in (({}, 422), ({"step": "1h", "endpoint": "near"}, 200)):
            answer = await collector.client.get("/v1/series", params={"signal": "ttft", **query})
            assert answer.status_code == status, answer.text
            assert status == 200 or "4 series of 28" in answer.json()["detail"]


async def test_minutes_that_retention_took_are_not_offered(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        with psycopg.connect(database_url) as connection:
            connection.execute("UPDATE rollup_horizon SET since = now() - interval '2 days' WHERE level = 'minute'")
        chosen = await series(collector, signal="ttft", window="3d")
        answer = await collector.client.get("/v1/series", params={"signal": "ttft", "window": "3d", "step": "15m"})
    assert chosen["step_seconds"] == 3_600
    assert "this span has: 1h, 6h, 1d" in answer.json()["detail"]


async def test_a_long_summary_says_what_a_short_one_says(database_url: str) -> None:
    """Of the same results: counts alike, values within the stated error."""
    async with running_collector(database_url) as collector:
        ttfts = [0.1 * n for n in range(1, 21)]
        results = [inference_result(n, ttft_seconds=ttft) for n, ttft in enumerate(ttfts)]
        failed = inference_result(30, outcome=Outcome.DNS, reason="no such name", connection=None)
        warm = inference_result(31, module="warm", connection=Connection.WARM)
        spoiled = inference_result(32, ttft_seconds=60.0, flags=(Flag.BUFFERED,))
        trips = [rtt_result(33), rtt_result(34, outcome=Outcome.CONNECT, reason="refused", rtt_seconds=None)]
        await collector.send(batch_of([*results, failed, warm, spoiled, *trips, rtt_result(35, endpoint="site-1")]))
        await collector.roll_up()
        short = (await collector.client.get("/v1/summary", params={"window": "15m"})).json()["rows"]
        long = (await collector.client.get("/v1/summary", params={"window": "1d"})).json()["rows"]
    assert len(short) == len(long) == 3
    for one, other in zip(short, long, strict=True):
        values = ("rtt_seconds", "ttft_seconds", "tokens_per_second", "components")
        for name in values:
            # The median of an even count lies between two values there, and is the lower one here.
            assert (one[name] is None) == (other[name] is None)
            for key, value in (one[name] or {}).items():
                assert other[name][key] == pytest.approx(value, rel=0.1), (name, key)
        unlike = {*values, "coverage", "efficiency"}
        assert {key: value for key, value in one.items() if key not in unlike} == {
            key: value for key, value in other.items() if key not in unlike
        }
    assert (long[0]["probes"], long[0]["failures"], long[0]["spoiled"]) == (22, 1, 1)


async def test_a_summary_is_kept_and_made_anew_while_somebody_asks(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "RENEW_SECONDS", 0.2)
    async with running_collector(database_url) as collector:
        assert (await collector.client.get("/v1/summary", params={"window": "15m"})).json()["rows"] == []
        await collector.send(batch_of([inference_result(0)]))
        first = (await collector.client.get("/v1/summary", params={"window": "15m"})).json()
        assert first["rows"][0]["probes"] == 1, "an answer without rows is not kept"
        await collector.send(batch_of([inference_result(1)]))
        for _ in range(600):
            again = (await collector.client.get("/v1/summary", params={"window": "15m"})).json()
            if again["rows"][0]["probes"] == 2:
                break
        assert again["as_of"] > first["as_of"]


async def test_a_kept_summary_asks_nothing_of_the_database(database_url: str) -> None:
    settings = Settings(database_url=database_url)
    async with running_collector(database_url, settings=settings) as collector:
        await collector.send(batch_of([inference_result(0)]))
        first = await collector.client.get("/v1/summary", params={"window": "15m"})
        with psycopg.connect(database_url) as connection:
            connection.execute("LOCK TABLE endpoint IN ACCESS EXCLUSIVE MODE")
            second = await collector.client.get("/v1/summary", params={"window": "15m"})
            connection.rollback()
    assert first.content == second.content


async def test_a_long_series_up_to_now_is_kept_and_one_between_moments_is_made(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await send_hours(collector, 2)
        since = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        answers = []
        for _ in range(2):
            for query in ({"window": "24h"}, {}, {"window": "11h"}, {"since": since}):
                answer = await collector.client.get("/v1/series", params={"signal": "ttft", **query})
                assert answer.json()["series"], query
                answers.append(answer.content)
        unknown = await collector.client.get("/v1/series", params={"signal": "ttft", "window": "24h", "model": "none"})
    assert unknown.status_code == 422
    assert [one == other for one, other in zip(answers[:4], answers[4:], strict=True)] == [True, True, False, False]
