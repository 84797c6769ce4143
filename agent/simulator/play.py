"""A scenario in, the writes of one stream out: what is sent, and when. Pure."""

import json
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from agent.simulator.script import Scenario, Silence

INPUT_TOKENS: Final = 16
_WORDS: Final = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

Spread = Callable[[float], float]
"""Returns a duration with its jitter."""


class Write(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Bytes that leave together `at` seconds after the request."""

    at: float
    data: bytes
    tokens: bool = False
    """There are tokens in it."""


def plan(scenario: Scenario, *, limit: int | None, spread: Spread) -> Iterator[Write]:
    """Yield the writes of a stream in order; `limit` is the request's own bound of tokens.

    Times are absolute, so that lateness of one token is no delay of the next.
    """
    rtt = spread(scenario.rtt)
    count = scenario.tokens if limit is None else min(scenario.tokens, limit)
    if scenario.role:
        yield Write(at=rtt, data=_join(scenario, [_chunk([]), _chunk([_delta({"role": "assistant", "content": ""})])]))
    first_at = rtt + spread(scenario.ttft)
    sent = min(count, _last_token(scenario, count))
    yield from _tokens(scenario, first_at=first_at, count=sent, spread=spread)
    end_at = first_at + max(0, sent - 1) * scenario.tpot
    if scenario.error_after is not None:
        error: dict[str, object] = {"error": {"message": "the engine broke", "type": "server_error", "code": None}}
        yield Write(at=end_at, data=_join(scenario, [error]))
    elif not _breaks_off(scenario):
        yield Write(at=end_at, data=_join(scenario, _ending(scenario, count, limited=count < scenario.tokens)))


def _tokens(scenario: Scenario, *, first_at: float, count: int, spread: Spread) -> Iterator[Write]:
    gathered = b""
    step = scenario.per_event
    starts = range(0, count, step)
    for number, start in enumerate(starts, start=1):
        indexes = range(start, min(start + step, count))
        gathered += _event(scenario, indexes)
        if number % scenario.coalesce == 0 or number == len(starts):
            shift = spread(scenario.tpot) - scenario.tpot if start else 0.0
            yield Write(at=first_at + start * scenario.tpot + shift, data=gathered, tokens=True)
            gathered = b""


def _last_token(scenario: Scenario, count: int) -> int:
    if scenario.silence is Silence.TOKENS:
        return 0
    if scenario.silence is Silence.STALL:
        return count // 2
    bounds = [scenario.cut_after, scenario.end_after, scenario.error_after]
    return min([bound for bound in bounds if bound is not None], default=count)


def _breaks_off(scenario: Scenario) -> bool:
    breaks = (scenario.cut_after, scenario.end_after, scenario.error_after, scenario.silence)
    return any(value is not None for value in breaks)


def _event(scenario: Scenario, indexes: range) -> bytes:
    text = "".join(f"{_WORDS[index % len(_WORDS)]} " for index in indexes)
    delta: dict[str, object] = {"content": text}
    if indexes.start < scenario.reasoning:
        delta = {"reasoning_content": text}
    elif scenario.tool:
        delta = {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}
    event = _join(scenario, [_chunk([_delta(delta)])])
    if not scenario.comments:
        return event
    end = b"\r\n" if scenario.crlf else b"\n"
    return b": keep-alive" + end * 2 + b"data: : keepalive" + end * 2 + event


def _ending(scenario: Scenario, count: int, *, limited: bool) -> list[dict[str, object] | str]:
    ending: list[dict[str, object] | str] = []
    if scenario.finish:
        ending.append(_chunk([_delta({}, finish="length" if limited else "stop")]))
    if scenario.usage:
        ending.append(_chunk([], usage=_usage(scenario, count)))
    if scenario.done:
        ending.append("[DONE]")
    return ending


def _usage(scenario: Scenario, count: int) -> dict[str, object]:
    output = count + scenario.hidden_reasoning
    return {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": output,
        "total_tokens": INPUT_TOKENS + output,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": scenario.reasoning + scenario.hidden_reasoning},
    }


def _delta(delta: dict[str, object], *, finish: str | None = None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def _chunk(choices: list[dict[str, object]], **more: object) -> dict[str, object]:
    head = {"id": "chatcmpl-simulated", "object": "chat.completion.chunk", "created": 0, "model": "simulated"}
    return {**head, "choices": choices, **more}


def _join(scenario: Scenario, payloads: list[dict[str, object]] | list[dict[str, object] | str]) -> bytes:
    end = "\r\n" if scenario.crlf else "\n"
    texts = (payload if isinstance(payload, str) else json.dumps(payload) for payload in payloads)
    return "".join(f"data: {text}{end}{end}" for text in texts).encode()
