"""A segment is forgotten for one reason alone: our own acknowledgement of it. Against a real HTTP server."""

import asyncio
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from agent.errors import ConfigError
from agent.push import Sender
from agent.segment import Segment
from agent.spool import Sealed
from agent.telemetry import Telemetry
from agent.transport import CollectorClient
from isochrone.batch import DropReason, Rejected
from isochrone.config import AgentConfig
from isochrone.wire import encode_ack
from tests.delivery import TOKEN, fill, impatient, lab, leave_backlog, record, spool_in
from tests.scripted_http import LittleCollector, Reply, Request, ack_for, serving

pytestmark = pytest.mark.anyio
PROBLEM = "application/problem+json"
CONFIG = AgentConfig(revision=3, agent="a", agent_region="eu", targets=())


async def test_what_is_sent_is_what_was_recorded_with_all_that_the_collector_needs(tmp_path: Path) -> None:
    collector = LittleCollector()
    async with lab(tmp_path, collector) as here:
        batch_id = fill(here, 3)
        assert await here.attempts(1) == [None]
        assert (here.spool.waiting(), here.telemetry.dropped) == ([], {})
    request = collector.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/batches")
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["content-type"] == "application/vnd.isochrone.batch+json;v=1"
    assert request.headers["content-encoding"] == "gzip"
    batch = request.batch
    assert (batch.batch_id, batch.boot_id) == (batch_id, here.spool.boot_id)
    assert [result.seq for result in batch.results] == [0, 1, 2]
    assert batch.sent_boottime_seconds is not None
    assert batch.sent_boottime_seconds >= batch.results[0].started_boottime_seconds
    assert batch.status.queued_results == 3


async def test_an_earlier_start_of_the_machine_sends_no_boottime(tmp_path: Path) -> None:
    old = spool_in(tmp_path / "spool", machine="an earlier start")
    record(old, 1)
    old.close()
    collector = LittleCollector()
    async with lab(tmp_path, collector) as here:
        assert await here.attempts(1) == [None]
    batch = collector.requests[0].batch
    assert (batch.sent_boottime_seconds, batch.boot_id) == (None, old.boot_id)


@pytest.mark.parametrize(
    "fault",
    [
        Reply(503, headers={"retry-after": "0"}),
        Reply(200, b"<html>Welcome to the hotel</html>", "text/html"),
        Reply(204),
        Reply(301, headers={"location": "http://127.0.0.1:9/"}),
        Reply(500, b"{}", PROBLEM),
        Reply(404, b"not here", "text/plain"),
        Reply(200, b'{"batch_id":"0192f0c4-7a1b-7c3d-8e4f-5a6b7c8d9e0f"}'),
        Reply(200, b"x" * 400, cut=0),
        Reply(200, b"x" * 400, cut=20),
        Reply(200, b"x" * 400, cut=200),
        Reply(400, b"<html>proxy</html>", "text/html"),
        Reply(413, b"<html>proxy</html>", "text/html"),
    ],
)
async def test_after_any_fault_the_same_batch_is_sent_again_and_stored_once(tmp_path: Path, fault: Reply) -> None:
    collector = LittleCollector()
    collector.faults = [fault]
    async with lab(tmp_path, collector) as here:
        batch_id = fill(here, 1)
        waits = await here.attempts(2)
        assert waits[0] is not None
        assert waits[1:] == [None]
        assert here.telemetry.dropped == {}
    assert list(collector.batches) == [batch_id]
    assert [request.batch.batch_id for request in collector.requests] == [batch_id, batch_id]


async def test_an_acknowledgement_of_another_batch_is_none(tmp_path: Path) -> None:
    other = UUID("0192f0c4-7a1b-7c3d-8e4f-5a6b7c8d9e0f")

    def wrong(request: Request) -> Reply:
        return Reply(body=encode_ack(msgspec.structs.replace(ack_for(request.batch), batch_id=other)))

    async with lab(tmp_path, wrong) as here:
        fill(here, 1)
        assert (await here.attempts(1))[0] is not None
        assert here.spool.queued_results == 1


async def test_an_acknowledgement_that_got_lost_leads_to_a_repeat_with_the_same_content(tmp_path: Path) -> None:
    collector = LittleCollector()
    lose = [True]

    def committed_but_cut(request: Request) -> Reply:
        reply = collector(request)
        return Reply(reply.status, reply.body, cut=30) if lose.pop() else reply

    lose.insert(0, False)
    async with lab(tmp_path, committed_but_cut) as here:
        fill(here, 4)
        waits = await here.attempts(2)
        assert waits[0] is not None
        assert waits[1] is None
    assert collector.duplicates == 1
    assert len(collector.ids) == len(set(collector.ids)) == 4
    first, second = (request.batch for request in collector.requests)
    assert first.results == second.results


