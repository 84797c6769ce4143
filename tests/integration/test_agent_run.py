"""The agent as a process: configuration in, results to disk and to the collector, and a clean end."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from isochrone.config import (
    AgentConfig,
    ApiKey,
    Assignment,
    Budget,
    Duration,
    InferenceOptions,
    Module,
    Provider,
    RttOptions,
)
from isochrone.outcome import Prober
from tests.delivery import TOKEN
from tests.scripted_http import LittleCollector, Reply, Request, serving

pytestmark = pytest.mark.anyio
PROGRAM = (sys.executable, "-m", "agent.cli")
PATIENCE_SECONDS = 60
RTT = Module(
    prober=Prober.RTT,
    interval=Duration(0.5),
    timeout=Duration(0.45),
    rtt=RttOptions(count=2, spacing=Duration(0.02)),
)
CHAT = Module(prober=Prober.INFERENCE, interval=Duration(1), timeout=Duration(0.9), inference=InferenceOptions())


def assignment(name: str, url: str, options: Module, **more: object) -> Assignment:
    return Assignment(
        endpoint=name,
        module=options.prober.value,
        url=url,
        options=options,
        provider=Provider.OPENAI,
        model="m",
        **more,  # type: ignore[arg-type]  # the test names them
    )


def config(*targets: Assignment, revision: int = 1) -> AgentConfig:
    return AgentConfig(revision=revision, agent="a", agent_region="eu", targets=targets)


@asynccontextmanager
async def running(*arguments: str, environment: dict[str, str] | None = None) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *PROGRAM, *arguments, stdout=PIPE, stderr=PIPE, env={"PYTHONUNBUFFERED": "1", **(environment or {})}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def simulator() -> AsyncIterator[str]:
    arguments = ("--listen", "127.0.0.1:0", "--ttft", "20ms", "--tpot", "2ms", "--tokens", "8", "--json")
    async with running("simulate", *arguments) as process:
        assert process.stdout is not None
        yield json.loads(await process.stdout.readline())["url"]


def settings(tmp_path: Path, url: str, **more: str) -> dict[str, str]:
    credential = tmp_path / "credential"
    credential.write_text(f"{TOKEN}\n")
    credential.chmod(0o600)
    return {
        "ISOCHRONE_COLLECTOR_URL": url,
        "ISOCHRONE_CREDENTIAL_FILE": str(credential),
        "ISOCHRONE_STATE_DIR": str(tmp_path / "state"),
        "ISOCHRONE_FLUSH_INTERVAL": "1s",
        "ISOCHRONE_ALLOW_PRIVATE": "127.0.0.1",
        **more,
    }


async def results(process: Process, count: int) -> list[dict[str, object]]:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        return [json.loads(await process.stdout.readline()) for _ in range(count)]


async def stopped(process: Process, how: int = signal.SIGTERM) -> tuple[list[dict[str, object]], str]:
    """Stop the agent; return the results that it still printed, and its log."""
    process.send_signal(how)
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, log = await process.communicate()
    return [json.loads(line) for line in out.splitlines()], log.decode()


def ids(lines: list[dict[str, object]]) -> set[tuple[str, object]]:
    return {(str(line["boot_id"]), line["seq"]) for line in lines}


def stored(collector: LittleCollector) -> set[tuple[str, object]]:
    assert len(collector.ids) == len(set(collector.ids))
    return {(str(boot_id), seq) for boot_id, seq in collector.ids}


async def test_it_measures_delivers_and_ends_cleanly(tmp_path: Path) -> None:
    async with simulator() as endpoint:
        collector = LittleCollector(config(assignment("near", endpoint, RTT), assignment("near", endpoint, CHAT)))
        async with serving(collector) as url, running("run", "--json", environment=settings(tmp_path, url)) as agent:
            lines = await results(agent, 8)
            more, log = await stopped(agent)
            assert agent.returncode == 0, log
    lines += more
    assert {line["module"] for line in lines} == {"rtt", "inference"}
    assert sum(line["outcome"] == "ok" for line in lines) > len(lines) / 2, log
    assert stored(collector) == ids(lines)
    assert TOKEN not in log
    last = list(collector.batches.values())[-1].status
    assert last.config_revision == 1
    assert {line["config_revision"] for line in lines} == {1}
    assert last.expected_results >= len(lines)


async def test_while_the_collector_is_away_results_wait_and_arrive_once(tmp_path: Path) -> None:
    async with simulator() as endpoint:
        collector = LittleCollector(config(assignment("near", endpoint, RTT)))
        collector.faults = [Reply(503), Reply(200, b"<html>"), Reply(200, b"x" * 99, cut=40)]
        async with serving(collector) as url:
            async with running("run", "--json", environment=settings(tmp_path, url)) as agent:
                lines = await results(agent, 3)
                agent.kill()
            async with running("run", "--json", environment=settings(tmp_path, url)) as agent:
                lines += await results(agent, 3)
                more, _ = await stopped(agent)
                assert agent.returncode == 0
            lines += more
            collector.faults = []
            async with running("run", "--json", environment=settings(tmp_path, url)) as agent:
                lines += await results(agent, 1)
                lines += (await stopped(agent))[0]
    assert ids(lines) <= stored(collector)
    assert len({boot_id for boot_id, _ in stored(collector)}) == 3


async def test_a_restart_without_its_collector_goes_on_with_the_last_known_configuration(tmp_path: Path) -> None:
    async with simulator() as endpoint:
        collector = LittleCollector(config(assignment("near", endpoint, RTT)))
        async with serving(collector) as url, running("run", "--json", environment=settings(tmp_path, url)) as agent:
            await results(agent, 1)
            await stopped(agent)
        async with running("run", "--json", environment=settings(tmp_path, url)) as agent:
            lines = await results(agent, 2)
            more, log = await stopped(agent, signal.SIGINT)
            assert agent.returncode == 0
    assert "last known" in log
    assert log.count("not acknowledged") <= 3
    assert len(list((tmp_path / "state" / "spool").glob("*.seg"))) >= 1
    assert len(lines + more) >= 2


async def test_the_operator_has_the_last_word_on_what_is_probed(tmp_path: Path) -> None:
    async with simulator() as endpoint:
        targets = (
            assignment("allowed", endpoint, RTT),
            assignment("elsewhere", "http://127.0.0.2:9/", RTT),
            assignment("costly", endpoint, CHAT, budget=Budget(tokens_per_day=1)),
            assignment("no-key", endpoint, CHAT, api_key=ApiKey(env="NO_SUCH_KEY")),
            assignment("our-file", endpoint, CHAT, api_key=ApiKey(file=str(tmp_path / "credential"))),
            assignment("our-key", endpoint, CHAT, api_key=ApiKey(env="ISOCHRONE_CREDENTIAL_FILE")),
        )
        collector = LittleCollector(config(*targets))
        async with serving(collector) as url:
            allow = endpoint.removesuffix("/v1")
            environment = settings(tmp_path, url, ISOCHRONE_ALLOW=allow)
            async with running("run", "--json", environment=environment) as agent:
                lines = await results(agent, 28)
                await stopped(agent)
    outcomes = {
        name: [line["outcome"] for line in lines if line["endpoint"] == name] for name in (t.endpoint for t in targets)
    }
    assert "ok" in outcomes["allowed"]
    assert "denied" not in outcomes["allowed"]
    assert set(outcomes["elsewhere"]) == {"denied"}
    spent = outcomes["costly"].index("ok") + 1
    assert set(outcomes["costly"][spent:]) == {"budget"}
    assert set(outcomes["no-key"]) == {"auth"}
    assert set(outcomes["our-file"]) == {"auth"}
    assert set(outcomes["our-key"]) == {"denied"}


class Refusing:
    """An endpoint that answers every prompt alike, and keeps the requests."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.requests: list[Request] = []

    @property
    def keys(self) -> set[str]:
        return {request.headers["authorization"] for request in self.requests if "authorization" in request.headers}

    def __call__(self, request: Request) -> Reply:
        self.requests.append(request)
        return self.reply


