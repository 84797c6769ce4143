"""F87 and F88: neither a configuration nor a redirect takes a key to an origin that it is not bound to."""

from pathlib import Path

import pytest

from agent.policy import Policy
from isochrone.outcome import Outcome
from tests.agent_process import Endpoint, chat, config_of, ended, printed, running_agent
from tests.scripted_http import LittleCollector, Reply, serving
from tests.simulated import KEY, inference, probes

pytestmark = pytest.mark.anyio

SECRET = "a-key-of-nobody-s-form"


async def test_f87_a_key_is_not_sent_to_another_origin_that_is_allowed(tmp_path: Path) -> None:
    own, other = Endpoint(Reply(401)), Endpoint(Reply(401))
    async with serving(own) as own_url, serving(other) as other_url:
        policy = tmp_path / "policy.toml"
        policy.write_text(f'allow = ["{own_url}", "{other_url}"]\n[keys]\nOWN_KEY = "{own_url}"\n')
        targets = (
            chat("own", own_url, key="OWN_KEY"),
            chat("other", other_url, key="OWN_KEY"),
            chat("unnamed", other_url, key="UNNAMED_KEY"),
        )
        collector = LittleCollector(config_of(*targets))
        environment = {"ISOCHRONE_POLICY_FILE": str(policy), "OWN_KEY": SECRET, "UNNAMED_KEY": "other" + SECRET}
        async with serving(collector) as url, running_agent(tmp_path, url, **environment) as agent:
            lines = await printed(agent, lambda lines: len({one["endpoint"] for one in lines}) == len(targets))
            more, log = await ended(agent)
    outcomes = {(line["endpoint"], line["outcome"]) for line in lines + more}
    assert outcomes == {("own", "auth"), ("other", "denied"), ("unnamed", "denied")}
    assert {request.headers.get("authorization") for request in own.requests} == {f"Bearer {SECRET}"}
    assert other.requests == []
    assert SECRET not in log


async def test_f87_with_a_policy_file_a_key_that_it_does_not_name_goes_nowhere(tmp_path: Path) -> None:
    endpoint = Endpoint(Reply(401))
    async with serving(endpoint) as endpoint_url:
        policy = tmp_path / "policy.toml"
        policy.write_text(f'allow = ["{endpoint_url}"]\n')
        collector = LittleCollector(config_of(chat("e", endpoint_url, key="OWN_KEY")))
        environment = {"ISOCHRONE_POLICY_FILE": str(policy), "OWN_KEY": SECRET}
        async with serving(collector) as url, running_agent(tmp_path, url, **environment) as agent:
            (line,) = await printed(agent, lambda lines: len(lines) == 1)
    assert (line["outcome"], "is not in the table [keys]" in line["reason"]) == ("denied", True)
    assert endpoint.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_f88_a_redirect_is_not_followed_and_the_key_stays(status: int) -> None:
    other = Endpoint(Reply(200))
    async with serving(other) as other_url:
        reply = Reply(status, headers={"location": f"{other_url}/v1?key={KEY}"})
        first = Endpoint(reply)
        async with serving(first) as url, probes() as running:
            result = await running.run(inference(url))
    assert (len(first.requests), other.requests) == (1, [])
    assert result.outcome is Outcome.PROTOCOL
    assert result.reason is not None
    assert "not followed: give the final URL" in result.reason
    assert KEY not in result.reason


def test_f88_a_policy_never_sees_a_second_origin() -> None:
    """The origin that was judged is that of the URL: nothing in a target names another host or header."""
    assert Policy(allow=("https://a.example:443",)).problems(inference("https://a.example@b.example/")) != []
