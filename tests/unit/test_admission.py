"""Who is let in: slots that go from hand to hand, waits that are bounded, rates by key."""

import asyncio
from dataclasses import dataclass, field

import pytest

from collector.api import admission
from collector.api.admission import MAX_BUCKETS, MAX_RETRY_SECONDS, MIN_RETRY_SECONDS, Admission, Buckets
from collector.errors import Refused

pytestmark = pytest.mark.anyio


class Clock:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Held:
    """Slots of one admission: the sizes that got one, in their order."""

    place: Admission
    sizes: list[int] = field(default_factory=list)

    async def hold(self, size: int, until: asyncio.Event) -> None:
        async with self.place.slot_for(size):
            self.sizes.append(size)
            await until.wait()

    def free(self) -> bool:
        """Tell whether there is a slot."""
        try:
            with self.place.slot():
                return True
        except Refused:
            return False


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_slot_goes_to_who_waits_longest_and_comes_free_after_a_fault() -> None:
    held = Held(Admission(1, monotonic=Clock()))
    ends = [asyncio.Event() for _ in range(3)]
    tasks = [asyncio.create_task(held.hold(n, end)) for n, end in enumerate(ends)]
    await _settle()
    assert held.sizes == [0]
    tasks[0].cancel()
    await _settle()
    assert held.sizes == [0, 1]
    ends[1].set()
    await _settle()
    assert held.sizes == [0, 1, 2]
    ends[2].set()
    await asyncio.gather(*tasks, return_exceptions=True)
    with held.place.slot():
        assert not held.free()
    assert held.free()


async def test_who_gives_up_waiting_takes_no_slot_with_him(monkeypatch: pytest.MonkeyPatch) -> None:
    held, end = Held(Admission(1, monotonic=Clock())), asyncio.Event()
    first = asyncio.create_task(held.hold(0, end))
    await _settle()
    monkeypatch.setattr(admission, "WAIT_SECONDS", 0.0)
    with pytest.raises(Refused, match="as many requests as it can hold"):
        await held.hold(1, end)
    end.set()
    await first
    monkeypatch.setattr(admission, "WAIT_SECONDS", 60.0)
    async with held.place.slot_for(0):
        gone = asyncio.create_task(held.hold(2, end))
        await _settle()
    gone.cancel()  # in the very moment in which the slot came to it
    await asyncio.gather(gone, return_exceptions=True)
    assert held.sizes == [0]
    assert held.free()


async def test_what_waits_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_WAITING_BYTES", 100)
    held, end = Held(Admission(1, monotonic=Clock())), asyncio.Event()
    tasks = [asyncio.create_task(held.hold(size, end)) for size in (500, 60, 40)]
    await _settle()
    with pytest.raises(Refused, match="as many requests as it can hold"):
        await held.hold(1, end)
    end.set()
    await asyncio.gather(*tasks)
    assert held.sizes == [500, 60, 40], "one that need not wait may have any size"


def test_the_refused_are_told_to_come_when_all_of_them_could_be_served() -> None:
    clock = Clock()
    place = Admission(1, monotonic=clock, dice=lambda: 1.0)

    def refusal() -> float | None:
        with place.slot(), pytest.raises(Refused) as refused, place.slot():
            pass
        return refused.value.retry_after_seconds

    assert refusal() == MIN_RETRY_SECONDS
    clock.now += 5.0
    for _ in range(4):
        refusal()
    # One slot was given for each refusal: what waits needs as long as the window took.
    assert refusal() == pytest.approx(6.0, abs=1.5)
    clock.now += 1_000.0
    assert refusal() == MAX_RETRY_SECONDS
    clock.now += 1.0
    assert refusal() == MIN_RETRY_SECONDS, "a window that is over counts no more"


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    clock = Clock()
    buckets = Buckets(per_second=2.0, burst=3.0, monotonic=clock)
    assert [buckets.wait_seconds("a") for _ in range(3)] == [None] * 3
    assert buckets.wait_seconds("a") == pytest.approx(0.5)
    assert buckets.wait_seconds("a") == pytest.approx(0.5), "who is refused loses nothing"
    assert buckets.wait_seconds("b") is None
    clock.now += 0.5
    assert buckets.wait_seconds("a") is None
    clock.now += 3_600.0
    assert [buckets.wait_seconds("a") for _ in range(4)] == [None, None, None, pytest.approx(0.5)]


def test_the_key_that_was_used_longest_ago_is_forgotten_first() -> None:
    buckets = Buckets(per_second=1.0, burst=1.0, monotonic=Clock())
    assert buckets.wait_seconds("kept") is None
    for n in range(MAX_BUCKETS - 1):
        buckets.wait_seconds(n)
    assert buckets.wait_seconds("kept") is not None
    buckets.wait_seconds("one more")
    assert buckets.wait_seconds("kept") is not None
    assert buckets.wait_seconds(0) is None, "forgotten"