async def test_an_endpoint_that_asks_to_wait_is_left_alone_and_every_probe_is_recorded(tmp_path: Path) -> None:
    busy = Refusing(Reply(429, headers={"retry-after": "600"}))
    async with serving(busy) as endpoint:
        collector = LittleCollector(config(assignment("near", endpoint, RTT), assignment("near", endpoint, CHAT)))
        async with serving(collector) as url, running("run", "--json", environment=settings(tmp_path, url)) as agent:
            lines = await results(agent, 10)
            more, log = await stopped(agent)
    lines += more
    chats = [line for line in lines if line["module"] == "inference"]
    assert len(chats) >= 2
    assert {line["outcome"] for line in chats} == {"rate_limited"}
    assert [line["http_status"] for line in chats] == [429] + [None] * (len(chats) - 1)
    assert len(busy.requests) == 1, log
    assert {line["outcome"] for line in lines if line["module"] == "rtt"} == {"ok"}
    assert stored(collector) == ids(lines)


@asynccontextmanager
async def moved(tmp_path: Path, table: str) -> AsyncIterator[tuple[Refusing, Refusing, str]]:
    """Run an agent while its collector moves an endpoint with a key; yield both servers, then, and the agent's log.

    In `table`, OLD and NEW stand for the two origins.
    """
    old, new = Refusing(Reply(401)), Refusing(Reply(401))
    async with serving(old) as old_url, serving(new) as new_url:
        key = ApiKey(env="SOME_KEY")
        collector = LittleCollector(config(assignment("e", old_url, CHAT, api_key=key)))
        (tmp_path / "agent.toml").write_text(table.replace("OLD", old_url).replace("NEW", new_url))
        async with serving(collector) as url:
            environment = settings(tmp_path, url, SOME_KEY="sk-4711")
            arguments = ("run", "--json", "--settings", str(tmp_path / "agent.toml"))
            async with running(*arguments, environment=environment) as agent:
                await results(agent, 1)
                collector.config = config(assignment("e", new_url, CHAT, api_key=key), revision=2)
                while (line := (await results(agent, 1))[0])["config_revision"] == 1:
                    pass
                _, log = await stopped(agent)
        yield old, new, f"{line['outcome']}: {line['reason']}\n{log}"


