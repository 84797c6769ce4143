"""Reading rollups: whatever levels answer, it is what the raw results say; and the command that makes them anew."""

import json
import random
from datetime import UTC, datetime, timedelta

import pytest

from collector.cli import main
from collector.stats.sketch import sketch_of
from collector.store import rollups
from collector.store.engine import run
from collector.store.rollups import Asked, Filters, Merged, Span
from isochrone.outcome import Connection, Outcome, Prober
from tests.collecting import REGION, Collector, inference_result, rtt_result, running_collector
from tests.rolled import aged, batch_at, settled, single, stored

pytestmark = pytest.mark.anyio
ASKED = Asked(quantiles=("ttft",), means=("rtt",))


async def read(collector: Collector, span: Span, filters: Filters | None = None) -> list[Merged]:
    return await run(
        collector.context.engine,
        rollups.read_merged,
        span,
        filters=filters or Filters(),
        asked=ASKED,
        now=datetime.now(UTC),
    )


async def test_a_span_of_hours_and_minutes_holds_every_result_once(database_url: str) -> None:
    rng = random.Random(5)  # noqa: S311  no secret
    async with running_collector(database_url) as collector:
        results = [(rng.uniform(0, 5 * 3600), inference_result(ttft_seconds=rng.uniform(0.1, 3))) for _ in range(200)]
        await collector.send(batch_at(results))
        await settled(collector)
        now = datetime.now(UTC)
        for hours in (0.4, 1.7, 4.3):
            span = Span(since=now - timedelta(hours=hours), until=now)
            since = span.since.replace(second=0, microsecond=0)
            values = collector.rows(f"SELECT ttft_seconds FROM result WHERE started_at >= '{since}'")  # noqa: S608  ours
            wanted = sketch_of([single(value) for (value,) in values])
            (row,) = await read(collector, span)
            assert wanted is not None
            found = row.signals["ttft"]
            assert (row.probes, found.count) == (len(values), wanted.count)
            assert (found.buckets, found.counts) == (wanted.buckets, wanted.counts)
            assert found.sum == pytest.approx(wanted.sum)
            assert row.signals["rtt"].mean == pytest.approx(0.01)
            by_minute = await read(collector, Span(since=span.since, until=now, step=timedelta(minutes=1)))
            assert sum(one.probes for one in by_minute) == row.probes
            named = Filters(agent_region=REGION, endpoint="near")
            assert await read(collector, span, named) == [row], "with names, the rows are found another way"


async def test_filters_choose_and_what_is_not_there_is_empty(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        failed = inference_result(outcome=Outcome.CONNECT, reason="refused", connection=None, ttft_seconds=None)
        warm = inference_result(module="warm", connection=Connection.WARM)
        results = [inference_result(), warm, failed, rtt_result(), rtt_result(endpoint="site-1")]
        await collector.send(batch_at([(60.0, one) for one in results]))
        await settled(collector)
        span = Span(since=datetime.now(UTC) - timedelta(minutes=10), until=datetime.now(UTC))
        rows = await read(collector, span)
        assert [(one.endpoint, one.prober, one.connection, one.probes, one.failures) for one in rows] == [
            ("near", "rtt", "cold", 1, 0),
            ("near", "inference", "cold", 2, 1),
            ("near", "inference", "warm", 1, 0),
            ("site-1", "rtt", "cold", 1, 0),
        ]
        assert (rows[0].sent, rows[0].lost, rows[1].sent) == (5, 1, None)
        chosen = {
            "prober": Filters(prober=Prober.RTT),
            "endpoint": Filters(endpoint="site-1"),
            "connection": Filters(connection=Connection.WARM),
            "module": Filters(module="chat"),
            "model": Filters(model="model-1", prober=Prober.RTT),
        }
        counts = {name: len(await read(collector, span, filters)) for name, filters in chosen.items()}
        assert counts == {"prober": 2, "endpoint": 1, "connection": 1, "module": 1, "model": 1}
        for filters in (Filters(endpoint="nobody"), Filters(agent_region="nowhere"), Filters(model="none")):
            assert await read(collector, span, filters) == []
        long_ago = datetime.now(UTC) - timedelta(days=900)
        assert await read(collector, Span(since=long_ago, until=long_ago + timedelta(days=1))) == []


async def test_the_command_rebuilds_and_says_what_it_did(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ISOCHRONE_DATABASE_URL", database_url)
    async with running_collector(database_url) as collector:
        await collector.send(batch_at([(26 * 3600.0, inference_result()), (60.0, inference_result())]))
        await settled(collector)
        kept = stored(database_url, "minute")
        collector.rows("DELETE FROM rollup_minute RETURNING 1")
    assert main(["rollups", "rebuild", "--json"]) == 0
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert (told["minute_rows"], told["hour_rows"], told["sealed_hours"]) == (2, 2, 0)
    assert f"24 of {told['hours']} hours" in printed.err
    assert stored(database_url, "minute") == kept
    today = datetime.now(UTC).date()  # its first hours: the results may stand in them, or not
    assert main(["rollups", "rebuild", "--since", f"{today}T00:30", "--until", f"{today}T01:30"]) == 0
    assert f"{today}T00:00Z to {today}T02:00Z: 2 hours, " in capsys.readouterr().out
    assert main(["rollups", "rebuild", "--since", "2020-01-01T10:30", "--until", "2020-01-01T11:30"]) == 0
    assert ": 0 hours, 0 rows of minutes, 0 rows of hours" in capsys.readouterr().out


def test_a_wrong_span_is_told_in_one_line(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ISOCHRONE_DATABASE_URL", database_url)
    assert main(["rollups", "rebuild", "--since", "2026-01-02", "--until", "2026-01-01"]) == 2
    assert "is not after" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["rollups", "rebuild", "--since", "yesterday"])
    assert ended.value.code == 2
    assert "is no time" in capsys.readouterr().err


async def test_a_result_is_read_as_soon_as_its_minute_is_worked_off(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(aged(0))
        await settled(collector)
        now = datetime.now(UTC)
        assert [one.probes for one in await read(collector, Span(since=now - timedelta(minutes=15), until=now))] == [1]
