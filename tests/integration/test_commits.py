"""Group commit: what comes at once shares a transaction, nobody is answered before it, nobody falls with another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import httpx
import psycopg
import pytest

from collector import admin
from collector.books import Brought, Receipt, word_of
from collector.config import Settings
from collector.errors import DatabaseUnavailable
from collector.store import engine
from collector.store.results import LedgerRow, Parcel
from isochrone.batch import AgentStatus, Batch
from tests.collecting import AGENT, QUICK, REGION, Collector, batch_of, inference_result, rtt_result, running_collector

pytestmark = pytest.mark.anyio

AGENTS = 3
PER_AGENT = 3
"""An agent may have four batches under way."""


async def crowd(collector: Collector, batches: list[tuple[str, Batch]]) -> list[asyncio.Task[httpx.Response]]:
    """Let all batches wait for a lock that somebody holds on the ledger, then free it."""
    async with held_ledger(collector):
        tasks = [asyncio.create_task(collector.send(batch, token=token)) for token, batch in batches]
        await _all_under_way(collector, len(batches))
    return tasks


async def _all_under_way(collector: Collector, count: int) -> None:
    async with asyncio.timeout(5):
        while collector.context.commits.under_way < count:  # noqa: ASYNC110  nobody tells of it but this number
            await asyncio.sleep(0.01)


@asynccontextmanager
async def held_ledger(collector: Collector) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(collector.database_url) as holder:
        await holder.execute("LOCK TABLE batch IN EXCLUSIVE MODE")
        yield holder


async def fleet(collector: Collector) -> list[str]:
    """Return the tokens of several agents."""
    tokens = [admin.add_agent(collector.database_url, name=f"one-{n}", region=REGION) for n in range(AGENTS)]
    await collector.context.registry.newer_than(0)
    return tokens


def several(tokens: list[str]) -> list[tuple[str, Batch]]:
    """Return batches of all agents, in turns."""
    numbers = range(AGENTS * PER_AGENT)
    return [
        (tokens[n % AGENTS], batch_of([inference_result(5 * n + k) for k in range(5)], boot_id=UUID(int=n % AGENTS)))
        for n in numbers
    ]


async def test_batches_that_come_at_once_share_a_transaction(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        answers = [(await task).json()["accepted"] for task in await crowd(collector, several(await fleet(collector)))]
        assert answers == [5] * AGENTS * PER_AGENT
        transactions = collector.rows("SELECT xmin::text, count(*) FROM batch GROUP BY 1")
        assert sum(int(str(count)) for _, count in transactions) == AGENTS * PER_AGENT
        assert 1 < len(transactions) <= 3, transactions
        books = collector.rows("SELECT recorded, received FROM agent_run ORDER BY 1")
        assert books == [(35 + 5 * n, 15) for n in range(AGENTS)]
        assert len(collector.rows("SELECT DISTINCT seq FROM v_result")) == 5 * AGENTS * PER_AGENT


async def test_by_agent_no_transaction_holds_two(database_url: str) -> None:
    settings = Settings(database_url=database_url, batches_per_second=QUICK, commit_by_agent=True)
    async with running_collector(database_url, settings=settings) as collector:
        tokens = await fleet(collector)
        answers = [
            (await task).json()["accepted"]
            for task in await crowd(collector, sorted(several(tokens), key=lambda one: tokens.index(one[0])))
        ]
        assert answers == [5] * AGENTS * PER_AGENT
        transactions = collector.rows("SELECT xmin::text, count(DISTINCT agent_id), count(*) FROM batch GROUP BY 1")
        assert {agents for _, agents, _ in transactions} == {1}
        assert len(transactions) < AGENTS * PER_AGENT


async def test_a_row_that_the_database_refuses_takes_no_other_batch_with_it(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await asyncio.to_thread(_execute, database_url, _refuse("result", "NEW.seq = 32"))
        answers = [(await task).json() for task in await crowd(collector, several(await fleet(collector)))]
        assert [answer["accepted"] for answer in answers] == [5] * 6 + [4] + [5] * 2
        assert [one["reason"] for answer in answers for one in answer["rejected"]] == ["unstorable"]
        assert len(collector.rows()) == 5 * AGENTS * PER_AGENT - 1


async def test_a_batch_that_the_database_refuses_whole_fails_alone(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        batches = several(await fleet(collector))
        refused = batches[5][1].batch_id
        await asyncio.to_thread(_execute, database_url, _refuse("batch", f"NEW.batch_id = '{refused}'"))
        answers = [(await task).status_code for task in await crowd(collector, batches)]
        assert answers == [200] * 5 + [503] + [200] * 3
        assert len(collector.rows()) == 5 * (AGENTS * PER_AGENT - 1)


async def test_a_request_that_is_given_up_in_the_crowd_holds_up_nobody(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        batches = several(await fleet(collector))
        async with held_ledger(collector):
            tasks = [asyncio.create_task(collector.send(batch, token=token)) for token, batch in batches]
            await _all_under_way(collector, len(batches))
            tasks[-1].cancel()
            await asyncio.gather(tasks[-1], return_exceptions=True)
        answers = [(await task).status_code for task in tasks[:-1]]
        assert answers == [200] * (AGENTS * PER_AGENT - 1)
        token, batch = batches[-1]
        again = (await collector.send(batch, token=token)).json()
        assert again["accepted"] + again["duplicate"] == 5
        assert len(collector.rows()) == 5 * AGENTS * PER_AGENT


async def test_what_is_answered_503_for_want_of_time_is_not_stored_later(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who follow `/v1/results` wait for just so long."""
    async with running_collector(database_url) as collector:
        batches = several(await fleet(collector))
        assert (await collector.send(batch_of([rtt_result(999)]))).status_code == 200
        monkeypatch.setattr(engine, "ANSWER_SECONDS", 1.0)
        async with held_ledger(collector):
            answers = await asyncio.gather(*(collector.send(batch, token=token) for token, batch in batches))
            assert {answer.status_code for answer in answers} == {503}
        monkeypatch.undo()
        assert (await collector.send(batch_of([rtt_result(1000)]))).status_code == 200  # a lane is free again
        assert [seq for (seq,) in collector.rows("SELECT seq FROM result ORDER BY seq")] == [999, 1000]


