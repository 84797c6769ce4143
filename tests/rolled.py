"""What tests of rollups share: random batches, what the rollups must then hold, and what they hold."""

import random
import struct
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg.rows import dict_row

from collector import rollup
from collector.rollup import Worked
from collector.schema import SIGNALS
from collector.stats.sketch import Sketch, sketch_of
from isochrone.batch import Batch
from isochrone.outcome import Connection, Flag, Outcome
from isochrone.result import Result
from tests.collecting import Collector, batch_of, boottime, inference_result, rtt_result

DAY = 86_400.0
KEYS = ("bucket", "agent_region_id", "target_id", "connection")
Key = tuple[datetime, int, int, int]


def aged(age: float, result: Result | None = None) -> Batch:
    """Return a batch of one result that started `age` seconds ago."""
    return batch_at([(age, result or inference_result())])


def batch_at(results: list[tuple[float, Result]]) -> Batch:
    """Return a batch of results by their age in seconds; this machine may have run for less."""
    now = boottime() + 30 * DAY
    fields = ((result, now - age) for age, result in results)
    return batch_of(
        [_replaced(result, started, seq) for seq, (result, started) in enumerate(fields)], sent_boottime_seconds=now
    )


def random_batch(rng: random.Random) -> Batch:
    """Return a batch of up to 25 results: fresh ones, some of the last hours, some of days before."""
    spread = rng.choice([60.0, 600.0, 4 * 3600.0, 2 * DAY])
    return batch_at([(rng.uniform(0, spread), _random_result(rng)) for _ in range(rng.randint(1, 25))])


def _random_result(rng: random.Random) -> Result:
    flags = rng.choice([(), (), (), (Flag.LOOP_LAG,), (Flag.RETRANSMITS,)])
    outcome = rng.choice([Outcome.OK, Outcome.OK, Outcome.OK, Outcome.TIMEOUT_TOTAL])
    common = {"flags": flags, "outcome": outcome, "reason": None if outcome is Outcome.OK else "late"}
    rtt = rng.choice([0.0, 1e-5, rng.lognormvariate(-3, 1)])
    if rng.random() < 0.3:
        return rtt_result(rtt_seconds=rtt, endpoint=rng.choice(["near", "site-1"]), **common)
    connection = rng.choice([Connection.COLD, Connection.WARM, None])
    ttft = rng.choice([None, rng.lognormvariate(-1, 1)])
    return inference_result(
        rtt_seconds=rtt,
        ttft_seconds=ttft,
        setup_seconds=0.0 if connection is Connection.WARM else 0.03,
        tokens_per_second=rng.choice([None, rng.uniform(1, 9e8), rng.uniform(1, 100)]),
        connection=connection,
        module=rng.choice(["chat", "warm"]),
        **common,
    )


def _replaced(result: Result, started: float, seq: int) -> Result:
    fields = {name: getattr(result, name) for name in result.__struct_fields__}
    return Result(**{**fields, "started_boottime_seconds": started, "seq": seq})


async def settled(collector: Collector, *, now: datetime | None = None) -> None:
    """Work off until nothing is left, hours that are not over included."""
    moment = (now or datetime.now(UTC)) + timedelta(hours=3)
    while True:
        worked: Worked = await rollup.work_off(collector.context.engine, moment)
        moment += timedelta(hours=1)
        if not (worked.minutes or worked.hours or worked.waiting.minutes):
            return


def stored(url: str, level: str) -> dict[Key, dict[str, object]]:
    """Return the rows of a level by their key, each column as it is stored."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        rows = connection.execute(f"SELECT * FROM rollup_{level}".encode()).fetchall()  # noqa: S608  a literal of tests
    return {tuple(row[name] for name in KEYS): row for row in rows}  # type: ignore[misc]  four of known types


def expected(url: str, span: timedelta) -> dict[Key, dict[str, object]]:
    """Return what a level must hold, worked out from the raw results without any of the collector's SQL."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        results = connection.execute("SELECT * FROM result").fetchall()
    groups: dict[Key, list[dict[str, object]]] = defaultdict(list)
    for row in results:
        started = row["started_at"].astimezone(UTC)
        bucket = datetime(2020, 1, 1, tzinfo=UTC) + (started - datetime(2020, 1, 1, tzinfo=UTC)) // span * span
        groups[bucket, row["agent_region_id"], row["target_id"], row["connection"] or 0].append(row)
    return {key: _counted(rows) for key, rows in groups.items()}


def _counted(rows: list[dict[str, object]]) -> dict[str, object]:
    good = [row for row in rows if row["outcome"] == 1 and row["flags"] == 0]
    pings = [row for row in rows if row["flags"] == 0 and row["pings_sent"] is not None]
    counts: dict[str, object] = {
        "probes": len(rows),
        "failures": sum(row["outcome"] != 1 for row in rows),
        "spoiled": sum(row["outcome"] == 1 and row["flags"] != 0 for row in rows),
        "pings_sent": sum(row["pings_sent"] for row in pings) if pings else None,  # type: ignore[misc]  ints
        "pings_lost": sum(row["pings_lost"] for row in pings) if pings else None,  # type: ignore[misc]  ints
    }
    for name, column in SIGNALS.items():
        counts[name] = sketch_of([single(row[column]) for row in good if row[column] is not None])
    return counts


def single(value: object) -> float:
    """Return the float4 that a driver read from its shortest decimal, whole."""
    return struct.unpack("f", struct.pack("f", value))[0]  # type: ignore[no-any-return]  a float


def sketch_in(row: dict[str, object], name: str) -> Sketch | None:
    """Return a signal of a stored row; its buckets where one value alone is stored are those of that value."""
    if row[f"{name}_min"] is None:
        return None
    lowest = single(row[f"{name}_min"])
    if row[f"{name}_count"] is None:
        assert all(row[f"{name}_{part}"] is None for part in ("sum", "max", "buckets", "counts"))
        return sketch_of([lowest])
    return Sketch(
        count=row[f"{name}_count"],  # type: ignore[arg-type]  as stored
        sum=row[f"{name}_sum"],  # type: ignore[arg-type]  as stored
        lowest=lowest,
        highest=single(row[f"{name}_max"]),
        buckets=tuple(row[f"{name}_buckets"]),  # type: ignore[arg-type]  as stored
        counts=tuple(row[f"{name}_counts"]),  # type: ignore[arg-type]  as stored
    )
