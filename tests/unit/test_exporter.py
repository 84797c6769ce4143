"""The queue behind an export: bounded, patient, obedient, and every result is sent, skipped or counted as lost."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from random import Random

import pytest

from collector.ingest import Ingested, Plan, Taken
from collector.metrics.families import ExportFamilies
from collector.telemetry.answers import Answer, Encoded, Fate, Verdict
from collector.telemetry.exporter import GIVE_UP_SECONDS, Clock, Exporter, Loss, Unreachable
from collector.telemetry.facts import Fact, Known, Origin, facts_of
from isochrone.outcome import Flag
from tests.collecting import inference_result
from tests.telemetry import AGENT, ENDPOINT, NOW, NOW_NS, TARGET, fact_of

AGAIN = Verdict(fate=Fate.AGAIN, words="HTTP 503: busy")
TAKEN = Verdict(fate=Fate.TAKEN)
REFUSED = Verdict(fate=Fate.REFUSED, words="HTTP 400: out of order")


class Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += max(0.0, seconds)
        await asyncio.sleep(0)

    @property
    def clock(self) -> Clock:
        return Clock(
            utc_now=lambda: NOW + timedelta(seconds=self.now),
            monotonic=lambda: self.now,
            sleep=self.sleep,
            random=Random(1),  # noqa: S311  it spreads waits
        )


class Script:
    """A dialect and a door in one: says what the script says, then takes everything."""

    name = "script"
    headers: Mapping[str, str] = {}
    address = "http://receiver/p"

    def __init__(self, *verdicts: Verdict | Unreachable, at_once: int = 3) -> None:
        self.verdicts = deque(verdicts)
        self.results_per_request = at_once
        self.bodies: list[bytes] = []
        self.at: list[float] = []
        self.time = Time()
        self.closed = False

    def encode(self, facts: list[Fact], now: datetime) -> Encoded:
        assert now >= NOW
        return Encoded(body=",".join(str(fact.result.seq) for fact in facts).encode(), results=len(facts))

    async def post(self, body: bytes) -> Answer:
        self.bodies.append(body)
        self.at.append(self.time.now)
        if self.verdicts and isinstance(self.verdicts[0], Unreachable):
            raise self.verdicts.popleft()
        return Answer(status=200, headers={}, body=b"")

    def judge(self, answer: Answer, now: datetime) -> Verdict:
        assert answer.status == 200
        assert now >= NOW
        verdict = self.verdicts.popleft() if self.verdicts else TAKEN
        assert isinstance(verdict, Verdict)
        return verdict

    async def close(self) -> None:
        self.closed = True


class Run:
    """An exporter at work on a script."""

    def __init__(self, script: Script, limit: int) -> None:
        self.script = script
        self.families = ExportFamilies()
        self.exporter = Exporter(script, script, clock=script.time.clock, families=self.families, limit=limit)

    def offer(self, *numbers: int) -> None:
        self.exporter.offer(numbered(number) for number in numbers)

    def lost(self, loss: Loss) -> float:
        return self.families.dropped.series("script", loss.value).value

    @property
    def sent(self) -> float:
        return self.families.results.series("script").value

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not reached():  # noqa: ASYNC110  it is the exporter's own numbers that tell
                await asyncio.sleep(0.001)

    async def idle(self) -> None:
        await self.until(lambda: self.exporter.waiting == 0)


def numbered(number: int) -> Fact:
    return fact_of(inference_result(number))


@asynccontextmanager
async def running(script: Script, *, limit: int = 100) -> AsyncIterator[Run]:
    run = Run(script, limit)
    task = asyncio.create_task(run.exporter.run())
    try:
        yield run
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.anyio
async def test_results_go_out_in_order_and_in_requests_of_bounded_size() -> None:
    script = Script(at_once=3)
    async with running(script) as run:
        run.offer(1, 2)
        run.offer(3, 4, 5, 6, 7)
        await run.idle()
    assert script.bodies == [b"1,2,3", b"4,5,6", b"7"]
    assert run.sent == 7


@pytest.mark.anyio
async def test_a_lonely_result_waits_a_moment_for_others() -> None:
    script = Script()
    async with running(script) as run:
        run.offer(1)
        await run.idle()
    assert script.time.slept == [1.0]


@pytest.mark.anyio
async def test_a_request_is_sent_again_until_it_is_taken_and_waits_grow_to_a_minute() -> None:
    script = Script(*[AGAIN] * 12, at_once=1)
    async with running(script) as run:
        run.offer(1)
        await run.until(lambda: len(script.bodies) >= 11)
    waits = [later - before for before, later in zip(script.at, script.at[1:], strict=False)]
    longest = [1, 2, 4, 8, 16, 32, 60]
    for wait, most in zip(waits, longest, strict=False):
        assert most / 2 <= wait <= most
    assert set(script.bodies) == {b"1"}
    assert run.families.retries.series("script").value >= 10


@pytest.mark.anyio
async def test_the_receivers_retry_after_is_obeyed() -> None:
    script = Script(Verdict(fate=Fate.AGAIN, words="HTTP 429", retry_after_seconds=77.0))
    async with running(script) as run:
        run.offer(1)
        await run.idle()
    assert script.at[1] - script.at[0] == pytest.approx(77.0)
    assert run.sent == 1


@pytest.mark.anyio
async def test_after_five_minutes_a_request_is_given_up_and_the_next_still_waits_as_asked() -> None:
    script = Script(Verdict(fate=Fate.AGAIN, words="HTTP 503", retry_after_seconds=3_000.0), at_once=1)
    async with running(script) as run:
        run.offer(1, 2)
        await run.until(lambda: run.lost(Loss.UNREACHABLE) > 0)
        run.offer(*range(3, 30))
        await run.idle()
    assert script.at[1] - script.at[0] >= 3_000.0 - 1e-6
    given_up = run.lost(Loss.UNREACHABLE)
    assert 3_000 / GIVE_UP_SECONDS - 1 <= given_up <= 3_000 / GIVE_UP_SECONDS + 1
    assert given_up + run.sent == 29


@pytest.mark.anyio
async def test_a_receiver_that_cannot_be_reached_is_tried_again() -> None:
    script = Script(Unreachable("connection refused"), Unreachable("no answer within 10 s"))
    async with running(script) as run:
        run.offer(1, 2, 3)
        await run.idle()
    assert script.bodies == [b"1,2,3"] * 3
    assert run.sent == 3


@pytest.mark.anyio
async def test_what_is_refused_is_dropped_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    script = Script(*[REFUSED, TAKEN] * 5, at_once=1)
    with caplog.at_level(logging.WARNING):
        async with running(script) as run:
            run.offer(*range(10))
            await run.idle()
    assert script.bodies == [str(number).encode() for number in range(10)]
    assert (run.sent, run.lost(Loss.REFUSED)) == (5, 5)
    (line,) = caplog.messages
    assert line == (
        "export script to http://receiver/p: 1 results are not sent (refused), the database has them:"
        " HTTP 400: out of order"
    )


@pytest.mark.anyio
async def test_a_full_queue_lets_the_oldest_go_and_counts_them(caplog: pytest.LogCaptureFixture) -> None:
    run = Run(Script(at_once=10), limit=3)
    run.offer(*range(5))
    run.offer(5)
    assert run.exporter.waiting == 3
    assert run.lost(Loss.QUEUE_FULL) == 3
    assert run.families.queued.series("script").value == 3
    assert len(caplog.messages) == 1
    run.exporter.stop()
    await run.exporter.run()
    assert run.script.bodies == [b"3,4,5"]


@pytest.mark.anyio
async def test_partial_success_counts_the_points_and_the_results() -> None:
    async with running(Script(Verdict(fate=Fate.TAKEN, rejected=4, words="4 data points refused"))) as run:
        run.offer(1, 2)
        await run.idle()
    assert (run.sent, run.families.rejected.series("script").value) == (2, 4)


@pytest.mark.anyio
async def test_a_result_that_cannot_be_told_is_counted_and_the_next_goes_out() -> None:
    class Broken(Script):
        def encode(self, facts: list[Fact], now: datetime) -> Encoded:
            if facts[0].result.seq == 1:
                raise ValueError("no such character")
            return super().encode(facts, now)

    script = Broken(at_once=1)
    async with running(script) as run:
        run.offer(1, 2)
        await run.idle()
    assert (run.lost(Loss.UNENCODABLE), run.sent, script.bodies) == (1, 1, [b"2"])


@pytest.mark.anyio
async def test_what_waits_goes_out_when_the_collector_stops() -> None:
    run = Run(Script(at_once=2), limit=100)
    run.offer(1, 2, 3)
    run.exporter.stop()
    await run.exporter.run()
    await run.exporter.close()
    assert run.script.bodies == [b"1,2", b"3"]
    assert (run.sent, run.lost(Loss.STOPPED), run.script.closed) == (3, 0, True)


@pytest.mark.anyio
async def test_stopping_ends_a_wait_at_once_and_counts_what_did_not_go() -> None:
    script = Script(AGAIN, at_once=2)
    asleep = asyncio.Event()

    async def forever(_: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    script.time.sleep = forever  # type: ignore[method-assign]
    async with running(script) as run:
        run.offer(1, 2, 3)
        await asleep.wait()
        run.exporter.stop()
        await run.idle()
        await run.exporter.close()
    assert script.bodies == [b"1,2"]
    assert run.lost(Loss.STOPPED) == 3


@pytest.mark.anyio
async def test_what_was_under_way_at_a_hard_end_is_counted() -> None:
    script = Script(at_once=2)
    stuck = asyncio.Event()

    async def post(body: bytes) -> Answer:
        stuck.set()
        await asyncio.Event().wait()
        raise AssertionError(body)

    script.post = post  # type: ignore[method-assign]
    async with running(script) as run:
        run.offer(1, 2, 3)
        await stuck.wait()
    await run.exporter.close()
    assert run.lost(Loss.STOPPED) == 3


@pytest.mark.anyio
async def test_every_result_is_sent_or_counted() -> None:
    dice, offered = Random(7), 0  # noqa: S311  it deals verdicts
    verdicts = [dice.choice([TAKEN, AGAIN, REFUSED, Unreachable("gone")]) for _ in range(200)]
    async with running(Script(*verdicts, at_once=4), limit=20) as run:
        for _ in range(30):
            count = dice.randrange(1, 15)
            run.offer(*range(count))
            offered += count
            await asyncio.sleep(0)
        await run.idle()
    await run.exporter.close()
    assert offered == run.sent + sum(run.lost(loss) for loss in Loss)


def test_of_a_batch_each_result_is_a_fact_or_is_counted() -> None:
    results = [inference_result(0), inference_result(1, flags=(Flag.LATE_START,)), inference_result(2)]
    taken = [Taken(result, 7 if result.seq < 2 else 8, 1.0, late=False) for result in results]
    plan = Plan(rows=[], taken=taken, rejected=(), reasons={}, days=set())
    done = Ingested(plan=plan, accepted=3, duplicate=0, late=0, rejected=())
    origin = Origin(agent=AGENT, boot_id="b", came_at=NOW)
    known = Known(targets={7: TARGET}, endpoints={"near": ENDPOINT})
    brought = facts_of(done, origin, known)
    assert [fact.result.seq for fact in brought.facts] == [0]
    assert brought.skipped == {"spoiled": 1, "unknown_target": 1}
    assert brought.facts[0].started_ns == NOW_NS - 10**9
