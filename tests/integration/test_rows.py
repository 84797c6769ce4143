"""A row says nothing twice, and v_result says everything."""

import psycopg
import pytest
from psycopg.rows import dict_row

from collector.schema import SAME, result
from isochrone.wire import full_json
from tests.collecting import batch_of, running_collector
from tests.oracle import differences, read_printed
from tests.rows import any_results

pytestmark = pytest.mark.anyio

COUNT = 1_500


async def test_whatever_a_result_holds_or_lacks_comes_back(database_url: str) -> None:
    results = any_results(COUNT, seed=1)
    batch = batch_of(results)
    async with running_collector(database_url) as collector:
        answer = (await collector.send(batch)).json()
        assert (answer["accepted"], answer["rejected"]) == (COUNT, [])
    lines = read_printed("\n".join(full_json(one, boot_id=str(batch.boot_id)).decode() for one in results))
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        rows = connection.execute("SELECT * FROM v_result").fetchall()
        bits = connection.execute("SELECT bit_or(same) AS bits, count(started_at_agent) AS far FROM result").fetchone()
    assert len(rows) == COUNT
    for row in rows:
        line = lines[str(row["boot_id"]), row["seq"]]
        assert differences(line, row) == [], (line, row)
    # Each rule was used, and so was the column for clocks that are wrong by much.
    assert bits is not None
    assert bits["bits"] == 2 ** len(SAME) - 1
    assert 0 < bits["far"] < COUNT


def test_the_bitmap_of_a_row_takes_no_more_than_nine_bytes() -> None:
    """Header and bitmap fill 32 bytes; one column more than 72 adds eight to every row."""
    assert len(result.columns) <= 72


async def test_a_run_has_one_number_at_every_collector(database_url: str) -> None:
    async with running_collector(database_url) as first:
        await first.send(batch_of(any_results(1, seed=2)))
        async with running_collector(database_url) as second:
            await second.send(batch_of(any_results(1, seed=3)))
            await first.send(batch_of(any_results(1, seed=4)))
        assert first.rows("SELECT count(*), count(DISTINCT run_id), count(boot_id) FROM result") == [(3, 1, 0)]
        assert first.rows("SELECT count(*) FROM run") == [(1,)]
