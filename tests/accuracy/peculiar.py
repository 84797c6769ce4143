"""The shapes that one provider, proxy or server alone has, and those that only bytes make."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from isochrone.config import Provider
from isochrone.outcome import Flag, Outcome
from tests.accuracy.compatible import ENDING, GOOD, PLAIN, WORDS_16, Table, chat_shapes, timing_shapes
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
    bedrock_metadata,
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
from tests.accuracy.shapes import CLOSE, FIRST, GAP, Shape, failed, good, stream


def peculiar_shapes() -> Iterator[Shape]:
    """Yield them all."""
    for table, dialect in (
        (_bytes(), OPENAI),
        (chat_shapes(), OPENAI),
        (timing_shapes(), OPENAI),
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
        "error between the model's end and [DONE]": (
            stream(OPENAI, WORDS_16, chat({}, "stop") + OPENAI.error + sse("[DONE]")),
            failed(Outcome.STREAM_ERROR, WORDS, token=1),
        ),
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
        "[DONE] without response.completed": (
            stream(RESPONSES, [*words[:4], sse("[DONE]")]),
            failed(Outcome.TRUNCATED, "without response.completed", token=1),
        ),
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
    unnamed = sse({"type": "error", "message": WORDS})
    return {
        "a cached prompt, and the rest of the input twice": (
            stream(replace(ANTHROPIC, opening=cached), words, ending),
            replace(good(ANTHROPIC), input=INPUT + 100, cached=100),
        ),
        "an error without event line and object": (
            stream(ANTHROPIC, [*words[:4], unnamed]),
            failed(Outcome.STREAM_ERROR, WORDS, token=1),
        ),
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
        "thoughts alone are counted": (
            stream(
                GEMINI,
                [GEMINI.thought("t") for _ in range(OUTPUT) if GEMINI.thought],
                gemini({}, finishReason="MAX_TOKENS").replace(
                    b'"modelVersion"', b'"usageMetadata": {"promptTokenCount": 9, "thoughtsTokenCount": 16}, "m"'
                ),
            ),
            replace(good(GEMINI), first_answer=None, reasoning=OUTPUT),
        ),
        "many parts in one chunk": (
            stream(GEMINI, [_many_parts(), *words[1:]], GEMINI.ending(True)),  # noqa: FBT003  with usage
            good(GEMINI),
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


def _many_parts() -> bytes:
    parts = [
        {"text": "hm", "thought": True},
        {"text": ""},
        {"text": "one "},
        {"text": "two"},
        {"thoughtSignature": "x"},
    ]
    return sse({"candidates": [{"content": {"parts": parts}}]}, end="\r\n")


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
        "a wrong checksum after messageStop": (
            stream(BEDROCK, [*words, frame("messageStop", {"stopReason": "end_turn"})], damaged),
            failed(Outcome.PROTOCOL, "wrong checksum", token=1),
        ),
        "metadata without messageStop": (
            stream(BEDROCK, [*words[:4], bedrock_metadata()]),
            failed(Outcome.TRUNCATED, "without messageStop", token=1),
        ),
        "an exception in the middle": (
            stream(BEDROCK, [*words[:4], throttled]),
            failed(Outcome.STREAM_ERROR, f"throttlingException: {WORDS}", token=1),
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
    floats = COHERE.ending(True).replace(b": 16}", b": 16.0}")  # noqa: FBT003  with usage
    return {
        "counts in floats": (stream(COHERE, words, floats), good(COHERE)),
        "[DONE] without message-end": (
            stream(COHERE, [*words[:4], sse("[DONE]")]),
            failed(Outcome.TRUNCATED, "without message-end", token=1),
        ),
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