async def test_too_large_a_batch_is_halved_until_it_fits(tmp_path: Path) -> None:
    collector = LittleCollector()

    def small_only(request: Request) -> Reply:
        return collector(request) if len(request.batch.results) <= 3 else Reply(413, b"{}", PROBLEM)

    async with lab(tmp_path, small_only) as here:
        fill(here, 20)
        await here.drained()
        assert (here.spool.queued_results, here.telemetry.dropped) == (0, {})
    assert sorted(seq for _, seq in collector.ids) == list(range(20))
    assert sum(bool(batch.results) for batch in collector.batches.values()) == 8


async def test_one_poisoned_result_is_found_by_halving_and_kept_aside(tmp_path: Path) -> None:
    collector = LittleCollector()
    refused = 0

    def no_seven(request: Request) -> Reply:
        nonlocal refused
        if any(result.seq == 7 for result in request.batch.results):
            refused += 1
            return Reply(422, b'{"detail":"results[0]: no"}', PROBLEM)
        return collector(request)

    async with lab(tmp_path, no_seven) as here:
        fill(here, 64)
        await here.drained()
        assert here.telemetry.dropped == {DropReason.REJECTED: 1}
        aside = list((tmp_path / "spool" / "rejected").iterdir())
        assert [b'"seq":7,' in path.read_bytes() for path in aside] == [True]
    assert sorted(seq for _, seq in collector.ids) == [seq for seq in range(64) if seq != 7]
    assert refused == 7, "log2(64) halvings and the result itself"


async def test_results_that_an_acknowledgement_names_are_kept_aside_and_counted(tmp_path: Path) -> None:
    def not_the_second(request: Request) -> Reply:
        named = Rejected(seq=1, reason="$.results[1]: too old", index=1)
        return Reply(body=encode_ack(msgspec.structs.replace(ack_for(request.batch), accepted=2, rejected=(named,))))

    async with lab(tmp_path, not_the_second) as here:
        fill(here, 3)
        assert await here.attempts(1) == [None]
        assert here.telemetry.dropped == {DropReason.REJECTED: 1}
        (aside,) = (tmp_path / "spool" / "rejected").iterdir()
        assert aside.read_bytes().count(b"\n") == 1
        assert b'"seq":1,' in aside.read_bytes()


async def test_another_content_under_the_same_id_is_given_up_and_counted(tmp_path: Path) -> None:
    async with lab(tmp_path, lambda _: Reply(409, b"{}", PROBLEM)) as here:
        fill(here, 3)
        assert await here.attempts(1) == [None]
        assert here.telemetry.dropped == {DropReason.CORRUPT: 3}
        assert len(list((tmp_path / "spool" / "corrupt").iterdir())) == 1


async def test_a_refused_credential_waits_a_minute_and_more_and_the_next_one_is_read_anew(tmp_path: Path) -> None:
    tokens = [TOKEN, "isoa_old_" + "y" * 40, "isoa_old_" + "y" * 40]
    collector = LittleCollector()

    def only_new(request: Request) -> Reply:
        return collector(request) if request.headers["authorization"] == f"Bearer {TOKEN}" else Reply(401)

    async with lab(tmp_path, only_new, credential=tokens.pop) as here:
        fill(here, 1)
        waits = await here.attempts(3)
        assert waits == [pytest.approx(45), pytest.approx(90), None]


async def test_a_credential_that_cannot_be_read_is_a_fault_like_any_other(tmp_path: Path) -> None:
    def missing() -> str:
        raise ConfigError("the credential cannot be read")

    async with lab(tmp_path, LittleCollector(), credential=missing) as here:
        fill(here, 1)
        assert (await here.attempts(1))[0] is not None
        assert here.spool.queued_results == 1


async def test_retry_after_is_obeyed(tmp_path: Path) -> None:
    async with lab(tmp_path, lambda _: Reply(503, headers={"retry-after": "600"})) as here:
        fill(here, 1)
        (wait,) = await here.attempts(1)
        assert wait is not None
        assert 600 <= wait <= 750


async def test_nobody_listening_keeps_everything(tmp_path: Path) -> None:
    async with serving(LittleCollector()) as gone:
        pass
    telemetry = Telemetry()
    timing, _ = impatient()
    spool = spool_in(tmp_path)
    client = CollectorClient(gone)
    sender = Sender(spool, client, credential=lambda: TOKEN, telemetry=telemetry, timing=timing, flush_seconds=1)
    record(spool, 2)
    spool.flush()
    assert await sender.send(spool.waiting()[0]) is not None
    assert spool.queued_results == 2
    await client.close()
    spool.close()