@pytest.mark.parametrize("table", ["", '[keys]\nSOME_KEY = "OLD"\n'], ids=["no table", "a table"])
async def test_a_collector_that_moves_an_endpoint_does_not_move_its_key(tmp_path: Path, table: str) -> None:
    async with moved(tmp_path, table) as (old, new, told):
        assert old.keys == {"Bearer sk-4711"}
        assert new.requests == []
    assert told.startswith("denied: the key SOME_KEY is bound to http://127.0.0.1:")
    assert "WARNING config: sends the key SOME_KEY to http://127.0.0.1:" in told
    assert "sk-4711" not in told


async def test_a_key_goes_where_the_agents_own_settings_say(tmp_path: Path) -> None:
    async with moved(tmp_path, '[keys]\nSOME_KEY = ["OLD", "NEW"]\n') as (old, new, told):
        assert old.keys == new.keys == {"Bearer sk-4711"}
    assert told.startswith("auth: ")
    assert "sends the key" not in told


async def test_a_second_agent_on_one_state_folder_ends_with_75(tmp_path: Path) -> None:
    async with serving(LittleCollector(config())) as url:
        environment = settings(tmp_path, url)
        async with running("run", environment=environment) as first:
            assert first.stderr is not None
            await first.stderr.readline()
            async with running("run", environment=environment) as second:
                _, log = await second.communicate()
                assert second.returncode == 75
                assert b"another agent works on this spool" in log
                assert log.count(b"\n") == 1
            await stopped(first)
            assert first.returncode == 0


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("ISOCHRONE_COLLECTOR_URL", "nowhere", "ISOCHRONE_COLLECTOR_URL"),
        ("ISOCHRONE_CREDENTIAL_FILE", "/nowhere", "/nowhere: the credential cannot be read"),
        ("ISOCHRONE_FLUSH_INTERVAL", "0s", "ISOCHRONE_FLUSH_INTERVAL"),
    ],
)
async def test_wrong_settings_end_with_2_and_one_line(tmp_path: Path, *, name: str, value: str, told: str) -> None:
    environment = settings(tmp_path, "http://127.0.0.1:9") | {name: value}
    async with running("run", environment=environment) as agent:
        _, log = await agent.communicate()
    assert agent.returncode == 2
    assert told in log.decode()
    assert log.count(b"\n") == 1


async def check(tmp_path: Path, name: str, text: str) -> tuple[int | None, str, str]:
    path = tmp_path / name
    path.write_text(text)
    async with running("check-config", str(path)) as process:
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode().replace(str(tmp_path), "")


async def test_check_config_shows_what_it_understood(tmp_path: Path) -> None:
    example = (Path(__file__).parents[2] / "deploy" / "targets.example.yml").read_text()
    code, out, _ = await check(tmp_path, "targets.yml", example)
    assert code == 0
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["target", "module", "prober", "every", "timeout"],
        ["openai-us", "rtt", "rtt", "30s", "5s"],
        ["openai-us", "chat", "inference", "1m", "1m"],
        ["openai-us", "chat_warm", "inference", "1m", "1m"],
        ["aws-eu-central-1", "rtt", "rtt", "30s", "5s"],
    ]
    code, out, _ = await check(tmp_path, "agent.toml", 'flush_interval = "5s"\nallow = ["https://a.example"]\n')
    assert code == 0
    assert "https://a.example:443" in out


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("t.yml", "modules: {}\nendpoint: []\n", "/t.yml:2: endpoint: unknown key (did you mean 'endpoints'?)"),
        ("t.yaml", "", "/t.yaml: the file is empty"),
        ("a.toml", "\nstate = 5\n", "/a.toml:2: state: unknown setting"),
        ("a.json", "{}", "/a.json: neither settings (.toml) nor targets (.yml, .yaml)"),
    ],
)
async def test_check_config_tells_what_is_wrong(tmp_path: Path, *, name: str, text: str, told: str) -> None:
    code, out, err = await check(tmp_path, name, text)
    assert (code, out) == (2, "")
    assert err.startswith(told)
