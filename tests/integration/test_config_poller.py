"""The configuration is fetched, kept and used again; a bad one changes nothing. Against a real HTTP server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from agent.push import ConfigCache, ConfigPoller
from agent.transport import CollectorClient
from isochrone.config import AgentConfig, encode_config
from tests.delivery import TOKEN, impatient
from tests.scripted_http import Answer, LittleCollector, Reply, serving

pytestmark = pytest.mark.anyio
CONFIG = AgentConfig(revision=3, agent="a", agent_region="eu", targets=())
TOO_LONG = (
    b'{"revision":9,"agent":"a","agent_region":"eu","targets":[{"endpoint":"e","module":"m","url":"http://127.0.0.1",'
    b'"options":{"prober":"rtt","interval":"4000000d","timeout":"1s"}}]}'
)


@asynccontextmanager
async def poller(tmp_path: Path, answer: Answer) -> AsyncIterator[tuple[ConfigPoller, list[AgentConfig]]]:
    timing, _ = impatient()
    async with serving(answer) as url:
        client = CollectorClient(url)
        made = ConfigPoller(client, ConfigCache(tmp_path / "config.json"), credential=lambda: TOKEN, timing=timing)
        applied: list[AgentConfig] = []

        async def apply(config: AgentConfig) -> None:
            applied.append(config)

        made.apply = apply
        yield made, applied
        await client.close()


async def test_a_configuration_is_applied_once_and_again_when_it_changes(tmp_path: Path) -> None:
    collector = LittleCollector(CONFIG)
    async with poller(tmp_path, collector) as (polling, applied):
        await polling.fetch()
        await polling.fetch()
        collector.config = msgspec.structs.replace(CONFIG, revision=4)
        await polling.fetch()
    assert [config.revision for config in applied] == [3, 4]
    assert [request.headers.get("if-none-match") for request in collector.requests] == [None, '"3"', '"3"']


@pytest.mark.parametrize(
    "answer",
    [
        Reply(500),
        Reply(401),
        Reply(304),
        Reply(200, b"<html>", headers={"etag": '"9"'}),
        Reply(200, b"{}", headers={"etag": '"9"'}),
        Reply(200, b"[" * 100_000, headers={"etag": '"9"'}),
        Reply(200, b'{"agent":"\xff"}', headers={"etag": '"9"'}),
        Reply(200, encode_config(CONFIG)),
        Reply(200, TOO_LONG, headers={"etag": '"9"'}),
        Reply(200, b'{"x":"' + b"y" * 300_000 + b'"}', headers={"etag": '"9"'}),
        Reply(200, encode_config(CONFIG), headers={"etag": '"9"'}, cut=120),
    ],
)
async def test_a_bad_answer_leaves_the_present_configuration_in_force(tmp_path: Path, answer: Reply) -> None:
    collector = LittleCollector(CONFIG)
    bad = False
    async with poller(tmp_path, lambda request: answer if bad else collector(request)) as (polling, applied):
        await polling.fetch()
        bad = True
        await polling.fetch()
        bad = False
        await polling.fetch()
    assert [config.revision for config in applied] == [3]
    stored = ConfigCache(tmp_path / "config.json").start().candidate
    assert stored is not None
    assert stored.decoded() == CONFIG


async def test_a_configuration_that_cannot_be_applied_is_given_up_until_it_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collector = LittleCollector(CONFIG)
    async with poller(tmp_path, collector) as (polling, applied):
        keep = polling.apply

        async def refuse(config: AgentConfig) -> None:
            if config == CONFIG:
                raise OverflowError("nobody foresaw this")
            await keep(config)

        polling.apply = refuse
        await polling.fetch()
        await polling.fetch()
        assert collector.requests[1].headers.get("if-none-match") == '"3"'
        assert (polling.state.running, polling.state.failed) == (None, 3)
        assert "OverflowError" in str(polling.state.reason)
        collector.config = msgspec.structs.replace(CONFIG, revision=4)
        await polling.fetch()
        assert (polling.state.running, polling.state.received, polling.state.failed) == (4, 4, None)
    assert applied[-1].revision == 4
    assert "is given up" in caplog.text


async def test_a_last_known_configuration_that_cannot_be_applied_does_not_end_the_agent(tmp_path: Path) -> None:
    async with poller(tmp_path, LittleCollector(CONFIG)) as (polling, _):
        await polling.fetch()
    collector = LittleCollector(msgspec.structs.replace(CONFIG, revision=4))
    async with poller(tmp_path, collector) as (polling, applied):
        keep = polling.apply

        async def refuse_the_old(config: AgentConfig) -> None:
            if config.revision == CONFIG.revision:
                raise OverflowError("nobody foresaw this")
            await keep(config)

        polling.apply = refuse_the_old
        running = asyncio.create_task(polling.run())
        for _ in range(2_000):
            await asyncio.sleep(0.005)
            if any(config.revision == 4 for config in applied):
                break
        running.cancel()
    assert [(config.revision, config.targets) for config in applied] == [(0, ()), (4, ())], "idle, then the new one"


async def test_a_tag_that_cannot_be_sent_back_does_not_stop_the_fetching(tmp_path: Path) -> None:
    collector = LittleCollector(CONFIG)
    strange = Reply(200, encode_config(CONFIG), headers={"etag": '"\xe9"'})
    first = [strange]
    async with poller(tmp_path, lambda request: first.pop() if first else collector(request)) as (polling, applied):
        await polling.fetch()
        assert applied == []
        await polling.fetch()
    assert applied == [CONFIG]
    assert len(collector.requests) == 1


async def test_the_last_known_configuration_is_used_while_the_collector_is_away(tmp_path: Path) -> None:
    async with poller(tmp_path, LittleCollector(CONFIG)) as (polling, _):
        await polling.fetch()
    async with poller(tmp_path, lambda _: Reply(503)) as (polling, applied):
        running = asyncio.create_task(polling.run())
        for _ in range(2_000):
            await asyncio.sleep(0.005)
            if applied:
                break
        running.cancel()
    assert applied == [CONFIG]


@pytest.mark.parametrize("content", [b"", b"{", b'{"etag":"1","config":{}}', b"\xff", b"[" * 100_000, None])
async def test_a_broken_cache_counts_as_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "config.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    assert ConfigCache(path).load() is None