async def test_a_segment_that_always_fails_does_not_hold_back_the_others(tmp_path: Path) -> None:
    collector = LittleCollector()
    poisoned: list[UUID] = []

    def not_that_one(request: Request) -> Reply:
        return Reply(500) if request.batch.batch_id in poisoned else collector(request)

    async with lab(tmp_path, not_that_one) as here:
        fill(here, 1)
        fill(here, 1)
        poisoned.append(fill(here, 1))
        await here.turns(5)
        assert [sealed.batch_id for sealed in here.spool.waiting()] == poisoned
    assert len(collector.batches) == 2


async def test_live_segments_go_before_the_backlog_and_the_backlog_goes_slowly(tmp_path: Path) -> None:
    leave_backlog(tmp_path / "spool", segments=3)
    collector = LittleCollector()
    async with lab(tmp_path, collector) as here:
        live = fill(here, 1)
        await here.drained()
        assert next(iter(collector.batches)) == live
        assert here.patience.waits == [2.0, 2.0]
    seqs = [batch.results[0].seq for batch in list(collector.batches.values())[1:]]
    assert seqs == [2, 1, 0], "the newest first"


async def test_results_of_now_do_not_wait_for_a_backlog_to_drain(tmp_path: Path) -> None:
    leave_backlog(tmp_path / "spool", segments=60)
    collector = LittleCollector()
    async with lab(tmp_path, collector) as here:
        here.spool.on_sealed = here.sender.wake
        record(here.spool, 1)
        await here.turns(40)  # two seconds each: eight flushes of ten seconds
        live = (here.spool.boot_id, 0)
        assert live in collector.ids
        assert collector.ids.index(live) < 20
        assert len(here.spool.waiting()) > 10


async def test_limits_are_kept_while_a_backlog_drains(tmp_path: Path) -> None:
    leave_backlog(tmp_path / "spool", segments=30)
    async with lab(tmp_path, LittleCollector()) as here:
        await here.turns(2)
        here.patience.clock.moved += 8 * 86_400
        await here.turns(1)
        assert here.spool.waiting() == []
        assert here.telemetry.dropped == {DropReason.AGE: 28}


async def test_a_live_segment_that_failed_still_goes_before_the_backlog(tmp_path: Path) -> None:
    leave_backlog(tmp_path / "spool", segments=3)
    collector = LittleCollector()
    collector.faults = [Reply(500)]
    async with lab(tmp_path, collector) as here:
        live = fill(here, 1)
        assert await here.sender.send(here.spool.waiting()[0]) is not None
        await here.turns(1)
        assert list(collector.batches) == [live]
        await here.turns(1)
        assert live not in here.sender.attempts, "nothing is kept of a segment that is gone"


async def test_a_proxy_that_takes_nothing_is_not_flooded_with_halves(tmp_path: Path) -> None:
    requests: list[Request] = []

    def too_large(request: Request) -> Reply:
        requests.append(request)
        return Reply(413, b"<html>proxy</html>", "text/html")

    async with lab(tmp_path, too_large) as here:
        fill(here, 64)
        await here.turns(12)
        assert len(requests) == len(here.patience.waits) == 12
        assert here.patience.waits[-1] >= 60
        assert len(here.spool.waiting()) <= 13
        assert here.spool.queued_results == 64


@pytest.mark.parametrize(("results", "dropped"), [(5, 1), (2, 1)])
async def test_what_was_damaged_after_sealing_is_counted_though_the_rest_is_halved_or_refused(
    *, tmp_path: Path, results: int, dropped: int
) -> None:
    def no_result(request: Request) -> Reply:
        return Reply(422, b"{}", PROBLEM) if request.batch.results else Reply(body=encode_ack(ack_for(request.batch)))

    async with lab(tmp_path, no_result) as here:
        fill(here, results)
        path = here.spool.waiting()[0].path
        path.write_bytes(path.read_bytes()[:-5])
        await here.drained()
        assert here.telemetry.dropped == {DropReason.CORRUPT: dropped, DropReason.REJECTED: results - dropped}


async def test_a_segment_is_not_dropped_between_its_reading_and_its_sending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = LittleCollector()
    async with lab(tmp_path, collector) as here:
        fill(here, 3)
        read = here.spool.read

        def read_while_the_spool_is_too_old(sealed: Sealed) -> Segment:
            segment = read(sealed)
            here.patience.clock.moved += 8 * 86_400
            here.spool.keep_limits()
            return segment

        monkeypatch.setattr(here.spool, "read", read_while_the_spool_is_too_old)  # the moment cannot be met otherwise
        await here.attempts(1)
        assert (len(collector.ids), here.telemetry.dropped) == (3, {})


