"""Configurations that nobody should send: the agent goes on with the last known good one and says what failed."""

import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isochrone.config import MAX_CONFIG_BYTES, ConfigState, decode_agent_config, encode_config
from tests.configuring import Giver, config, good_configuration, polled
from tests.scripted_http import Reply

pytestmark = pytest.mark.anyio

GOOD = msgspec.json.decode(encode_config(config(2, "b", "c")))
PLACES = [
    (),
    ("revision",),
    ("agent",),
    ("agent_region",),
    ("targets",),
    ("targets", 0),
    ("targets", 0, "endpoint"),
    ("targets", 0, "module"),
    ("targets", 0, "url"),
    ("targets", 1, "options"),
    ("targets", 1, "options", "prober"),
    ("targets", 1, "options", "interval"),
    ("targets", 1, "options", "timeout"),
    ("targets", 1, "options", "rtt"),
    ("targets", 1, "options", "rtt", "count"),
]
NASTY: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from(["", "\x00", "1e999s", "-1s", "99999999d", "\N{BOM}", "../../etc/passwd", "${jndi}", "x" * 70_000]),
    st.text(max_size=20).filter(lambda text: text.isprintable()),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.sampled_from(["revision", "url", "__class__", "extra"]), st.integers(), max_size=3),
)


def mutated(place: tuple[str | int, ...], value: object, *, extra: bool) -> bytes:
    """Return the good configuration with one place replaced, or given an unknown key."""
    document: Any = copy.deepcopy(GOOD)
    if not place:
        return msgspec.json.encode(value)
    *above, last = place
    holder = document
    for step in above:
        holder = holder[step]
    before = holder.get(last) if isinstance(holder, dict) else holder[last]
    holder[last] = {**before, "extra": value} if extra and isinstance(before, dict) else value
    return msgspec.json.encode(document)


def readable(body: bytes) -> bool:
    try:
        decode_agent_config(body)
    except ValueError:
        return False
    return True


@pytest.mark.slow_fault
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), value=NASTY, extra=st.booleans())
async def test_f57_of_mutated_configurations_none_stops_the_agent(
    place: tuple[str | int, ...], value: object, *, extra: bool
) -> None:
    giver = Giver(config(1, "a"))
    with TemporaryDirectory() as folder:
        await good_configuration(Path(folder), giver)
        body = mutated(place, value, extra=extra)
        async with polled(Path(folder), giver) as agent:
            giver.give(body, 2)
            await agent.poller.fetch()
            state = agent.poller.state
            if readable(body):
                assert (state.failed, state.probation) == (None, True)
            else:
                assert (state.running, state.received, state.failed) == (1, 2, 2)
                assert str(state.reason).startswith("not of the expected form")
            giver.give(config(3, "d"), 3)
            await agent.poller.fetch()
            assert (agent.poller.state.running, agent.poller.state.failed) == (3, None)


TOO_LONG = b'{"x":"' + b"y" * 300_000 + b'"}'
UNKNOWN_KEY = encode_config(config(2, "b")).replace(b'"timeout"', b'"shell":"id","timeout"')


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b"{}",
        b'{"revision":2}',
        encode_config(config(2, "b")).replace(b'"30s"', b'"1e999s"'),
        encode_config(config(2, "b")).replace(b'"rtt"', b'"rm -rf"'),
        UNKNOWN_KEY,
    ],
)
async def test_f57_a_hostile_configuration_is_refused_and_reported(tmp_path: Path, body: bytes) -> None:
    giver = Giver(config(1, "a"))
    await good_configuration(tmp_path, giver)
    async with polled(tmp_path, giver) as agent:
        giver.give(body, 2)
        await agent.poller.fetch()
        await agent.poller.fetch()
        assert giver.bodies == 2, "one body each: what is bad is not sent again"
        state = agent.poller.state
    assert (state.running, state.received, state.failed) == (1, 2, 2)
    async with polled(tmp_path, giver) as agent:
        assert (agent.poller.state.running, agent.poller.state.failed) == (1, 2), "still known after a start"


async def test_f57_one_that_is_too_long_is_refused_and_reported(tmp_path: Path) -> None:
    giver = Giver(config(1, "a"))
    await good_configuration(tmp_path, giver)
    async with polled(tmp_path, giver) as agent:
        giver.give(TOO_LONG, 2)
        await agent.poller.fetch()
        await agent.poller.fetch()
        assert giver.bodies == 2, "it is not sent again"
        state = agent.poller.state
    assert (state.running, state.received, state.failed) == (1, 2, 2)
    assert str(state.reason).startswith(f"larger than {MAX_CONFIG_BYTES} bytes")


@pytest.mark.parametrize(
    "page",
    [
        Reply(200, b"x" * 300_000, "text/html", headers={"etag": '"5f3a"'}),
        Reply(502, b"x" * 300_000, "text/html", headers={"etag": '"2-0"'}),
        Reply(200, b"x" * 300_000, "text/html"),
    ],
)
async def test_f57_a_long_page_of_a_proxy_is_not_taken_for_a_configuration(tmp_path: Path, page: Reply) -> None:
    giver = Giver(config(1, "a"))
    await good_configuration(tmp_path, giver)
    async with polled(tmp_path, giver) as agent:
        giver.faults = [page]
        await agent.poller.fetch()
        assert agent.poller.state == ConfigState(running=1)
        giver.give(config(2, "b"), 2)
        await agent.poller.fetch()
        assert agent.poller.state.running == 2


async def test_f57_one_that_the_local_policy_refuses_whole_is_given_up(tmp_path: Path) -> None:
    giver = Giver(config(1, "a"))
    await good_configuration(tmp_path, giver)
    async with polled(tmp_path, giver) as agent:
        agent.poller.problems = lambda target: ["not here"] if target.endpoint.startswith("evil") else []
        giver.give(config(2, "evil-1", "evil-2"), 2)
        await agent.poller.fetch()
        assert (agent.poller.state.running, agent.poller.state.failed) == (1, 2)
        assert "not here" in str(agent.poller.state.reason)
        giver.give(config(3, "evil-1", "b"), 3)
        await agent.poller.fetch()
        assert agent.poller.state.running == 3, "what is allowed of it is probed, the rest ends as denied"