async def test_what_took_its_time_before_it_was_stored_has_only_the_rest(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that outlived the answer would be missed by those who follow."""
    async with running_collector(database_url) as collector, held_ledger(collector) as ledger:
        monkeypatch.setattr(engine, "ANSWER_SECONDS", 2.0)
        number = collector.context.runs.number

        async def slow_number(agent_id: int, boot_id: UUID) -> int:
            await asyncio.sleep(1.0)
            return await number(agent_id, boot_id)

        monkeypatch.setattr(collector.context.runs, "number", slow_number)
        assert (await collector.send(batch_of([rtt_result(1)]))).status_code == 503
        await asyncio.sleep(0.2)  # both ended at one moment; a transaction with time of its own would have 0.8 s more
        await ledger.commit()
        monkeypatch.undo()
        assert (await collector.send(batch_of([rtt_result(2)]))).status_code == 200
        assert [seq for (seq,) in collector.rows("SELECT seq FROM result ORDER BY seq")] == [2]


@asynccontextmanager
async def held_batches(collector: Collector, batches: list[Batch]) -> AsyncIterator[None]:
    """Let another collector stand still while it stores these batches."""
    ((agent_id,),) = collector.rows(f"SELECT id FROM agent WHERE name = '{AGENT}'")  # noqa: S608  a literal
    async with await psycopg.AsyncConnection.connect(collector.database_url) as holder:
        for batch in batches:
            await holder.execute(
                "INSERT INTO batch (agent_id, batch_id, boot_id, received_at, accepted, late)"
                " VALUES (%s, %s, %s, now(), 0, 0)",
                (agent_id, batch.batch_id, batch.boot_id),
            )
        yield
        await holder.rollback()


async def test_a_batch_that_another_transaction_holds_goes_apart_from_then_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(engine.SESSION_SETTINGS, "lock_timeout", "100")
    async with running_collector(database_url) as collector:
        batch = batch_of([rtt_result(1)])
        async with held_batches(collector, [batch]):
            assert (await collector.send(batch)).status_code == 503
        assert [batch_id for _, batch_id in collector.context.commits.apart] == [batch.batch_id.bytes]
        assert (await collector.send(batch)).json()["accepted"] == 1


async def test_batches_that_others_hold_take_no_lane(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in ("lock_timeout", "statement_timeout"):
        monkeypatch.setitem(engine.SESSION_SETTINGS, setting, "60000")
    monkeypatch.setattr(engine, "ANSWER_SECONDS", 60.0)
    async with running_collector(database_url) as collector:
        batches = [batch_of([rtt_result(n)]) for n in range(3)]
        ((agent_id,),) = collector.rows(f"SELECT id FROM agent WHERE name = '{AGENT}'")  # noqa: S608  a literal
        later = asyncio.get_running_loop().time() + 600
        collector.context.commits.apart.update({(int(str(agent_id)), one.batch_id.bytes): later for one in batches})
        (token, *_) = await fleet(collector)
        async with held_batches(collector, batches):
            waiting = []
            for one in batches[:2]:
                waiting.append(asyncio.create_task(collector.send(one)))
                await _waiters(collector, len(waiting))
            assert (await collector.send(batch_of([rtt_result(9)]), token=token)).status_code == 200
            assert (await collector.send(batches[2])).status_code == 503  # no room for more of these
            assert not any(task.done() for task in waiting)
        assert [(await task).json()["accepted"] for task in waiting] == [1, 1]


async def _waiters(collector: Collector, count: int) -> None:
    query = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(30):
        while len(collector.rows(query)) < count:  # noqa: ASYNC110  the server alone knows
            await asyncio.sleep(0.01)


async def test_the_books_of_a_crowd_are_those_of_one_after_the_other(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        status = AgentStatus(version="1", boot_id=UUID(int=7), recorded_results=20, queued_results=10)
        later = AgentStatus(version="2", boot_id=UUID(int=7), recorded_results=20, queued_results=5)
        tokens = await fleet(collector)
        own = [
            (tokens[0], batch_of([rtt_result(n) for n in range(first, first + 5)], boot_id=UUID(int=7), status=told))
            for first, told in ((0, status), (5, status), (10, later), (15, later))
        ]
        answers = [(await task).json()["accepted"] for task in await crowd(collector, own)]
        assert answers == [5] * 4
        assert collector.rows("SELECT recorded, received, dropped FROM agent_run") == [(20, 20, 0)]
        ((queued,),) = collector.rows("SELECT queued_results FROM agent_report")
        assert queued in {0, 5}


def _refuse(table: str, when: str) -> bytes:
    return (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF {when} THEN RAISE 'not this one' USING ERRCODE = '22003'; END IF; RETURN NEW; END $$;"
        f" CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse();"
    ).encode()


def _execute(database_url: str, statements: bytes) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(statements)


async def test_the_first_deadline_of_a_group_ends_its_transaction(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much time the transaction itself would have: nobody waits any longer, and followers count on it."""
    async with running_collector(database_url) as collector, held_ledger(collector):
        monkeypatch.setattr(engine, "ANSWER_SECONDS", 0.3)
        storing = asyncio.create_task(collector.context.commits.store(empty_parcel()))
        while not collector.context.commits.under_way:  # noqa: ASYNC110  as above
            await asyncio.sleep(0)
        monkeypatch.undo()
        with pytest.raises(DatabaseUnavailable, match="not stored within"):
            await storing


def empty_parcel() -> Parcel:
    now = datetime.now(UTC)
    batch, receipt = batch_of([]), Receipt(agent_id=1, received_at=now, flush_seconds=10)
    ledger = LedgerRow(
        agent_id=1,
        batch_id=batch.batch_id,
        boot_id=batch.boot_id,
        received_at=now,
        accepted=0,
        late=0,
        rejected=None,
    )
    return Parcel(ledger=ledger, rows=[], word=word_of(batch, Brought(stored=0, refused=0, recorded=0), receipt))