async def test_a_fault_of_ours_ends_neither_the_sending_nor_the_waiting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collector = LittleCollector()
    tokens = [TOKEN, TOKEN]

    def fail_at_first() -> str:
        return tokens.pop() if here.patience.waits else str(1 / 0)

    async with lab(tmp_path, collector, credential=fail_at_first) as here:
        batch_id = fill(here, 1)
        running = asyncio.create_task(here.sender.run())
        for _ in range(2_000):
            await asyncio.sleep(0.005)
            if collector.batches:
                break
        running.cancel()
        assert next(iter(collector.batches)) == batch_id
        assert here.patience.waits[0] > 0
    assert "a fault of ours" in caplog.text


async def test_the_loop_seals_by_time_obeys_the_collectors_flush_and_passes_on_its_hint(tmp_path: Path) -> None:
    collector = LittleCollector(CONFIG)
    hints: list[str] = []
    async with lab(tmp_path, collector) as here:
        here.sender.on_config_etag = hints.append
        here.spool.on_sealed = here.sender.wake
        record(here.spool, 2)
        running = asyncio.create_task(here.sender.run())
        for _ in range(2_000):
            await asyncio.sleep(0.005)
            if hints and collector.ids:  # the answer was read, not only given
                break
        running.cancel()
    assert sorted(seq for _, seq in collector.ids) == [0, 1]
    assert set(hints) == {collector.etag}
    assert here.patience.waits[0] == pytest.approx(10, abs=1), "its own flush interval"


async def test_while_the_collector_is_away_segments_are_sealed_by_size_alone(tmp_path: Path) -> None:
    async with lab(tmp_path, lambda _: Reply(503)) as here:
        fill(here, 1)
        running = asyncio.create_task(here.sender.run())
        for _ in range(2_000):
            await asyncio.sleep(0.005)
            record(here.spool, 1)
            if len(here.patience.waits) > 20:
                break
        running.cancel()
        here.spool.flush()
        assert len(here.patience.waits) > 20
        assert len(here.spool.waiting()) == 2, "the one that was refused, and the one that was open"


async def test_the_last_push_of_a_run_ends_at_the_first_failure(tmp_path: Path) -> None:
    leave_backlog(tmp_path / "spool", segments=5)
    collector = LittleCollector()
    collector.faults = [Reply(503)]
    async with lab(tmp_path, collector) as here:
        await here.sender.send_once_each()
        assert (len(collector.requests), here.spool.queued_results) == (1, 5)
        await here.sender.send_once_each()
        assert here.spool.queued_results == 0


async def test_an_idle_agent_reports_once_in_every_flush(tmp_path: Path) -> None:
    collector = LittleCollector()
    async with lab(tmp_path, collector) as here:
        here.patience.clock.moved += 10
        await here.turns(10)
        assert [batch.results for batch in collector.batches.values()] == [()] * len(collector.batches)
        assert here.patience.waits == pytest.approx([5.0] * 10, abs=0.2), "it asks for 1 s and gets the least there is"
        assert len(collector.batches) == 10


async def test_an_idle_agent_whose_collector_is_away_backs_off_as_with_results(tmp_path: Path) -> None:
    collector = LittleCollector()
    collector.faults = [Reply(503)] * 4
    async with lab(tmp_path, collector) as here:
        here.patience.clock.moved += 10
        await here.turns(4)
        assert here.patience.waits == pytest.approx([15.0, 3.75, 7.5, 15.0])
        await here.turns(1)
        assert len(collector.batches) == 1


async def test_a_result_that_is_about_to_be_sealed_is_not_announced_by_an_empty_batch(tmp_path: Path) -> None:
    collector = LittleCollector()
    async with lab(tmp_path, collector) as here:
        record(here.spool, 1)
        here.patience.clock.moved += 10
        await here.sender.turn()
        here.spool.flush()
        await here.sender.turn()
        assert [len(batch.results) for batch in collector.batches.values()] == [1]


async def test_results_that_the_disk_refuses_do_not_make_the_agent_silent(tmp_path: Path) -> None:
    collector = LittleCollector()
    async with lab(tmp_path, collector) as here:
        here.spool.rotate = lambda: None  # type: ignore[method-assign]  as when nothing can be sealed
        record(here.spool, 1)
        here.patience.clock.moved += 20
        await here.sender.turn()
        (batch,) = collector.batches.values()
    assert (batch.results, batch.status.queued_results) == ((), 1)
    assert batch.status.oldest_queued_seconds == pytest.approx(20, abs=1)
