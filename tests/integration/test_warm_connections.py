"""A warm connection stands before the clock starts, says so when it could not be opened, and goes with its target."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from isochrone.config import AgentConfig, Assignment, Duration, InferenceOptions, Module, RttOptions
from isochrone.outcome import Connection, Outcome, Prober, RttMethod
from tests.delivery import TOKEN
from tests.scripted_http import LittleCollector, serving
from tests.simulated import FAST, inference, probes, rtt, simulator

pytestmark = pytest.mark.anyio

HEADS = RttOptions(method=RttMethod.HTTP, count=1)


class Relay:
    """Passes bytes between the agent and a simulator, and knows how many connections stand."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open = 0
        self.changed = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.count(1)
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        answers = asyncio.create_task(_pass(there, writer))
        await _pass(reader, back)
        await self.count(-1)
        back.close()
        await answers
        writer.close()

    async def count(self, step: int) -> None:
        async with self.changed:
            self.open += step
            self.changed.notify_all()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)


@asynccontextmanager
async def relay() -> AsyncIterator[tuple[Relay, str]]:
    async with simulator(FAST) as url:
        passing = Relay(int(url.rsplit(":", 1)[1].partition("/")[0]))
        async with await asyncio.start_server(passing.serve, "127.0.0.1", 0) as server:
            yield passing, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            await reached(passing, 0)


async def reached(passing: Relay, count: int) -> None:
    async with asyncio.timeout(60), passing.changed:
        await passing.changed.wait_for(lambda: passing.open == count)


def cold(target: Assignment) -> Assignment:
    options = msgspec.structs.replace(target.options, inference=InferenceOptions(connection=Connection.COLD))
    return msgspec.structs.replace(target, options=options)


async def test_only_the_connections_of_retained_targets_stay_open() -> None:
    async with relay() as (passing, url), probes() as running:
        chat, ping = inference(url, connection=Connection.WARM), rtt(url, RttMethod.HTTP)
        for target in (chat, ping):
            assert (await running.run(target)).outcome is Outcome.OK
        await reached(passing, 2)
        running.retain([chat, ping])
        await reached(passing, 2)
        running.retain([chat])
        await reached(passing, 1)
        running.retain([cold(chat)])
        await reached(passing, 0)


async def test_a_target_that_begins_to_ask_for_http2_takes_no_connection_kept_without_it() -> None:
    async with relay() as (passing, url), probes() as runner:
        target = inference(url, connection=Connection.WARM)
        await runner.run(target)
        await runner.run(msgspec.structs.replace(target, http2=True))
        await reached(passing, 2)


async def test_a_target_that_went_while_it_was_probed_leaves_no_connection() -> None:
    async with relay() as (passing, url), probes() as running:
        probing = asyncio.create_task(running.run(inference(url, connection=Connection.WARM)))
        await reached(passing, 1)
        running.retain([])
        assert (await probing).outcome is Outcome.OK
        await reached(passing, 0)


async def test_an_agent_that_gets_other_targets_closes_what_it_kept_for_the_old_ones(tmp_path: Path) -> None:
    credential = tmp_path / "credential"
    credential.write_text(TOKEN)
    credential.chmod(0o600)
    environment = {"ISOCHRONE_CREDENTIAL_FILE": str(credential), "ISOCHRONE_STATE_DIR": str(tmp_path / "state")}
    environment |= {"ISOCHRONE_FLUSH_INTERVAL": "1s", "ISOCHRONE_ALLOW_PRIVATE": "127.0.0.1"}
    async with relay() as (passing, url):
        module = Module(prober=Prober.RTT, interval=Duration(0.5), timeout=Duration(0.45), rtt=HEADS)
        target = Assignment(endpoint="near", module="rtt", url=url, options=module)
        collector = LittleCollector(AgentConfig(revision=1, agent="a", agent_region="eu", targets=(target,)))
        async with serving(collector) as collector_url:
            environment["ISOCHRONE_COLLECTOR_URL"] = collector_url
            command = (sys.executable, "-m", "agent.cli", "run")
            agent = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.DEVNULL)
            try:
                await reached(passing, 1)
                collector.config = AgentConfig(revision=2, agent="a", agent_region="eu", targets=())
                await reached(passing, 0)
                assert agent.returncode is None
            finally:
                agent.kill()
                await agent.wait()


async def test_a_warm_connection_that_could_not_be_opened_was_a_cold_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        async with probes() as running:
            result = await running.run(inference(url, connection=Connection.WARM))
    assert (result.outcome, result.connection, result.address) == (Outcome.CONNECT, Connection.COLD, "127.0.0.1")


async def test_the_marks_of_a_warm_connection_that_failed_in_tls_are_those_of_its_opening() -> None:
    async with simulator(FAST) as url, probes() as running:
        secure = url.replace("http:", "https:").replace("127.0.0.1", "localhost")
        result = await running.run(inference(secure, connection=Connection.WARM))
    assert (result.outcome, result.connection) == (Outcome.TLS, Connection.COLD)
    assert result.marks.dns is not None
    assert result.marks.tcp is not None
    assert (result.marks.tls, result.marks.request_started) == (None, None)


async def test_a_connection_opened_beforehand_leaves_nothing_in_the_clock() -> None:
    async with simulator(FAST) as url, probes() as running:
        result = await running.run(inference(url.replace("127.0.0.1", "localhost"), connection=Connection.WARM))
    assert (result.outcome, result.connection, result.setup_seconds) == (Outcome.OK, Connection.WARM, 0)
    assert (result.marks.dns, result.marks.tcp, result.marks.request_started) == (None, None, 0)
