"""Lines: what the database merges and ranks is what the sketches say, merged one by one."""

import math
import random
from datetime import UTC, datetime, timedelta

import pytest

from collector.stats.sketch import Sketch, merge, quantile, within
from collector.store import lines, rollups
from collector.store.engine import run
from collector.store.lines import Line
from collector.store.rollups import Filters, Merged, Span
from isochrone.outcome import Connection, Prober
from tests.collecting import REGION, Collector, running_collector
from tests.rolled import random_batch, settled

pytestmark = pytest.mark.anyio
RANKS = (0.0, 0.5, 0.95, 0.99, 1.0)
Names = tuple[object, ...]


async def filled(collector: Collector, *, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  no secret
    for _ in range(25):
        assert (await collector.send(random_batch(rng))).status_code == 200
    await settled(collector)


async def read(
    collector: Collector, span: Span, filters: Filters, *, signal: str, by_hour: bool = False
) -> tuple[dict[Names, Line], dict[Names, dict[int, list[Merged]]]]:
    """Return the lines, and what they are made of by step, each by its names."""
    engine, now = collector.context.engine, datetime.now(UTC)
    asked = lines.Asked(signal=signal, ranks=RANKS, by_hour=by_hour)
    found = await run(engine, lines.read_lines, span, filters=filters, asked=asked, now=now, minutes_since=None)
    whole = rollups.Asked(quantiles=(signal,))
    parts: dict[Names, dict[int, list[Merged]]] = {}
    for one in await run(engine, rollups.read_merged, span, filters=filters, asked=whole, now=now):
        at = one.at.astimezone(UTC)
        step = at.hour if by_hour else round(at.timestamp())
        parts.setdefault(_names(one), {}).setdefault(step, []).append(one)
    by_names = {_names(line): line for line in found}
    assert len(by_names) == len(found), "two modules of one endpoint are one line"
    return by_names, parts


def _names(one: Line | Merged) -> Names:
    return one.agent_region, one.endpoint, one.model, one.connection, one.prober


def check(line: Line, parts: dict[int, list[Merged]], signal: str) -> None:
    assert line.at == sorted(parts)
    for place, step in enumerate(line.at):
        ones = parts[step]
        for name in ("probes", "failures", "spoiled"):
            assert getattr(line, name)[place] == sum(getattr(one, name) for one in ones)
        for name in ("sent", "lost"):
            known = [value for one in ones if (value := getattr(one, name)) is not None]
            assert getattr(line, name)[place] == (sum(known) if known else None)
        _check_values(line, place, merge(one.signals.get(signal) for one in ones))


def _check_values(line: Line, place: int, sketch: Sketch | None) -> None:
    if sketch is None:
        values = (line.count, line.sum, line.lowest, line.highest, *line.buckets.values())
        assert all(column[place] is None for column in values)
        return
    low, high, total = line.lowest[place], line.highest[place], line.sum[place]
    assert (line.count[place], low, high) == (sketch.count, sketch.lowest, sketch.highest)
    assert total is not None
    assert math.isclose(total, sketch.sum, rel_tol=1e-9)
    for rank, buckets in line.buckets.items():
        bucket = buckets[place]
        assert bucket is not None
        assert low is not None
        assert high is not None
        assert within(bucket, lowest=low, highest=high) == quantile(sketch, rank)


@pytest.mark.parametrize("signal", ["rtt", "ttft", "tokens_per_second"])
async def test_a_line_says_step_by_step_what_its_sketches_say(database_url: str, signal: str) -> None:
    async with running_collector(database_url) as collector:
        await filled(collector, seed=7)
        now = datetime.now(UTC)
        for step, hours in ((timedelta(minutes=5), 6), (timedelta(hours=1), 50), (timedelta(days=1), 50)):
            for filters in (
                Filters(),
                Filters(agent_region=REGION, endpoint="near"),
                Filters(endpoint="near", connection=Connection.COLD, prober=Prober.INFERENCE),
                Filters(module="warm"),
            ):
                span = Span(since=now - timedelta(hours=hours), until=now, step=step)
                found, parts = await read(collector, span, filters, signal=signal)
                assert found.keys() == parts.keys()
                for names, line in found.items():
                    check(line, parts[names], signal)


async def test_by_hour_of_day_the_days_are_merged(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await filled(collector, seed=8)
        now = datetime.now(UTC)
        span = Span(since=now - timedelta(hours=50), until=now, step=timedelta(hours=1))
        found, parts = await read(collector, span, Filters(), signal="ttft", by_hour=True)
        assert found.keys() == parts.keys()
        assert any(len(ones) > 1 for steps in parts.values() for ones in steps.values())
        for names, line in found.items():
            check(line, parts[names], "ttft")


async def test_names_that_nobody_has_give_no_line(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await filled(collector, seed=9)
        now = datetime.now(UTC)
        span = Span(since=now - timedelta(hours=6), until=now, step=timedelta(minutes=1))
        for filters in (Filters(endpoint="nobody"), Filters(agent_region="nowhere", endpoint="near")):
            assert await read(collector, span, filters, signal="ttft") == ({}, {})
