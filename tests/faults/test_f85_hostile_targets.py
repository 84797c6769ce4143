"""F85: a collector that names hosts which are none of its business is refused on the agent, and told so."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.agent_process import Endpoint, chat, config_of, ended, handshakes, printed, running_agent
from tests.scripted_http import LittleCollector, Reply, serving

pytestmark = pytest.mark.anyio

HERE = (
    *("127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "localhost", "x.localhost"),
    *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::1]", "[::]"),
)
"""This machine, by every name; and by two that a router would have to know."""
CLOUD = ("169.254.169.254", "2852039166", "[fd00:ec2::254]", "[::ffff:a9fe:a9fe]", "[fe80::1]", "100.100.100.200")
OTHER = ("file:///etc/passwd", "gopher://127.0.0.1:70/x", "ftp://127.0.0.1/", "http://user:word@127.0.0.1/")


def urls_against(url: str) -> list[str]:
    port = urlsplit(url).port
    return [*(f"http://{host}:{port}/v1" for host in HERE), *(f"http://{host}/latest" for host in CLOUD), *OTHER]


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({}, "write allow_private = ["),
        ({"ISOCHRONE_ALLOW": "https://api.openai.com"}, "is not in this agent's allow-list: add it to allow"),
        ({"ISOCHRONE_ALLOW_PRIVATE": "10.0.0.0/8,llm.internal"}, "write allow_private = ["),
    ],
    ids=["no policy", "an allow-list", "other private addresses"],
)
async def test_f85_hosts_that_a_collector_may_not_name_are_refused_and_told(
    tmp_path: Path, bounds: dict[str, str], words: str
) -> None:
    endpoint = Endpoint(Reply(401))
    async with serving(endpoint) as url:
        urls = urls_against(url)
        targets = [chat(f"t{index}", url, interval=1) for index, url in enumerate(urls)]
        targets += [handshakes(f"t{index}", url) for index, url in enumerate(urls)]
        everyone = {(target.endpoint, target.module) for target in targets}
        collector = LittleCollector(config_of(*targets))
        async with serving(collector) as collector_url, running_agent(tmp_path, collector_url, **bounds) as agent:
            lines = await printed(agent, lambda lines: {(one["endpoint"], one["module"]) for one in lines} == everyone)
            more, _ = await ended(agent)
    assert endpoint.requests == []
    assert {line["outcome"] for line in lines + more} == {"denied"}
    assert not any(line["address"] or any(line["marks"].values()) for line in lines + more)
    reasons = {urls[int(line["endpoint"][1:])]: line["reason"] for line in lines}
    assert {url for url, reason in reasons.items() if words not in reason} == set(OTHER)
    told = {result.reason for batch in collector.batches.values() for result in batch.results}
    assert told == set(reasons.values())


async def test_f85_what_the_operator_wrote_is_probed(tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    endpoint = Endpoint(Reply(401))
    async with serving(endpoint) as url:
        collector = LittleCollector(config_of(chat("near", url)))
        bounds = {"ISOCHRONE_ALLOW": url}
        async with serving(collector) as collector_url, running_agent(tmp_path, collector_url, **bounds) as agent:
            (line,) = await printed(agent, lambda lines: len(lines) == 1)
    assert line["outcome"] == "auth"
    assert endpoint.requests
