"""F89: a collector that asks for too much gets what the operator's ceilings allow, also over restarts."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from isochrone.config import MAX_CONFIG_BYTES, decode_agent_config, encode_config
from tests.agent_process import Endpoint, chat, config_of, ended, handshakes, printed, running_agent
from tests.scripted_http import LittleCollector, Reply, Request, serving

pytestmark = pytest.mark.anyio

REQUESTS = 3
POLICY = f"""
allow_private = ["127.0.0.1"]
min_interval = "400ms"
max_output_tokens = 8
max_requests_per_day = {REQUESTS}
"""


def polls(collector: LittleCollector) -> list[Request]:
    return [request for request in collector.requests if request.method == "GET"]


@pytest.mark.slow_fault
async def test_f89_a_greedy_configuration_is_narrowed_and_the_day_s_ceiling_outlives_a_restart(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(POLICY)
    endpoint, day = Endpoint(Reply(500)), datetime.now(UTC).date()
    async with serving(endpoint) as endpoint_url:
        greedy = [chat(f"t{index}", endpoint_url, interval=0.001, timeout=5, tokens=4096) for index in range(4)]
        collector = LittleCollector(config_of(*greedy, handshakes("rtt", endpoint_url)))
        async with serving(collector) as url:
            for _ in range(2):
                async with running_agent(tmp_path, url, ISOCHRONE_POLICY_FILE=str(tmp_path / "policy.toml")) as agent:
                    lines = await printed(
                        agent, lambda lines: sum(line["outcome"] == "budget" for line in lines) > 2 * len(greedy)
                    )
                    more, log = await ended(agent)
    if datetime.now(UTC).date() != day:
        pytest.skip("a new day began meanwhile, with a new budget")
    chats = [json.loads(request.body) for request in endpoint.requests if request.method == "POST"]
    assert len(chats) == REQUESTS
    assert {body.get("max_completion_tokens", body.get("max_tokens")) for body in chats} == {8}
    assert {line["outcome"] for line in lines + more if line["module"] == "chat"} == {"budget"}  # the second run's
    assert {line["outcome"] for line in lines + more if line["module"] == "rtt"} <= {"ok"}
    reasons = {line["reason"] for line in lines if line["module"] == "chat"}
    assert reasons == {f"{REQUESTS} of {REQUESTS} are spent today (UTC): max_requests_per_day of this agent's policy"}
    assert "narrowed: t0 chat: interval 1ms becomes 400ms" in log
    assert "narrowed: t0 chat: max_output_tokens 4096 becomes 8" in log


def test_f89_a_million_tokens_are_no_configuration() -> None:
    good = encode_config(config_of(chat("t", "https://a.example", tokens=4096)))
    with pytest.raises(ValueError, match="max_output_tokens"):
        decode_agent_config(good.replace(b"4096", b"1000000"))


@pytest.mark.slow_fault
async def test_f89_a_hundred_thousand_targets_are_refused_whole_and_the_present_ones_go_on(tmp_path: Path) -> None:
    collector = LittleCollector(config_of(chat("t", "http://127.0.0.1:9")))
    async with serving(collector) as url, running_agent(tmp_path, url) as agent:
        await printed(agent, lambda lines: len(lines) == 1)
        flood = config_of(*(chat(f"t{index}", "http://127.0.0.1:9") for index in range(100_000)), revision=2)
        assert len(encode_config(flood)) > MAX_CONFIG_BYTES
        collector.config = flood
        asked = len(polls(collector))
        await printed(agent, lambda _: len(polls(collector)) > asked)
        await printed(agent, lambda lines: len(lines) == 3)
        more, log = await ended(agent)
    assert f"larger than {MAX_CONFIG_BYTES} bytes, the most that an agent takes: the present one stays" in log
    assert {line["config_revision"] for line in more} <= {1}
