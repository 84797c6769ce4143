"""The shapes that one provider, proxy or server alone has, and those that only bytes make."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from isochrone.config import Provider
from isochrone.outcome import Flag, Outcome
from tests.accuracy.dialects import (
    ANTHROPIC,
    BEDROCK,
    COHERE,
    COMPLETIONS,
    FRAMES,
    GEMINI,
    INPUT,
    NDJSON,
    OLLAMA,
    OPENAI,
    OUTPUT,
    RESPONSES,
    SSE,
    TGI,
    WORDS,
    Dialect,
    chat,
    chat_usage,
    cohere_end,
    frame,
    gemini,
    response_end,
    sse,
    tgi,
    typed,
)
from tests.accuracy.scripted import Play
from tests.accuracy.shapes import CLOSE, FIRST, GAP, Expected, Shape, failed, good, stream

WORDS_16: Final = [OPENAI.text(f"w{n} ") for n in range(OUTPUT)]
ENDING: Final = OPENAI.ending(True)  # noqa: FBT003  with usage
PLAIN: Final = stream(OPENAI, WORDS_16, ENDING)
GOOD: Final = good(OPENAI)


def peculiar_shapes() -> Iterator[Shape]:
    """Yield them all."""
    for table, dialect in (
        (_bytes(), OPENAI),
        (_chat(), OPENAI),
        (_timing(), OPENAI),
        (_completions(), COMPLETIONS),
        (_responses(), RESPONSES),
        (_anthropic(), ANTHROPIC),
        (_gemini(), GEMINI),
        (_bedrock(), BEDROCK),
        (_ollama(), OLLAMA),
        (_cohere(), COHERE),
        (_tgi(), TGI),
    ):
        for name, (play, expected) in table.items():
            yield Shape(name=f"{dialect.provider} {name}", provider=dialect.provider, play=play, expected=expected)
    endless = replace(PLAIN, writes=[(n * 0.02, b": PROCESSING\n\n") for n in range(60)], close="never")
    expected = failed(Outcome.TIMEOUT_FIRST_TOKEN, "no token within 0.3 s")
    yield Shape(
        name="openai comments and no token",
        provider=Provider.OPENAI,
        play=endless,
        expected=expected,
        first_token_timeout=0.3,
    )


Table = dict[str, tuple[Play, Expected]]


def _translated(play: Play, old: bytes, new: bytes) -> Play:
    return replace(play, writes=[(at, data.replace(old, new)) for at, data in play.writes])


def _bytes() -> Table:
    """Return what happens to the bytes on their way, whatever they say."""
    smile = 'data: {"choices":[{"delta":{"content":"grüße 😀 \u2028 \x85"}}]}\n\n'.encode()
    middle = smile.index("😀".encode()) + 2
    halves = [(FIRST, smile[:middle]), (FIRST + 0.05, smile[middle:]), (FIRST + 0.06, OPENAI.text("x") + ENDING)]
    gathered = replace(GOOD, arrivals=2, streamed=None, flags=(Flag.BUFFERED,))  # 16 tokens, says the usage, in two
    two = replace(gathered, first_event=1, first_token=1, first_answer=1, last_token=2, end=2)
    whole = OPENAI.text("a") + OPENAI.text("b") + ENDING
    by_byte = [(FIRST, whole[n : n + 1]) for n in range(len(whole))]
    one_read = replace(two, first_token=None, first_answer=None, last_token=None, end=None, first_event=None)
    huge = b"data: " + b"x" * (1024 * 1024 + 1)
    return {
        "CRLF line ends": (_translated(PLAIN, b"\n", b"\r\n"), GOOD),
        "CR line ends": (_translated(PLAIN, b"\n", b"\r"), GOOD),
        "UTF-8 split over reads": (Play(writes=halves, media=SSE), two),
        "every byte a write": (Play(writes=by_byte, media=SSE), one_read),
        "bytes after [DONE]": (
            replace(
                PLAIN, writes=[*PLAIN.writes[:-1], (FIRST + OUTPUT * GAP, ENDING + sse({"error": "late"}) + b"\0\xff")]
            ),
            GOOD,
        ),
        "cut between the model's end and [DONE]": (
            replace(stream(OPENAI, WORDS_16, ENDING.replace(b"data: [DONE]\n\n", b"")), close="cut"),
            GOOD,
        ),
        "no [DONE]": (stream(OPENAI, WORDS_16, ENDING.replace(b"data: [DONE]\n\n", b"")), replace(GOOD, end=CLOSE)),
        "no finish_reason": (stream(OPENAI, WORDS_16, chat(None, usage=chat_usage()) + sse("[DONE]")), GOOD),
        "a line over 1 MiB": (Play(writes=[(FIRST, huge)], media=SSE), failed(Outcome.PROTOCOL, "longer than 1048576")),
        "not JSON": (Play(writes=[(FIRST, b"data: {\n\n")], media=SSE), failed(Outcome.PROTOCOL, "is not JSON")),
        "HTML": (Play(writes=[(FIRST, b"<html>")], media="text/html"), failed(Outcome.PROTOCOL, "HTML")),
        "gzip": (
            replace(PLAIN, headers={"Content-Encoding": "gzip"}),
            failed(Outcome.PROTOCOL, "encoded (gzip)"),
        ),
        "another provider's stream": (
            Play(writes=OLLAMA_PLAIN.writes, media=NDJSON),
            failed(Outcome.PROTOCOL, "application/x-ndjson came"),
        ),
    }


def _chat() -> Table:
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
        "error and [DONE]": (
            stream(OPENAI, [*WORDS_16[:4], OPENAI.error + sse("[DONE]")]),
            failed(Outcome.STREAM_ERROR, WORDS, token=1),
        ),
    }


def _timing() -> Table:
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


def _completions() -> Table:
    words = [COMPLETIONS.text(f"w{n}") for n in range(OUTPUT)]
    ending = COMPLETIONS.ending(True)  # noqa: FBT003  with usage
    return {"an empty text at the end": (stream(COMPLETIONS, words, COMPLETIONS.text("") + ending), good(COMPLETIONS))}


def _responses() -> Table:
    words = [RESPONSES.text(f"w{n}") for n in range(OUTPUT)]
    nameless = [(at, b"".join(_nameless(data))) for at, data in stream(RESPONSES, words, _ended("completed")).writes]
    failure = response_end("failed", usage=False).replace(
        b'"error": null', b'"error": {"message": "%b"}' % WORDS.encode()
    )
    return {
        "response.incomplete": (stream(RESPONSES, words, _ended("incomplete")), good(RESPONSES)),
        "no event lines, and [DONE]": (Play(writes=nameless, media=SSE), good(RESPONSES)),
        "response.failed": (
            stream(RESPONSES, [*words[:4], failure]),
            failed(Outcome.STREAM_ERROR, WORDS, token=1),
        ),
        "a refusal": (
            stream(RESPONSES, [word.replace(b"output_text", b"refusal") for word in words], _ended("completed")),
            good(RESPONSES),
        ),
    }


def _ended(kind: str) -> bytes:
    return response_end(kind, usage=True) + sse("[DONE]")


def _nameless(data: bytes) -> Iterator[bytes]:
    return (line for line in data.splitlines(keepends=True) if not line.startswith(b"event:"))


def _anthropic() -> Table:
    words = [ANTHROPIC.text(f"w{n}") for n in range(OUTPUT)]
    ending = ANTHROPIC.ending(True)  # noqa: FBT003  with usage
    cached = ANTHROPIC.opening.replace(b'"cache_read_input_tokens": 0', b'"cache_read_input_tokens": 100')
    signature = typed("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "abc"})
    start = typed("content_block_start", index=1, content_block={"type": "tool_use", "name": "f", "input": {}})
    lean = ending.replace(b', "input_tokens": %d' % INPUT, b"")
    return {
        "a cached prompt": (
            stream(replace(ANTHROPIC, opening=cached), words, lean),
            replace(good(ANTHROPIC), input=INPUT + 100, cached=100),
        ),
        "a signature is no token": (stream(ANTHROPIC, words, signature + ending), good(ANTHROPIC)),
        "the tool's name is the first token": (
            stream(ANTHROPIC, [start, *(ANTHROPIC.tool("x") for _ in range(15) if ANTHROPIC.tool)], ending),
            replace(good(ANTHROPIC), first_answer=None),
        ),
    }


def _gemini() -> Table:
    words = [GEMINI.text(f"w{n}") for n in range(OUTPUT)]
    counts = {"promptTokenCount": INPUT, "candidatesTokenCount": OUTPUT, "thoughtsTokenCount": 40}
    end = {"candidates": [{"content": {"parts": []}, "finishReason": "STOP"}], "usageMetadata": counts}
    blocked = sse({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": counts}, end="\r\n")
    last = gemini({"text": "end"}, finishReason="STOP")
    return {
        "thoughts that are counted and not shown": (
            stream(GEMINI, words, sse(end, end="\r\n")),
            replace(good(GEMINI), output=OUTPUT + 40, reasoning=40),
        ),
        "a blocked prompt": (stream(GEMINI, [blocked]), failed(Outcome.STREAM_ERROR, "the prompt was blocked: SAFETY")),
        "finishReason with the last token": (
            stream(GEMINI, [*words[1:], last]),
            replace(good(GEMINI), counted=False, input=None, reasoning=None),
        ),
        "an error in a list": (
            stream(GEMINI, [words[0], sse([{"error": {"code": 500, "message": WORDS}}])]),
            failed(Outcome.STREAM_ERROR, WORDS, token=0),
        ),
    }


def _bedrock() -> Table:
    words = [BEDROCK.text(f"w{n}") for n in range(OUTPUT)]
    damaged = words[1][:-1] + bytes([words[1][-1] ^ 1])
    throttled = frame("throttlingException", {"message": WORDS}, "exception")
    ending = BEDROCK.ending(True)  # noqa: FBT003  with usage
    halved = [piece for word in words for piece in (word[:50], word[50:])]
    quick = stream(BEDROCK, halved, ending, gap=GAP / 2)
    return {
        "a wrong checksum": (
            stream(BEDROCK, [words[0], damaged]),
            failed(Outcome.PROTOCOL, "wrong checksum", token=1),
        ),
        "an exception names its kind": (
            stream(BEDROCK, [throttled]),
            failed(Outcome.STREAM_ERROR, f"throttlingException: {WORDS}"),
        ),
        "frames split over reads": (
            quick,
            replace(good(BEDROCK), first_token=2, first_answer=2, last_token=2 * OUTPUT, end=2 * OUTPUT + 1),
        ),
        "SSE bytes in its stead": (
            Play(writes=PLAIN.writes, media=FRAMES),
            failed(Outcome.PROTOCOL, "wrong checksum"),
        ),
    }


def _plain_words(dialect: Dialect) -> list[bytes]:
    return [dialect.text(f"w{n}") for n in range(OUTPUT)]


OLLAMA_PLAIN: Final = stream(OLLAMA, _plain_words(OLLAMA), OLLAMA.ending(True))  # noqa: FBT003  with usage


def _ollama() -> Table:
    unended = [*OLLAMA_PLAIN.writes[:-1], (OLLAMA_PLAIN.writes[-1][0], OLLAMA_PLAIN.writes[-1][1].rstrip())]
    return {
        "CRLF line ends": (_translated(OLLAMA_PLAIN, b"\n", b"\r\n"), good(OLLAMA)),
        "no line end at the end": (Play(writes=unended, media=NDJSON), replace(good(OLLAMA), end=CLOSE)),
        "half a line at the end": (
            Play(writes=[*OLLAMA_PLAIN.writes[:5], (0.2, OLLAMA_PLAIN.writes[5][1][:-3])], media=NDJSON),
            failed(Outcome.TRUNCATED, "without done", token=1),
        ),
        "SSE in its stead": (Play(writes=PLAIN.writes, media=NDJSON), failed(Outcome.PROTOCOL, "is not JSON")),
    }


def _cohere() -> Table:
    words = _plain_words(COHERE)
    billed = cohere_end(
        {"finish_reason": "COMPLETE", "usage": {"billed_units": {"input_tokens": 3, "output_tokens": 16}}}
    )
    return {
        "billed units alone": (stream(COHERE, words, billed), replace(good(COHERE), input=3)),
        "finish_reason ERROR without words": (
            stream(COHERE, [*words[:4], cohere_end({"finish_reason": "ERROR"})]),
            failed(Outcome.STREAM_ERROR, "ERROR", token=1),
        ),
    }


def _tgi() -> Table:
    words = _plain_words(TGI)
    last = tgi("end", generated_text="all", details={"generated_tokens": OUTPUT, "input_length": INPUT})
    return {
        "the last token ends the stream": (stream(TGI, [*words[1:], last]), replace(good(TGI), end=OUTPUT - 1)),
        "no space after data:": (
            _translated(stream(TGI, words, TGI.ending(True)), b"data: ", b"data:"),  # noqa: FBT003  with usage
            good(TGI),
        ),
    }
