"""Each agent's share of the targets, with its ETag; and what becomes of a new target file."""

import asyncio
from pathlib import Path

import pytest

from collector import admin
from collector.config import Settings
from isochrone.config import decode_agent_config
from tests.collecting import batch_of, running_collector

pytestmark = pytest.mark.anyio

FILE = """
modules:
  rtt: {prober: rtt, interval: 30s, timeout: 5s}
endpoints: []
sites:
  - {name: one, url: "http://127.0.0.1:9/", modules: [rtt]}
"""


async def test_an_agent_gets_its_share_with_a_strong_etag(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        answer = await collector.fetch("/v1/agent/config")
        config = decode_agent_config(answer.content)
        assert (config.agent, config.agent_region, config.revision) == ("agent-1", "eu-central", 1)
        assert [(one.endpoint, one.module) for one in config.targets] == [
            ("near", "rtt"),
            ("near", "chat"),
            ("near", "warm"),
            ("site-1", "rtt"),
        ]
        etag = answer.headers["etag"]
        assert etag.startswith('"')
        ack = (await collector.send(batch_of([]))).json()
        assert ack["config_etag"] == etag


@pytest.mark.parametrize(("form", "status"), [("{}", 304), ("W/{}", 304), ('"x", {}', 304), ("*", 304), ('"x"', 200)])
async def test_an_agent_that_has_it_already_gets_304(database_url: str, form: str, status: int) -> None:
    async with running_collector(database_url) as collector:
        etag = (await collector.fetch("/v1/agent/config")).headers["etag"]
        headers = {"Authorization": f"Bearer {collector.token}", "If-None-Match": form.format(etag)}
        answer = await collector.client.get("/v1/agent/config", headers=headers)
        assert answer.status_code == status
        assert answer.headers["etag"] == etag
        assert (answer.content == b"") == (status == 304)


async def test_before_the_first_target_file_an_agent_has_nothing_to_do(database_url: str) -> None:
    async with running_collector(database_url, targets=None) as collector:
        config = decode_agent_config((await collector.fetch("/v1/agent/config")).content)
        assert (config.revision, config.targets) == (0, ())


async def test_a_stranger_gets_no_configuration(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        assert (await collector.client.get("/v1/agent/config")).status_code == 401


async def test_a_reload_takes_a_right_file_and_refuses_a_wrong_one_whole(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "targets.yml"
    path.write_text(FILE, encoding="utf-8")
    settings = Settings(database_url=database_url, targets=path)
    async with running_collector(database_url, targets=None, settings=settings) as collector:
        applied = await collector.client.post("/-/reload")
        assert applied.status_code == 200, applied.text
        before = (await collector.fetch("/v1/agent/config")).content
        path.write_text(FILE.replace("interval: 30s", "interval: 1s").replace("one", "TWO"), encoding="utf-8")
        refused = await collector.client.post("/-/reload")
        assert refused.status_code == 422
        assert any(f"{path}:" in problem for problem in refused.json()["problems"])
        assert (await collector.fetch("/v1/agent/config")).content == before
        path.write_text(FILE.replace("one", "two"), encoding="utf-8")
        changed = (await collector.client.post("/-/reload")).json()
        assert changed["changed"] is True
        config = decode_agent_config((await collector.fetch("/v1/agent/config")).content)
        assert [one.endpoint for one in config.targets] == ["two"]


async def test_a_reload_without_a_file_says_how_to_have_one(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        answer = await collector.client.post("/-/reload")
    assert answer.status_code == 409
    assert "--targets" in answer.json()["detail"]


async def test_two_who_apply_at_once_leave_one_revision_of_one_content(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "targets.yml"
    path.write_text(FILE, encoding="utf-8")
    targets = admin.read_targets(path)
    both = await asyncio.gather(*(asyncio.to_thread(admin.apply_targets, database_url, targets) for _ in range(4)))
    assert sorted(one.changed for one in both) == [False, False, False, True]
    assert {one.revision for one in both} == {1}
