"""What a run lost before it could tell its collector, the next one tells in its name."""

from pathlib import Path
from uuid import UUID

import pytest

from agent.spool.losses import MAX_EARLIER
from agent.telemetry import Telemetry
from isochrone.batch import AgentStatus, DropReason
from tests.collecting import AGENT, batch_of, rtt_result, running_collector
from tests.delivery import fill, lab, record, spool_in
from tests.scripted_http import LittleCollector, Reply, Request

pytestmark = pytest.mark.anyio
PROBLEM = "application/problem+json"


def unheard_run(folder: Path, lost: int) -> UUID:
    """Leave what a run leaves that recorded two results, lost some, and never reached its collector."""
    telemetry = Telemetry()
    spool = spool_in(folder, telemetry=telemetry)
    record(spool, 2)
    telemetry.lost(DropReason.FULL, lost)
    spool.close()
    return spool.boot_id


async def test_the_next_run_tells_the_losses_of_those_before_it_once(tmp_path: Path) -> None:
    unheard = {unheard_run(tmp_path / "spool", lost): lost for lost in (5, 0, 3)}
    collector = LittleCollector()
    collector.faults = [Reply(503)]
    async with lab(tmp_path, collector) as here:
        await here.drained()
        collector.faults = [Reply(503)]
        await here.turns(30)
        assert (here.spool.earlier_losses, here.telemetry.dropped) == ((), {})
        own = here.spool.boot_id
    words = [batch.status for batch in collector.batches.values() if batch.status.boot_id != own]
    assert {word.boot_id: word.dropped_results for word in words} == {
        boot_id: {DropReason.FULL: lost} for boot_id, lost in unheard.items() if lost
    }
    assert len(words) == 2
    assert {word.recorded_results for word in words} == {None}, "what they recorded, it does not know"
    again = spool_in(tmp_path / "spool")
    assert again.earlier_losses == ()
    again.close()


@pytest.mark.parametrize(
    ("refusal", "kept"),
    [
        (Reply(500), 1),
        (Reply(413, b"<html>proxy</html>", "text/html"), 1),
        (Reply(422, b"{}", PROBLEM), 0),
        (Reply(409, b"{}", PROBLEM), 0),
    ],
)
async def test_losses_that_cannot_be_told_hold_back_no_result(*, tmp_path: Path, refusal: Reply, kept: int) -> None:
    old = unheard_run(tmp_path / "spool", 5)
    collector = LittleCollector()

    def not_of_that_run(request: Request) -> Reply:
        return refusal if request.batch.status.boot_id == old else collector(request)

    async with lab(tmp_path, not_of_that_run) as here:
        for _ in range(5):
            fill(here, 1)
            await here.drained()
        assert (len(here.spool.earlier_losses), here.telemetry.dropped) == (kept, {})
    assert len(collector.ids) == 2 + 5


@pytest.mark.parametrize("place", ["dropped_results", "earlier"])
async def test_totals_that_no_collector_would_take_are_not_believed(*, tmp_path: Path, place: str) -> None:
    unheard_run(tmp_path, 5)
    unheard_run(tmp_path, 4)
    file = tmp_path / "losses.json"
    wrong = file.read_bytes().replace(b'"full":5' if place == "earlier" else b'"full":4', b'"full":%d' % 2**63)
    file.write_bytes(wrong)
    spool = spool_in(tmp_path)
    assert spool.earlier_losses == ()
    spool.close()


async def test_a_run_that_ends_before_it_told_them_leaves_them_to_the_next_within_a_bound(tmp_path: Path) -> None:
    runs = [unheard_run(tmp_path / "spool", 1 + number) for number in range(MAX_EARLIER + 4)]
    spool = spool_in(tmp_path / "spool")
    assert [one.boot_id for one in spool.earlier_losses] == list(reversed(runs))[:MAX_EARLIER]
    spool.close()


async def test_told_so_the_collectors_books_balance_however_often(database_url: str) -> None:
    run, next_run = UUID(int=1), UUID(int=2)
    late_word = AgentStatus(version="1", boot_id=run, dropped_results={DropReason.FULL: 3})
    own_word = AgentStatus(version="1", boot_id=next_run, recorded_results=0)
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([rtt_result(3), rtt_result(4)], boot_id=run, status=own_word))
        for _ in range(2):
            await collector.send(batch_of([], boot_id=run, status=late_word))
        await collector.send(batch_of([], boot_id=next_run, status=own_word))
        answer = await collector.client.get("/v1/agents")
        assert collector.rows("SELECT unaccounted FROM agent_report") == [(0,)], "five recorded, two here, three told"
    (found,) = [agent for agent in answer.json()["agents"] if agent["agent"] == AGENT]
    assert found["lost_results"] == {"full": 3}
