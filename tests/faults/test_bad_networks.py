"""Networks that lose packets, all of them or the large ones, and slow ones. As root, in a network of its own."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from agent.spool.spool import SEAL_BYTES
from tests.faults.way import running, way
from tests.network import Network

pytestmark = [pytest.mark.anyio, pytest.mark.slow_fault, pytest.mark.timeout(300)]

OUTAGE_SECONDS = 20.0
PATIENCE_SECONDS = 90.0


@contextmanager
def dropping(network: Network, port: int, *match: str) -> Iterator[None]:
    network.drop(port, *match)
    try:
        yield
        assert network.dropped() > 0, "no packet was dropped: this test proves nothing"
    finally:
        network.open()


async def test_f30_after_an_outage_of_all_packets_the_present_arrives_first_and_then_all(
    tmp_path: Path, network: Network
) -> None:
    async with way(tmp_path) as one, running(one):
        await one.record_for(3)
        with dropping(network, one.cable.listen.port):
            await one.record_for(OUTAGE_SECONDS)
            assert one.missing(), "nothing was dropped"
        opened = len(one.recorded)
        await one.record_for(3)
        new = {key for key, _ in sorted(one.born.items(), key=lambda item: item[1])[opened:]}
        await one.drained(seconds=PATIENCE_SECONDS)
        assert one.stands_once()
        assert max(one.arrived[key] - one.born[key] for key in new) < 30
        assert one.telemetry.dropped == {}


async def test_f31_three_lost_packets_in_ten_slow_the_way_and_cost_nothing(tmp_path: Path, network: Network) -> None:
    match = ("-m", "statistic", "--mode", "random", "--probability", "0.3")
    async with way(tmp_path) as one, running(one):
        with dropping(network, one.cable.listen.port, *match):
            await one.record_for(OUTAGE_SECONDS)
        await one.drained(seconds=PATIENCE_SECONDS)
        assert one.stands_once()
        assert one.telemetry.dropped == {}


async def test_f36_on_a_slow_line_with_a_full_spool_the_present_is_less_than_a_minute_late(
    tmp_path: Path, network: Network
) -> None:
    network.slow(64)
    async with way(tmp_path) as one:
        dice = random.Random(36)  # noqa: S311  letters of a test
        while len(one.spool.waiting()) < 4:  # as large as segments get, and no easier to compress than real ones
            for _ in range(SEAL_BYTES // 400):
                one.record(reason=dice.randbytes(30).hex())
            one.seal()
        one.born.clear()
        began = monotonic()
        assert await one.sender.send(one.spool.waiting()[0]) is None
        assert monotonic() - began > 2, "the line is not slow"
        async with running(one):
            await one.record_for(40)
            assert one.lag() < 30  # the backlog alone takes as long; a minute is what is promised
            assert max(one.sender.attempts.values(), default=0) <= 3, "it tries the same again and again"


async def test_f37_where_large_packets_vanish_small_batches_pass_and_large_ones_wait(
    tmp_path: Path, network: Network
) -> None:
    async with way(tmp_path) as one:
        dice = random.Random(37)  # noqa: S311  as above
        for _ in range(100):
            one.record(reason=dice.randbytes(60).hex())
        large = one.seal()
        one.recorded.clear()
        (sealed,) = one.spool.waiting()
        with dropping(network, one.cable.listen.port, "-m", "length", "--length", "1201:65535"):
            assert await one.sender.send(sealed) is not None
            async with running(one):
                one.record(2)
                one.seal()
                await one.drained(seconds=PATIENCE_SECONDS)
            assert [sealed.batch_id for sealed in one.spool.waiting()] == [large]
        async with running(one):
            one.recorded |= {(one.spool.boot_id, seq) for seq in range(100)}
            await one.drained(seconds=PATIENCE_SECONDS)
        assert one.stands_once()
        assert one.telemetry.dropped == {}
