"""F95: what the agent writes is its own alone, and a secret that everybody may read is refused with what mends it."""

import stat
from pathlib import Path

import msgspec
import pytest

from agent.config import load_settings
from agent.errors import ConfigError
from isochrone.config import ApiKey, Assignment
from tests.agent_process import Endpoint, chat, config_of, ended, printed, running_agent
from tests.scripted_http import LittleCollector, Reply, serving

pytestmark = pytest.mark.anyio


def with_file(target: Assignment, key: Path) -> Assignment:
    return msgspec.structs.replace(target, api_key=ApiKey(file=str(key)))


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in [folder, *folder.rglob("*")]}


@pytest.mark.slow_fault
async def test_f95_everything_that_an_agent_writes_is_its_own_alone(tmp_path: Path) -> None:
    endpoint = Endpoint(Reply(500))
    async with serving(endpoint) as endpoint_url:
        collector = LittleCollector(config_of(chat("t", endpoint_url)))
        collector.faults = [Reply(503)] * 100  # results wait in the spool
        bounds = {"ISOCHRONE_ALLOW_PRIVATE": "127.0.0.1"}
        async with serving(collector) as url, running_agent(tmp_path, url, **bounds) as agent:
            await printed(agent, lambda lines: len(lines) == 4)
            await ended(agent)
    found = modes(tmp_path / "state")
    assert {"config.candidate.json", "config.notes.json", "budget.json", "spool", "spool/lock"} <= found.keys()
    assert any(name.endswith(".seg") for name in found)
    folders = {name for name in found if (tmp_path / "state" / name).is_dir()}
    assert {name: mode for name, mode in found.items() if mode != (0o700 if name in folders else 0o600)} == {}


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o666])
async def test_f95_a_key_file_that_everybody_may_read_is_refused_and_mended_by_one_command(
    tmp_path: Path, mode: int
) -> None:
    key = tmp_path / "key"
    key.write_text("a-key-of-nobody-s-form")
    key.chmod(mode)
    endpoint = Endpoint(Reply(500))
    async with serving(endpoint) as endpoint_url:
        collector = LittleCollector(config_of(with_file(chat("t", endpoint_url), key)))
        bounds = {"ISOCHRONE_ALLOW_PRIVATE": "127.0.0.1"}
        async with serving(collector) as url, running_agent(tmp_path, url, **bounds) as agent:
            (line,) = await printed(agent, lambda lines: len(lines) == 1)
            assert (line["outcome"], endpoint.requests) == ("auth", [])
            assert str(line["reason"]).endswith(f"(mode {mode:04o}): chmod 600 {key}")
            key.chmod(0o600)
            await printed(agent, lambda lines: any(one["outcome"] == "http_5xx" for one in lines))


def test_f95_a_policy_that_everybody_may_change_is_no_policy(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("max_output_tokens = 8\n")
    environment = {
        "ISOCHRONE_COLLECTOR_URL": "https://c.example.org",
        "ISOCHRONE_CREDENTIAL_FILE": "/run/token",
        "ISOCHRONE_POLICY_FILE": str(policy),
    }
    policy.chmod(0o644)
    assert load_settings(environment, file=None, flags={}).max_output_tokens == 8
    policy.chmod(0o646)
    with pytest.raises(ConfigError, match=f"everybody may change this policy .*chmod o-w {policy}"):
        load_settings(environment, file=None, flags={})
