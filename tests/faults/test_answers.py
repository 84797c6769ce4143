"""Each answer of a collector has its action: what is kept, what is halved, and how long the agent waits.

The server is real, the waiting is not: `Patience` moves the agent's clock.
"""

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from agent.errors import ConfigError
from agent.push.sender import CREDENTIAL_CHECK_SECONDS
from isochrone.batch import DropReason, Rejected
from isochrone.wire import encode_ack
from tests.delivery import TOKEN, Lab, fill, lab, record
from tests.scripted_http import LittleCollector, Reply, Request, ack_for

pytestmark = pytest.mark.anyio
PROBLEM = "application/problem+json"
HOUR = 3_600.0
SPLAY = 15.0
"""The first wait after a success, with dice that always show the middle."""


def revoked() -> Reply:
    return Reply(403, b'{"type":"urn:isochrone:problem:revoked","detail":"ask for a new one"}', PROBLEM)


def elapsed(here: Lab) -> float:
    return here.patience.clock.moved


@pytest.mark.parametrize(
    ("status", "retry_after", "low", "high"),
    [
        (301, None, SPLAY, SPLAY),
        (401, None, 45, 45),
        (403, None, 45, 45),
        (404, None, SPLAY, SPLAY),
        (405, None, SPLAY, SPLAY),
        (408, None, SPLAY, SPLAY),
        (425, None, SPLAY, SPLAY),
        (429, "20", 20, 25),
        (500, "600", SPLAY, SPLAY),
        (501, None, SPLAY, SPLAY),
        (503, None, SPLAY, SPLAY),
        (503, "5", SPLAY, SPLAY),
        (503, "100", 100, 125),
        (503, "date", 80, 125),
        (503, "-1", SPLAY, SPLAY),
        (503, "1000000000", HOUR, 1.25 * HOUR),
        (503, "abc", SPLAY, SPLAY),
    ],
)
async def test_f38_every_refusal_keeps_the_batch_and_waits_as_it_should(
    *, tmp_path: Path, status: int, retry_after: str | None, low: float, high: float
) -> None:
    def refuse(_: Request) -> Reply:
        date = (datetime.now(UTC) + timedelta(seconds=100)).strftime("%a, %d %b %Y %H:%M:%S GMT")
        value = date if retry_after == "date" else retry_after
        return Reply(status, headers={} if value is None else {"retry-after": value})

    async with lab(tmp_path, refuse) as here:
        fill(here, 3)
        (wait,) = await here.attempts(1)
        assert wait is not None
        assert low - 0.01 <= wait <= high + 0.01
        assert (here.spool.queued_results, here.telemetry.dropped) == (3, {})


@pytest.mark.parametrize("status", [400, 415, 422])
async def test_f38_a_refused_envelope_is_halved_and_the_halves_have_the_same_ids_after_a_restart(
    tmp_path: Path, status: int
) -> None:
    sent: list[list[UUID]] = [[], []]
    for run, ids in enumerate(sent):

        def refuse(request: Request, ids: list[UUID] = ids) -> Reply:
            if not request.batch.results:
                return Reply(body=encode_ack(ack_for(request.batch)))
            ids.append(request.batch.batch_id)
            return Reply(status, b"{}", PROBLEM)

        async with lab(tmp_path / str(run), refuse) as here:
            if run == 0:
                fill(here, 8)
                whole = here.spool.waiting()[0]
                (tmp_path / "1" / "spool").mkdir(parents=True)
                (tmp_path / "1" / "spool" / whole.path.name).write_bytes(whole.path.read_bytes())
            await here.turns(3)
    assert sent[0] == sent[1]
    assert len(set(sent[0])) == 3


@pytest.mark.parametrize("results", [1, 8])
async def test_f38_a_collector_that_takes_no_envelope_at_all_costs_no_result(*, tmp_path: Path, results: int) -> None:
    collector = LittleCollector()
    collector.faults = [Reply(422, b"{}", PROBLEM)] * 60
    async with lab(tmp_path, collector) as here:
        batch_id = fill(here, results)
        await here.turns(30)
        assert collector.faults == []
        assert [sealed.batch_id for sealed in here.spool.waiting()] == [batch_id], "no file for each result either"
        await here.drained()
        assert here.telemetry.dropped == {}
    assert len(collector.ids) == results


