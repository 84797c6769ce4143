"""How the fleet stands: told by agents with their batches, kept in books that must balance, shown to readers."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from agent.transport import CollectorClient
from collector import admin
from collector.config import DEFAULT_KEEP_RUNS
from collector.health import Standing
from collector.store import engine
from collector.store import fleet as store_fleet
from collector.work import show_fleet
from isochrone.batch import AgentStatus, Batch, ClockReading, DropReason
from tests.collecting import AGENT, Collector, batch_of, boottime, inference_result, rtt_result, running_collector
from tests.delivery import spool_in
from tests.faults.clocks import SetClock, measured, sender_of

pytestmark = pytest.mark.anyio

RUN, NEXT_RUN = UUID(int=1), UUID(int=2)
LATE_SECONDS = 300


def told(run: UUID = RUN, **more: object) -> AgentStatus:
    """Return the word of an agent; `recorded` and `queued` are the totals that it tells."""
    fields: dict[str, object] = {"version": "1.2.3", "boot_id": run, **more}
    return AgentStatus(**fields)  # type: ignore[arg-type]


def batch(numbers: list[int], status: AgentStatus, *, run: UUID = RUN, **more: object) -> Batch:
    return batch_of([rtt_result(seq) for seq in numbers], boot_id=run, status=status, **more)


async def row(collector: Collector, *, window: str = "1h") -> dict[str, Any]:
    """Return how the agent stands."""
    answer = await collector.client.get("/v1/agents", params={"window": window})
    (found,) = [agent for agent in answer.json()["agents"] if agent["agent"] == AGENT]
    return dict(found)


def pass_time(collector: Collector, seconds: float) -> None:
    """Let time pass for the collector, and for its database: they are not found to be apart."""
    now = collector.context.utc_now
    collector.context.utc_now = lambda: now() + timedelta(seconds=seconds)
    collector.context.check_ready = ready


async def ready() -> Standing:
    return Standing(schema="any")


async def fold_books(collector: Collector) -> None:
    before = collector.context.utc_now() - DEFAULT_KEEP_RUNS
    await engine.run(collector.context.engine, store_fleet.fold_runs, before=before)


async def unexplained(collector: Collector) -> object:
    """Return the unexplained losses, once everything that was only late is here."""
    before = collector.context.utc_now
    pass_time(collector, LATE_SECONDS + 1)
    found = await row(collector)
    collector.context.utc_now = before
    return found["unexplained_lost_results"]


async def test_an_agents_word_on_itself_is_shown(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        clock = ClockReading(offset_seconds=-2.5, error_seconds=0.02, round_trip_seconds=0.04, samples=3)
        status = told(
            recorded_results=14,
            queued_results=6,
            oldest_queued_seconds=7.5,
            expected_results=20,
            missed_probes=4,
            dropped_results={DropReason.FULL: 3, DropReason.IO: 1},
            config_revision=1,
        )
        await collector.send(batch([0, 1, 2, 3], status, clock=clock))
        found = await row(collector)
    assert (found["state"], found["version"], found["credentials"]) == ("ok", "1.2.3", 1)
    assert (found["config_revision"], found["assigned_revision"]) == (1, 1)
    assert (found["queued_results"], found["oldest_queued_seconds"]) == (2, 7.5), "four of the six are here now"
    assert found["lost_results"] == {"full": 3, "io": 1}
    assert (found["clock_offset_seconds"], found["clock_error_seconds"]) == (-2.5, 0.02)
    assert found["missed_probes"] == 4
    assert found["warnings"] == ["clock"]


@pytest.mark.parametrize(
    ("silent_for", "state"),
    [(0, "ok"), (24, "ok"), (26, "late"), (44, "late"), (46, "silent"), (86_400, "silent")],
)
async def test_a_silent_agent_is_never_ok(database_url: str, silent_for: float, state: str) -> None:
    """Flush 10 s: late after two flushes and 5 s, silent after three and 15 s."""
    async with running_collector(database_url) as collector:
        await collector.send(batch([], told(recorded_results=0)))
        pass_time(collector, silent_for)
        assert (await row(collector))["state"] == state


async def test_an_agent_that_never_reported_is_silent_and_tells_nothing(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        found = await row(collector)
    assert (found["state"], found["last_report_at"], found["unexplained_lost_results"]) == ("silent", None, None)
    assert (found["queued_results"], found["clock_offset_seconds"], found["config_revision"]) == (None, None, None)


async def test_an_agent_that_just_brought_all_that_waited_is_ok(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch([0, 1], told(queued_results=2, recorded_results=2, oldest_queued_seconds=9_000.0)))
        found = await row(collector)
    assert (found["state"], found["queued_results"], found["oldest_queued_seconds"]) == ("ok", 0, None)


async def test_an_agent_whose_results_wait_for_long_is_late_though_it_reports(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch([], told(queued_results=9, oldest_queued_seconds=301.0)))
        assert (await row(collector))["state"] == "late"


async def test_an_agent_without_a_credential_is_revoked_whatever_else_it_is(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch([0], told()))
        collector.rows("UPDATE credential SET revoked_at = now() RETURNING 1")
        assert (await row(collector))["state"] == "revoked"


async def test_books_that_balance_show_no_loss(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch([0, 1], told(recorded_results=4, queued_results=4)))
        await collector.send(batch([2, 3], told(recorded_results=5, queued_results=3)))
        assert await unexplained(collector) == 0


async def test_a_number_that_never_came_is_an_unexplained_loss(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch([0, 1, 4], told(recorded_results=5, queued_results=3)))
        assert (await row(collector))["unexplained_lost_results"] == 0, "it may only be late"
        assert await unexplained(collector) == 2
        pass_time(collector, LATE_SECONDS + 1)
        await collector.send(batch([], told(recorded_results=5)))
        await show_fleet(collector.context)
        metrics = (await collector.client.get("/metrics")).text
        assert (await row(collector))["warnings"] == ["lost"]
    assert f'isochrone_agent_unexplained_lost_results{{agent="{AGENT}",agent_region="eu-central"}} 2\n' in metrics
    assert 'isochrone_agents{state="ok"} 1\n' in metrics


async def test_a_loss_at_the_beginning_and_one_at_the_end_are_seen_too(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch([2, 3], told(recorded_results=7, queued_results=3)))
        assert await unexplained(collector) == 4, "0 and 1 before, 4 or 5 or 6 after: one of these waits"


async def test_what_the_agent_tells_as_lost_is_explained(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        lost = {DropReason.FULL: 2}
        await collector.send(batch([0, 1, 4], told(recorded_results=5, queued_results=3, dropped_results=lost)))
        assert await unexplained(collector) == 0


async def test_what_the_collector_refuses_is_no_unexplained_loss_before_or_after_the_agent_tells_it(
    database_url: str,
) -> None:
    async with running_collector(database_url) as collector:
        results = [rtt_result(0), rtt_result(1, endpoint="strange")]
        sent = batch_of(results, boot_id=RUN, status=told(recorded_results=2, queued_results=2))
        assert len((await collector.send(sent)).json()["rejected"]) == 1
        assert await unexplained(collector) == 0
        lost = {DropReason.REJECTED: 1}
        await collector.send(batch([], told(recorded_results=2, dropped_results=lost)))
        assert await unexplained(collector) == 0


async def test_a_repeated_batch_counts_once_in_the_books(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        sent = batch([0, 1], told(recorded_results=4, queued_results=2))
        for _ in range(3):
            await collector.send(sent)
        assert await unexplained(collector) == 2, "a repeat must not fill the hole"


async def test_results_that_come_late_fill_the_hole(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch([0, 3], told(recorded_results=4, queued_results=2)))
        assert await unexplained(collector) == 2
        await collector.send(batch([1, 2], told(recorded_results=4, queued_results=2)))
        assert await unexplained(collector) == 0


async def test_a_run_that_was_killed_is_balanced_by_what_the_next_one_sends_and_tells(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch([0, 1], told(recorded_results=3, queued_results=3)))
        # It recorded 2, 3 and 4 and was killed; the next run found 3 and 4, and 2 damaged.
        status = told(NEXT_RUN, recorded_results=1, queued_results=3, dropped_results={DropReason.CORRUPT: 1})
        await collector.send(batch([3, 4], status, run=RUN))
        assert await unexplained(collector) == 0
        await collector.send(batch([0], told(NEXT_RUN, recorded_results=1, queued_results=1), run=NEXT_RUN))
        assert await unexplained(collector) == 0, "totals only grow: an older word takes nothing back"


async def test_an_agent_of_an_earlier_release_tells_too_little_for_books(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch([0, 5], AgentStatus(version="0.1.0")))
        assert await unexplained(collector) is None


async def test_totals_beyond_reason_break_no_books_but_the_agents_own(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        huge = dict.fromkeys(DropReason, 2**62)
        for number in range(1, 7):
            run = UUID(int=number)
            status = told(run, recorded_results=2**62, dropped_results=huge, expected_results=2**62)
            answer = await collector.send(batch([2**62], status, run=run))
            assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
        assert (await row(collector))["state"] == "ok"
        pass_time(collector, 40 * 86_400)
        for _ in range(3):
            await fold_books(collector)
        assert (await row(collector))["lost_results"] == {reason.value: 2**53 for reason in DropReason}
        assert (await collector.send(batch([1], told(UUID(int=9))))).status_code == 200


async def test_an_agent_that_claims_a_new_run_with_each_batch_does_not_fill_the_books(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_fleet, "KEPT_RUNS", 3)
    async with running_collector(database_url) as collector:
        for number in range(1, 9):
            run = UUID(int=number)
            await collector.send(batch([0, 2], told(run, recorded_results=3), run=run))
        await fold_books(collector)
        books = collector.rows("SELECT boot_id, recorded, received FROM agent_run ORDER BY boot_id")
        assert await unexplained(collector) == 8
    assert books == [(UUID(int=0), 15, 10), *((UUID(int=number), 3, 2) for number in (6, 7, 8))]


async def test_runs_long_over_are_added_up_and_the_books_stay_as_they_were(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        for number in range(3):
            run = UUID(int=10 + number)
            lost = {DropReason.FULL: number, DropReason.AGE: 1}
            await collector.send(batch([0, 1], told(run, recorded_results=5, dropped_results=lost), run=run))
            pass_time(collector, 40 * 86_400)
            await fold_books(collector)
        last = await row(collector)
        runs = collector.rows("SELECT boot_id, recorded, received, dropped FROM agent_run ORDER BY boot_id")
    assert runs == [(UUID(int=0), 10, 4, 3), (UUID(int=12), 5, 2, 3)], "but for the run that reported last"
    assert last["lost_results"] == {"full": 3, "age": 3}
    assert last["unexplained_lost_results"] == 3 * 3 - 6


async def test_coverage_is_what_came_of_what_was_called_for(database_url: str) -> None:
    """Every pair of agent-1 in an hour: near/rtt and site-1/rtt each 30 s, chat and warm each minute: 6 a minute."""
    async with running_collector(database_url) as collector:
        collector.rows("UPDATE agent SET created_at = now() - interval '1 hour' RETURNING 1")
        collector.rows("UPDATE target SET created_at = now() - interval '1 hour' RETURNING 1")
        collector.rows("UPDATE config_revision SET applied_at = now() - interval '1 hour' RETURNING 1")
        await collector.context.registry.newer_than(0.0)
        started = [inference_result(seq, started_boottime_seconds=boottime() - 60 * seq) for seq in range(10)]
        await collector.send(batch_of(started))
        half = await row(collector, window="10m")
        hour = await row(collector)
    assert (half["expected_results"], half["received_results"]) == (60, 10)
    assert half["coverage"] == pytest.approx(1 / 6, abs=0.001)
    assert hour["coverage"] == pytest.approx(1 / 36, abs=0.001)


async def test_the_command_shows_what_the_call_shows(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from collector.cli import main  # noqa: PLC0415  the command line is no part of the collector that runs here

    monkeypatch.setenv("ISOCHRONE_DATABASE_URL", database_url)
    async with running_collector(database_url) as collector:
        admin.add_agent(database_url, name="quiet", region="eu-central")
        await collector.send(batch([0, 1], told(recorded_results=9, dropped_results={DropReason.FULL: 7})))
        shown = (await collector.client.get("/v1/agents")).json()["agents"]
        assert main(["agents", "list", "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert main(["agents", "list"]) == 0
        table = capsys.readouterr().out
    assert printed == shown
    lines = {line.split()[0]: line for line in table.splitlines() if line.strip()}
    assert " ok " in lines[AGENT]
    assert "full 7" in lines[AGENT]
    assert " silent " in lines["quiet"]
    assert "never" in lines["quiet"]


@pytest.mark.parametrize("window", ["x", "0s", "32d"])
async def test_a_wrong_window_is_refused(database_url: str, window: str) -> None:
    async with running_collector(database_url) as collector:
        answer = await collector.client.get("/v1/agents", params={"window": window})
    assert answer.status_code == 422


async def test_parallel_batches_of_one_agent_leave_books_that_balance(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        runs = (RUN, NEXT_RUN)
        sent = [
            batch([2 * n, 2 * n + 1], told(runs[n % 2], recorded_results=16), run=runs[(n + 1) % 2], batch_id=uuid4())
            for n in range(16)
        ]
        answers = await asyncio.gather(*(collector.send(one) for one in sent))
        assert {answer.status_code for answer in answers} <= {200, 503}
        for one, answer in zip(sent, answers, strict=True):
            if answer.status_code == 503:
                assert (await collector.send(one)).status_code == 200
        books = collector.rows("SELECT recorded, received FROM agent_run ORDER BY boot_id")
    assert books == [(32, 16), (30, 16)]


async def test_a_segment_that_somebody_removed_is_an_unexplained_loss(database_url: str, tmp_path: Path) -> None:
    clock = SetClock()
    spool = spool_in(tmp_path / "spool", clock=clock)
    for _ in range(3):
        spool.record(measured(clock))
        spool.record(measured(clock))
        spool.flush()
    middle = spool.waiting()[1].path
    spool.close()
    middle.unlink()
    spool = spool_in(tmp_path / "spool", clock=clock)
    async with running_collector(database_url) as collector:
        client = CollectorClient(str(collector.client.base_url))
        await sender_of(spool, client, clock, token=collector.token).send_once_each()
        await client.close()
        spool.close()
        assert await unexplained(collector) == 2
        assert (await row(collector))["lost_results"] == {}


async def test_a_report_to_one_collector_is_seen_by_the_metrics_of_another(database_url: str) -> None:
    async with running_collector(database_url) as here, running_collector(database_url) as there:
        await here.send(batch([0], told(recorded_results=1)))
        await show_fleet(there.context)
        metrics = (await there.client.get("/metrics")).text
        ((reported,),) = here.rows("SELECT extract(epoch FROM received_at)::float8 FROM agent_report")
    (said,) = [line for line in metrics.splitlines() if line.startswith("isochrone_agent_last_report_timestamp")]
    assert float(said.split()[-1]) == pytest.approx(reported, abs=0.001)
    assert 'isochrone_agents{state="ok"} 1\n' in metrics
