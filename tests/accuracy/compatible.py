"""The shapes that servers of OpenAI's chat have, each its own."""

from dataclasses import replace
from typing import Final

from isochrone.outcome import Outcome
from tests.accuracy.dialects import OPENAI, OUTPUT, WORDS, chat, chat_usage, sse
from tests.accuracy.scripted import Play
from tests.accuracy.shapes import Expected, failed, good, stream

Table = dict[str, tuple[Play, Expected]]

WORDS_16: Final = [OPENAI.text(f"w{n} ") for n in range(OUTPUT)]
ENDING: Final = OPENAI.ending(True)  # noqa: FBT003  with usage
PLAIN: Final = stream(OPENAI, WORDS_16, ENDING)
GOOD: Final = good(OPENAI)


def chat_shapes() -> Table:
    """Return what servers of OpenAI's chat do."""
    every = [chat({"content": "x"}, usage=chat_usage(n + 1)) for n in range(OUTPUT)]
    hidden = chat({}, "stop") + chat(None, usage=chat_usage(OUTPUT + 100, reasoning=100)) + sse("[DONE]")
    groq = chat({}, "stop", x_groq={"id": "r", "usage": chat_usage()}) + sse("[DONE]")
    last = chat({"content": "end"}, "stop", usage=chat_usage()) + sse("[DONE]")
    reasoning = [chat({"content": "", "reasoning": f"t{n}"}) for n in range(8)] + WORDS_16[8:]
    error_named = b"event: error\ndata: overloaded\n\n"
    return {
        "data: : keepalive before each event": (
            replace(PLAIN, writes=[(at, b"data: : keepalive\n\n" + data) for at, data in PLAIN.writes]),
            GOOD,
        ),
        "role with the first token": (
            stream(replace(OPENAI, opening=b""), [chat({"role": "assistant", "content": "w"}), *WORDS_16[1:]], ENDING),
            good(replace(OPENAI, opening=b"")),
        ),
        "usage on every chunk": (stream(OPENAI, every, chat({}, "stop") + sse("[DONE]")), GOOD),
        "hidden reasoning tokens": (
            stream(OPENAI, WORDS_16, hidden),
            replace(GOOD, output=OUTPUT + 100, reasoning=100),
        ),
        "usage in x_groq": (stream(OPENAI, WORDS_16, groq), GOOD),
        "usage, finish and the last token in one chunk": (
            stream(OPENAI, WORDS_16[1:], last),
            replace(GOOD, last_token=OUTPUT, end=OUTPUT),
        ),
        "delta.reasoning": (stream(OPENAI, reasoning, ENDING), replace(GOOD, first_answer=9)),
        "an empty chunk after the last token": (
            stream(OPENAI, WORDS_16, chat({"content": ""}) + ENDING),
            GOOD,
        ),
        "event: error that is no JSON": (
            stream(OPENAI, [*WORDS_16[:4], error_named]),
            failed(Outcome.STREAM_ERROR, "overloaded", token=1),
        ),
        "a choice's error": (
            stream(OPENAI, [*WORDS_16[:4], _choice(delta={"content": ""}, error={"code": 502, "message": WORDS})]),
            failed(Outcome.STREAM_ERROR, WORDS, token=1),
        ),
        "finish_reason abort": (
            stream(OPENAI, [*WORDS_16[:4], chat({}, "abort") + sse("[DONE]")]),
            failed(Outcome.STREAM_ERROR, "the model's end is abort", token=1),
        ),
        "finish_reason content_filter": (stream(OPENAI, WORDS_16, ENDING.replace(b"length", b"content_filter")), GOOD),
        "no usage, and null deltas": (
            stream(OPENAI, WORDS_16, _choice(delta=None) + chat({}, "stop", usage=None) + sse("[DONE]")),
            replace(GOOD, counted=False, input=None, cached=None, reasoning=None),
        ),
        "a tool's name, then empty arguments": (
            stream(OPENAI, [*_calls("f", "{}"), *WORDS_16[2:]], _calls("", "")[1] + ENDING),
            replace(GOOD, first_answer=3),
        ),
        "thoughts in a list of parts": (
            stream(OPENAI, [chat({"content": [PART]}) for _ in range(8)] + WORDS_16[8:], ENDING),
            replace(GOOD, first_answer=9),
        ),
        "two choices": (stream(OPENAI, [_pair() for _ in range(OUTPUT)], ENDING), GOOD),
        "error and [DONE]": (
            stream(OPENAI, [*WORDS_16[:4], OPENAI.error + sse("[DONE]")]),
            failed(Outcome.STREAM_ERROR, WORDS, token=1),
        ),
    }


PART: Final = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}


def _choice(**fields: object) -> bytes:
    return sse({"choices": [{"index": 0, "finish_reason": None, **fields}]})


def _calls(name: str, arguments: str) -> list[bytes]:
    """Return the two chunks of a call: its name with empty arguments, and its arguments."""
    parts = ({"name": name, "arguments": ""}, {"arguments": arguments})
    return [chat({"tool_calls": [{"index": 0, "function": part}]}) for part in parts]


def _pair() -> bytes:
    return sse({"choices": [{"index": index, "delta": {"content": "w"}} for index in range(2)]})


def timing_shapes() -> Table:
    """Return what servers tell of their own time and place."""
    phases = {"queue_time": 0.01, "prompt_time": 0.08, "completion_time": 0.15, "total_time": 0.23}
    end = sse("[DONE]")
    head = ("openai-processing-ms", 0.004, None, None)

    def told(**more: object) -> Play:
        return stream(OPENAI, WORDS_16, chat({}, "stop") + chat(None, usage=chat_usage(), **more) + end)

    groq = stream(OPENAI, WORDS_16, chat({}, "stop", x_groq={"usage": {**chat_usage(), **phases}}) + end)
    vllm = {"time_to_first_token_ms": 70.0, "queue_time_ms": 20.0, "generation_time_ms": 150.0}
    fireworks = {"server-time-to-first-token": 0.09, "server-processing-time": "0.24"}
    azure = {"x-ms-region": "Sweden Central", "cf-ray": "8f2a-ARN"}
    return {
        "openai-processing-ms before the model began": (
            replace(PLAIN, headers={"OpenAI-Processing-Ms": "4", "CF-Ray": "8f2a1b-FRA"}),
            replace(GOOD, timing=head, trusted=False, region="edge:FRA"),
        ),
        "Groq": (groq, replace(GOOD, timing=("groq usage", 0.09, 0.24, 0.01))),
        "Cerebras": (told(time_info=phases), replace(GOOD, timing=("cerebras time_info", 0.09, 0.24, 0.01))),
        "vLLM": (told(metrics=vllm), replace(GOOD, timing=("vllm metrics", 0.09, None, 0.02))),
        "Fireworks": (
            told(perf_metrics=fireworks),
            replace(GOOD, timing=("fireworks perf_metrics", 0.09, 0.24, None)),
        ),
        "Fireworks in milliseconds": (
            told(perf_metrics={"server-time-to-first-token": 90}),
            replace(GOOD, timing=("fireworks perf_metrics", 90.0, None, None), trusted=False),
        ),
        "llama.cpp": (
            told(timings={"prompt_ms": 95.0, "predicted_ms": 150.0}),
            replace(GOOD, timing=("llama.cpp timings", 0.095, 0.245, None)),
        ),
        "region and server-timing": (
            replace(PLAIN, headers={**azure, "Server-Timing": 'edge;dur=1, x-originResponse;dur=99;desc="a"'}),
            replace(GOOD, timing=("server-timing x-originResponse", 0.099, None, None), region="Sweden Central"),
        ),
    }