async def test_f39_too_large_a_batch_converges_by_halving_and_one_poisoned_result_is_isolated(tmp_path: Path) -> None:
    collector = LittleCollector()
    refused = 0

    def picky(request: Request) -> Reply:
        nonlocal refused
        if any(result.seq == 77 for result in request.batch.results):
            refused += 1
            return Reply(413, b"{}", PROBLEM)
        return collector(request)

    async with lab(tmp_path, picky) as here:
        fill(here, 128)
        await here.drained()
        assert here.telemetry.dropped == {DropReason.REJECTED: 1}
        (aside,) = (tmp_path / "spool" / "rejected").iterdir()
        assert json.loads(aside.read_bytes())["seq"] == 77
    assert refused <= math.log2(128) + 1
    assert sorted(seq for _, seq in collector.ids) == [seq for seq in range(128) if seq != 77]


async def test_f40_a_batch_that_fails_for_ever_holds_nothing_back_for_two_minutes(tmp_path: Path) -> None:
    collector = LittleCollector()
    poisoned: list[UUID] = []
    lateness: list[float] = []

    def not_that_one(request: Request) -> Reply:
        return Reply(500) if request.batch.batch_id in poisoned else collector(request)

    async with lab(tmp_path, not_that_one) as here:
        older = {fill(here, 1), fill(here, 1)}
        poisoned.append(fill(here, 1))
        for _ in range(40):
            batch_id = fill(here, 1)
            since = elapsed(here)
            for _ in range(100):
                if batch_id not in collector.batches:
                    await here.sender.turn()
            lateness.append(elapsed(here) - since)
            await here.turns(2)
        assert [sealed.batch_id for sealed in here.spool.waiting()] == poisoned
        assert older < collector.batches.keys()
        assert here.sender.attempts[poisoned[0]] > 10, "it was tried all the while"
    assert max(lateness) < 120


async def test_f41_what_an_acknowledgement_rejects_is_counted_and_kept_aside_and_the_rest_is_done(
    tmp_path: Path,
) -> None:
    def two_of_five(request: Request) -> Reply:
        named = tuple(Rejected(seq=index, reason="no", index=index) for index in (1, 3))
        return Reply(body=encode_ack(msgspec.structs.replace(ack_for(request.batch), accepted=3, rejected=named)))

    async with lab(tmp_path, two_of_five) as here:
        fill(here, 5)
        assert await here.attempts(1) == [None]
        assert (here.spool.waiting(), here.telemetry.dropped) == ([], {DropReason.REJECTED: 2})
        (aside,) = (tmp_path / "spool" / "rejected").iterdir()
        assert [json.loads(line)["seq"] for line in aside.read_bytes().splitlines()] == [1, 3]


async def test_f42_an_hour_of_refused_credentials_costs_few_requests_and_no_result(tmp_path: Path) -> None:
    collector = LittleCollector()
    asked: list[float] = []
    labs: list[Lab] = []

    def answer(request: Request) -> Reply:
        asked.append(elapsed(labs[0]))
        return Reply(401, b"{}", PROBLEM) if asked[-1] < HOUR else collector(request)

    async with lab(tmp_path, answer) as here:
        labs.append(here)
        fill(here, 1)
        while not collector.batches:
            record(here.spool, 1)
            await here.sender.turn()
        here.spool.flush()
        await here.drained()
        assert (here.spool.queued_results, here.telemetry.dropped) == (0, {})
    assert sum(moment < HOUR for moment in asked) <= 20
    seqs = sorted(seq for _, seq in collector.ids)
    assert seqs == list(range(len(seqs)))


async def test_f43_one_success_between_failures_does_not_make_the_waits_short_again(tmp_path: Path) -> None:
    collector = LittleCollector()
    requests = 0

    def flapping(request: Request) -> Reply:
        nonlocal requests
        requests += 1
        return Reply(503) if requests % 2 else collector(request)

    async with lab(tmp_path, flapping) as here:
        waits = []
        for _ in range(8):
            fill(here, 1)
            waits += [wait for wait in await here.attempts(2) if wait is not None]
        assert waits[1:7] == pytest.approx([0.75 * wait for wait in (2.5, 5, 10, 20, 40, 80)])
        requests = 1
        fill(here, 1)
        assert await here.attempts(1) == [None]
        requests = 0
        fill(here, 1)
        assert await here.attempts(1) == [SPLAY / 2], "two in a row are a collector that is back"


@pytest.mark.parametrize(("asked", "taken"), [(0, 5), (-1, 5), (10**9, 300), (60, 60)])
async def test_f91_a_flush_that_no_agent_can_keep_is_clamped(tmp_path: Path, asked: float, taken: float) -> None:
    def odd(request: Request) -> Reply:
        return Reply(body=encode_ack(msgspec.structs.replace(ack_for(request.batch), next_flush_seconds=asked)))

    async with lab(tmp_path, odd) as here:
        fill(here, 1)
        assert await here.attempts(1) == [None]
        await here.turns(1)
        assert here.patience.waits == [pytest.approx(taken, abs=0.5)]


