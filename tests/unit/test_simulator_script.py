"""A simulator's script is checked whole, and plays what it says at the moments it says."""

import json
from pathlib import Path

import pytest

from agent.errors import ConfigError
from agent.simulator import Scenario, Silence, load_script
from agent.simulator.play import plan
from agent.sse import SseParser
from isochrone.config import Duration


def steady(seconds: float) -> float:
    return seconds


def test_tokens_are_scheduled_absolutely_from_the_request() -> None:
    scenario = Scenario(rtt=Duration(0.1), ttft=Duration(0.3), tpot=Duration(0.02), tokens=4)
    times = [write.at for write in plan(scenario, limit=None, spread=steady)]
    assert times == pytest.approx([0.1, 0.4, 0.42, 0.44, 0.46, 0.46])


@pytest.mark.parametrize(("limit", "finish", "tokens"), [(2, "length", 2), (None, "stop", 4), (9, "stop", 4)])
def test_the_request_bounds_the_tokens_and_the_end_says_so(limit: int | None, finish: str, tokens: int) -> None:
    data = b"".join(write.data for write in plan(Scenario(tokens=4), limit=limit, spread=steady))
    *_, ending, usage, done = SseParser().feed(data)
    assert json.loads(ending.data)["choices"][0]["finish_reason"] == finish
    assert json.loads(usage.data)["usage"]["completion_tokens"] == tokens
    assert done.data == "[DONE]"


@pytest.mark.parametrize(
    ("scenario", "events"),
    [
        (Scenario(tokens=4, role=False), 4 + 3),
        (Scenario(tokens=4), 2 + 4 + 3),
        (Scenario(tokens=4, per_event=2), 2 + 2 + 3),
        (Scenario(tokens=4, cut_after=1), 2 + 1),
        (Scenario(tokens=4, end_after=0), 2),
        (Scenario(tokens=4, error_after=2), 2 + 2 + 1),
        (Scenario(tokens=4, silence=Silence.TOKENS), 2),
        (Scenario(tokens=4, silence=Silence.STALL), 2 + 2),
        (Scenario(tokens=4, usage=False, finish=False, done=False), 2 + 4),
        (Scenario(tokens=4, comments=True, crlf=True), 2 + 4 + 3),
    ],
)
def test_each_scenario_sends_its_events(scenario: Scenario, events: int) -> None:
    data = b"".join(write.data for write in plan(scenario, limit=None, spread=steady))
    assert len(SseParser().feed(data)) == events


def test_a_gathered_stream_leaves_in_one_write() -> None:
    writes = list(plan(Scenario(tokens=8, coalesce=100), limit=None, spread=steady))
    assert len(writes) == 3


def test_scenarios_are_chosen_by_model_and_take_the_rest_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "script.toml"
    path.write_text('default = "limited"\n[scenarios.limited]\nstatus = 429\n[scenarios.slow]\nttft = "2s"\n')
    script = load_script(path, Scenario(tokens=7))
    assert script.scenario("slow") == Scenario(tokens=7, ttft=Duration(2))
    assert script.scenario("unheard-of") == script.scenario(None) == Scenario(tokens=7, status=429)


def test_json_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text('{"scenarios": {"cut": {"cut_after": 4}}}')
    script = load_script(path, Scenario())
    assert script.scenario("cut").cut_after == 4
    assert script.scenario("other") == Scenario()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[scenarios.a]\nttfb = '1s'", "ttfb"),
        ("[scenarios.a]\nttft = 'soon'", "scenarios.a"),
        ("[scenarios.a]\njitter = 2.0", "jitter"),
        ("default = 'b'\n[scenarios.a]", "'b' is none of the scenarios"),
        ("[scenario.a]", "'scenario' is no key"),
        ("scenarios = 3", "a script is a table"),
        ("[scenarios]\na = 3", "scenarios.a"),
        ("]", "script.toml"),
    ],
)
def test_a_wrong_script_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "script.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_script(path, Scenario())
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_script_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: No such file"):
        load_script(tmp_path / "absent.toml", Scenario())
