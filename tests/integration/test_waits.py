"""Retry-After is obeyed between probes: a real server is not asked again before its moment, and nothing is lost."""

import pytest

from agent.clock import SystemClock
from agent.probes import Probes
from isochrone.config import Assignment
from isochrone.outcome import Connection, Outcome, RttMethod
from tests.scripted_http import Reply, Request, serving
from tests.simulated import KEY, inference, rtt

pytestmark = pytest.mark.anyio


class ShiftedClock(SystemClock):
    """The machine's clock, which a test sets forward."""

    ahead_seconds = 0.0

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + round(self.ahead_seconds * 1e9)


class Busy:
    """Refuses every prompt, and counts them."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.prompts = 0

    def __call__(self, request: Request) -> Reply:
        self.prompts += request.method == "POST"
        return self.reply if request.method == "POST" else Reply()


def running(clock: ShiftedClock) -> Probes:
    return Probes(clock, lambda _: KEY)


@pytest.mark.parametrize(
    ("reply", "seconds", "outcome"),
    [
        (Reply(429, headers={"retry-after": "20"}), 20, Outcome.RATE_LIMITED),
        (Reply(503, headers={"retry-after": "20"}), 20, Outcome.OVERLOADED),
        (Reply(429, headers={"retry-after-ms": "20000", "retry-after": "1"}), 20, Outcome.RATE_LIMITED),
        (Reply(429, headers={"retry-after": "1000000"}), 3_600, Outcome.RATE_LIMITED),
        (
            Reply(
                503,
                headers={"date": "Sun, 01 Mar 2020 12:00:00 GMT", "retry-after": "Sun, 01 Mar 2020 12:00:20 GMT"},
            ),
            20,
            Outcome.OVERLOADED,
        ),
    ],
)
async def test_no_prompt_goes_out_before_the_moment(reply: Reply, seconds: float, outcome: Outcome) -> None:
    busy, clock = Busy(reply), ShiftedClock()
    async with serving(busy) as base:
        probes, target = running(clock), inference(f"{base}/v1")
        first = await probes.run(target)
        assert (first.outcome, first.http_status) == (outcome, reply.status)
        assert f"retry after {seconds:g} s" in str(first.reason)
        clock.ahead_seconds = seconds / 2
        held = await probes.run(target)
        assert (held.outcome, held.http_status, held.address, held.marks.request_sent) == (outcome, None, None, None)
        assert str(held.reason).startswith("not attempted: the endpoint asked to wait, ")
        assert 0 < int(str(held.reason).split()[7]) <= seconds / 2
        assert busy.prompts == 1
        clock.ahead_seconds = seconds
        assert (await probes.run(target)).http_status == reply.status
        assert busy.prompts == 2
        await probes.close()


@pytest.mark.parametrize(
    "reply",
    [
        Reply(429),
        Reply(429, headers={"retry-after": "soon"}),
        Reply(429, headers={"retry-after": "0"}),
        Reply(503, headers={"retry-after": "Sun, 01 Mar 2020 12:00:00 GMT"}),
        Reply(500, headers={"retry-after": "20"}),
        Reply(401, headers={"retry-after": "20"}),
    ],
)
async def test_who_asks_for_no_wait_is_asked_again(reply: Reply) -> None:
    busy = Busy(reply)
    async with serving(busy) as base:
        probes = running(ShiftedClock())
        for _ in range(2):
            assert (await probes.run(inference(f"{base}/v1"))).http_status == reply.status
        await probes.close()
    assert busy.prompts == 2


async def test_the_wait_is_the_endpoints_warm_and_cold_while_round_trips_go_on() -> None:
    busy = Busy(Reply(429, headers={"retry-after": "20"}))
    other = Busy(Reply(401))
    async with serving(busy) as base, serving(other) as elsewhere:
        probes = running(ShiftedClock())
        warm: Assignment = inference(f"{base}/v1", connection=Connection.WARM)
        assert (await probes.run(warm)).http_status == 429
        probes.retain([])
        for target in (warm, inference(f"{base}/v1")):
            assert (await probes.run(target)).http_status is None
        for method in (RttMethod.TCP, RttMethod.HTTP):
            assert (await probes.run(rtt(base, method))).outcome is Outcome.OK
        assert (await probes.run(inference(f"{elsewhere}/v1"))).http_status == 401
        await probes.close()
    assert (busy.prompts, other.prompts) == (1, 1)