@pytest.mark.parametrize(("asked", "taken"), [(None, 2), (0, 2), (-1, 2), (30, 30), (10**9, 300)])
async def test_f91_the_pace_of_the_backlog_is_the_collectors_within_bounds(
    tmp_path: Path, asked: float | None, taken: float
) -> None:
    def paced(request: Request) -> Reply:
        ack = msgspec.structs.replace(ack_for(request.batch), backlog_interval_seconds=asked)
        return Reply(body=encode_ack(ack))

    async with lab(tmp_path, paced) as here:
        for _ in range(3):
            fill(here, 1)
        here.patience.clock.moved += 60  # none of them is live any more
        await here.turns(2)
        assert here.patience.waits == [taken, taken]


async def test_f91_a_flush_in_words_is_no_acknowledgement(tmp_path: Path) -> None:
    def worded(request: Request) -> Reply:
        return Reply(body=encode_ack(ack_for(request.batch)).replace(b'flush_seconds":1.0', b'flush_seconds":"soon"'))

    async with lab(tmp_path, worded) as here:
        fill(here, 1)
        assert (await here.attempts(1))[0] is not None
        assert here.spool.queued_results == 1


async def test_f92_an_acknowledgement_of_another_batch_forgets_neither(tmp_path: Path) -> None:
    others: list[UUID] = []

    def swapped(request: Request) -> Reply:
        return Reply(body=encode_ack(msgspec.structs.replace(ack_for(request.batch), batch_id=others[0])))

    async with lab(tmp_path, swapped) as here:
        others.append(fill(here, 1))
        fill(here, 2)
        assert (await here.attempts(1))[0] is not None
        assert here.spool.queued_results == 3
        assert len(list((tmp_path / "spool").glob("*.seg"))) == 2


async def test_f68_a_revoked_agent_is_told_once_asks_hourly_and_goes_on_when_it_is_let_in(tmp_path: Path) -> None:
    collector = LittleCollector()
    told: list[bool] = []
    asked: list[float] = []
    labs: list[Lab] = []

    def answer(request: Request) -> Reply:
        asked.append(elapsed(labs[0]))
        return revoked() if asked[-1] < 4.8 * HOUR else collector(request)

    async with lab(tmp_path, answer) as here:
        labs.append(here)
        here.sender.on_revoked = told.append
        fill(here, 2)
        await here.turns(1)
        assert (told, here.spool.revoked) == ([True], True)
        while not collector.batches:
            await here.sender.turn()
        assert (told, here.spool.revoked) == ([True, False], False)
        assert (here.spool.queued_results, here.telemetry.dropped) == (0, {})
    assert asked == pytest.approx([HOUR * hour for hour in range(6)], abs=60)


async def test_f68_another_credential_is_tried_within_a_minute(tmp_path: Path) -> None:
    tokens = ["isoa_old_" + "y" * 40]
    collector = LittleCollector()

    def only_new(request: Request) -> Reply:
        return collector(request) if request.headers["authorization"] == f"Bearer {TOKEN}" else revoked()

    async with lab(tmp_path, only_new, credential=lambda: tokens[-1]) as here:
        fill(here, 1)
        here.sender.on_revoked = lambda _: tokens.append(TOKEN)
        await here.turns(2)
        assert here.spool.queued_results == 0
        assert elapsed(here) <= CREDENTIAL_CHECK_SECONDS + 1


async def test_f68_a_credential_that_vanishes_meanwhile_does_not_let_a_revoked_agent_probe_on(tmp_path: Path) -> None:
    gone: list[bool] = []
    told: list[bool] = []

    def credential() -> str:
        if gone:
            raise ConfigError("the credential cannot be read")
        return TOKEN

    def answer(_request: Request) -> Reply:
        gone.append(True)
        return revoked()

    async with lab(tmp_path, answer, credential=credential) as here:
        fill(here, 1)
        here.sender.on_revoked = told.append
        await here.turns(2)
        assert (told, here.spool.revoked) == ([True], True)


async def test_f68_a_credential_that_is_replaced_meanwhile_is_not_taken_for_the_revoked_one(tmp_path: Path) -> None:
    tokens = ["isoa_old_" + "y" * 40]
    collector = LittleCollector()

    def only_new(request: Request) -> Reply:
        if request.headers["authorization"] == f"Bearer {TOKEN}":
            return collector(request)
        tokens.append(TOKEN)
        return revoked()

    async with lab(tmp_path, only_new, credential=lambda: tokens[-1]) as here:
        fill(here, 1)
        await here.turns(2)
        assert here.spool.queued_results == 0
        assert elapsed(here) <= CREDENTIAL_CHECK_SECONDS + 1
