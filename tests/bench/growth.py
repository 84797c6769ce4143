"""Whether taking a batch costs the same when the database holds millions of results as when it holds none.

Two databases on one server: one is filled by the server itself, one stays small. Their rounds alternate, so that the
machine's drift meets both. `ISOCHRONE_BENCH_MILLIONS=1,10,30` tells how far it is filled, over 30 days; 30 million take
ten minutes and 9 GB of disk.
"""

import os
import statistics
from typing import Final

import psycopg

from collector.schema import RESULT_COLUMNS
from tests.bench.expectation import Expectation
from tests.bench.ingest import PER_BATCH, Stage, checkpoint, collecting, new_stage
from tests.bench.sending import send_round
from tests.postgres import running_postgres

DEFAULT_MILLIONS: Final = "1"
DAYS: Final = 30
ROUNDS: Final = 5
BATCHES_PER_CLIENT: Final = 12
WITHIN: Final = 0.15
CHUNK: Final = 1_000_000
_AGO: Final = "(n %% 1440) * interval '1 minute' + %(day)s * interval '1 day'"
_COLUMNS: Final = ", ".join(
    f"{name} - ({_AGO})" if name in {"started_at", "received_at"} else name for name in RESULT_COLUMNS
)
_FILL: Final = (
    f"INSERT INTO result ({', '.join(RESULT_COLUMNS)}) SELECT {_COLUMNS}"  # noqa: S608  literals
    " FROM generate_series(1, %(times)s) n"
    " CROSS JOIN (SELECT * FROM result WHERE started_at > now() - interval '1 hour' LIMIT 1000) AS sample"
)


def run() -> list[Expectation]:
    """Measure at every size."""
    found = []
    with running_postgres() as server:
        small, large = (new_stage(server.new_database()) for _ in range(2))
        with collecting(small.url) as small_address, collecting(large.url) as large_address:
            pairs = ((small, small_address), (large, large_address))
            for stage, address in pairs:
                send_round(address, stage.tokens, batches=BATCHES_PER_CLIENT, per_batch=PER_BATCH)
            stored = 0
            for millions in _millions():
                fill(large.url, (millions - stored) * CHUNK)
                stored = millions
                rates = [[_rate(stage, address) for stage, address in pairs] for _ in range(ROUNDS)]
                print(f"{millions} million: {rates}")
                small_rate, large_rate = (statistics.median(rate) for rate in zip(*rates, strict=True))
                found.append(_expectation(millions, large_rate, small_rate))
    return found


def _expectation(millions: int, rate: float, reference: float) -> Expectation:
    return Expectation(
        bench="growth",
        what=f"results into a database of {millions} million",
        measured=rate,
        unit="/s",
        against="into a small one",
        reference=reference,
        at_least=1 - WITHIN,
        at_most=1 / (1 - WITHIN),
    )


def _rate(stage: Stage, address: str) -> float:
    checkpoint(stage.url)
    return send_round(address, stage.tokens, batches=BATCHES_PER_CLIENT, per_batch=PER_BATCH)


def _millions() -> list[int]:
    return sorted(map(int, os.environ.get("ISOCHRONE_BENCH_MILLIONS", DEFAULT_MILLIONS).split(",")))


def fill(url: str, count: int) -> None:
    """Add so many results, made of those that are there, spread evenly over the days before today."""
    with psycopg.connect(url, autocommit=True) as connection:
        for day in range(1, DAYS + 1):
            connection.execute("SELECT create_result_partition(current_date - %s)", [day])
            connection.execute("SELECT create_result_partition(current_date - %s)", [day + 1])
            connection.execute(_FILL.encode(), {"day": day, "times": count // DAYS // 1_000})
        connection.execute("ANALYZE result")


if __name__ == "__main__":
    for expectation in run():
        print(expectation.fields())
