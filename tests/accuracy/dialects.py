"""Each provider's way to say the same things, as bytes: captures and documentation, written out."""

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from isochrone.config import Provider

OUTPUT, INPUT = 16, 9
WORDS = "the provider broke"
SSE, NDJSON, FRAMES = "text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream"

Say = Callable[[str], bytes]


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """`ending` closes a good stream with or without usage; None stands for what the format cannot say."""

    provider: Provider
    opening: bytes = b""
    """Before the first token: no token in it."""
    text: Say
    thought: Say | None = None
    tool: Say | None = None
    ending: Callable[[bool], bytes]
    error: bytes
    ping: bytes = b": keep-alive\n\n"
    media: str = SSE
    marked: bool = True
    """It has a terminal marker after which nothing follows; else the mark `end` is the close of the body."""
    counts_reasoning: bool = False
    error_body: bytes = json.dumps({"error": {"message": WORDS}}).encode()


def sse(payload: object, name: str = "", end: str = "\n") -> bytes:
    text = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
    return (f"event: {name}{end}" if name else "").encode() + f"data: {text}{end}{end}".encode()


def line(payload: object) -> bytes:
    return json.dumps(payload).encode() + b"\n"


def frame(event: str, payload: object, kind: str = "event") -> bytes:
    """Return an AWS event-stream frame; `kind` is event or exception."""
    fields = {f":{kind}-type": event, ":content-type": "application/json", ":message-type": kind}
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in fields.items()
    )
    body = json.dumps(payload, separators=(",", ":")).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return whole + struct.pack(">I", zlib.crc32(whole))


def chat(delta: dict[str, Any] | None, finish: str | None = None, **more: object) -> bytes:
    """Return a chunk of OpenAI's chat; None is a chunk without choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return sse({"id": "c-1", "object": "chat.completion.chunk", "choices": choices, **more})


def chat_usage(output: int = OUTPUT, reasoning: int = 0) -> dict[str, object]:
    return {
        "prompt_tokens": INPUT,
        "completion_tokens": output,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def _chat_ending(usage: bool) -> bytes:  # noqa: FBT001  the one thing that an ending varies in
    return chat({}, "length") + (chat(None, usage=chat_usage()) if usage else b"") + sse("[DONE]")


def _tool_call(arguments: str) -> bytes:
    return chat({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]})


OPENAI = Dialect(
    provider=Provider.OPENAI,
    opening=chat({"role": "assistant", "content": ""}),
    text=lambda text: chat({"content": text}),
    thought=lambda text: chat({"content": None, "reasoning_content": text}),
    tool=_tool_call,
    ending=_chat_ending,
    error=sse({"error": {"message": WORDS, "type": "server_error", "code": None}}),
    counts_reasoning=True,
)
AZURE = replace(
    OPENAI,
    provider=Provider.AZURE_OPENAI,
    opening=sse({"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": []})
    + OPENAI.opening
    + sse({"choices": [{"index": 0, "finish_reason": None, "content_filter_offsets": {"check_offset": 44}}]}),
)


def _completion(text: str, finish: str | None = None) -> bytes:
    return sse({"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": finish}]})


COMPLETIONS = Dialect(
    provider=Provider.OPENAI_COMPLETIONS,
    text=_completion,
    ending=lambda usage: (
        _completion("", "length") + (sse({"choices": [], "usage": chat_usage()}) if usage else b"") + sse("[DONE]")
    ),
    error=OPENAI.error,
    counts_reasoning=True,
)


def response(kind: str, **fields: object) -> bytes:
    return sse({"type": f"response.{kind}", "sequence_number": 1, **fields}, f"response.{kind}")


def response_end(kind: str, *, usage: bool) -> bytes:
    counts = {
        "input_tokens": INPUT,
        "output_tokens": OUTPUT,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    return response(kind, response={"status": kind, "error": None, "usage": counts if usage else None})


RESPONSES = Dialect(
    provider=Provider.OPENAI_RESPONSES,
    opening=response("created", response={"error": None, "usage": None})
    + response("in_progress", response={})
    + response("output_item.added", item={"type": "message"})
    + response("content_part.added", part={"type": "output_text", "text": ""}),
    text=lambda text: response("output_text.delta", delta=text, obfuscation="xx"),
    thought=lambda text: response("reasoning_summary_text.delta", delta=text),
    tool=lambda text: response("function_call_arguments.delta", delta=text),
    ending=lambda usage: response("output_text.done", text="all") + response_end("completed", usage=usage),
    error=sse({"type": "error", "code": "server_error", "message": WORDS}, "error"),
    counts_reasoning=True,
)


def typed(kind: str, **fields: object) -> bytes:
    """Return an event as Anthropic and Cohere name theirs: in the line and in the payload."""
    return sse({"type": kind, **fields}, kind)


ANTHROPIC = Dialect(
    provider=Provider.ANTHROPIC,
    opening=typed(
        "message_start",
        message={
            "usage": {
                "input_tokens": INPUT,
                "output_tokens": 1,
                "cache_read_input_tokens": 0,
                "cache_creation_input_tokens": 0,
                "inference_geo": "us",
            }
        },
    )
    + typed("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    text=lambda text: typed("content_block_delta", index=0, delta={"type": "text_delta", "text": text}),
    thought=lambda text: typed("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": text}),
    tool=lambda text: typed("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": text}),
    ending=lambda usage: (
        typed("content_block_stop", index=0)
        + typed(
            "message_delta",
            delta={"stop_reason": "max_tokens"},
            usage={"output_tokens": OUTPUT, "input_tokens": INPUT} if usage else {},
        )
        + typed("message_stop")
    ),
    error=typed("error", error={"type": "overloaded_error", "message": WORDS}),
    ping=typed("ping"),
    error_body=json.dumps({"type": "error", "error": {"type": "x", "message": WORDS}}).encode(),
)


def gemini(part: dict[str, object], **candidate: object) -> bytes:
    content = {"parts": [part] if part else [], "role": "model"}
    return sse({"candidates": [{"content": content, "index": 0, **candidate}], "modelVersion": "m"}, end="\r\n")


def _gemini_ending(usage: bool) -> bytes:  # noqa: FBT001  as above
    counts = {"promptTokenCount": INPUT, "candidatesTokenCount": OUTPUT, "thoughtsTokenCount": 0}
    end = {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "MAX_TOKENS"}]}
    return sse({**end, "usageMetadata": counts} if usage else end, end="\r\n")


GEMINI = Dialect(
    provider=Provider.GEMINI,
    text=lambda text: gemini({"text": text}),
    thought=lambda text: gemini({"text": text, "thought": True}),
    tool=lambda text: gemini({"functionCall": {"name": text, "args": {}}}),
    ending=_gemini_ending,
    error=sse({"error": {"code": 503, "message": WORDS, "status": "UNAVAILABLE"}}, end="\r\n"),
    marked=False,
    counts_reasoning=True,
    error_body=json.dumps([{"error": {"code": 503, "message": WORDS, "status": "UNAVAILABLE"}}]).encode(),
)


def _ollama(message: dict[str, object], **more: object) -> bytes:
    return line({"model": "m", "message": {"role": "assistant", "content": "", **message}, "done": False, **more})


def _ollama_ending(usage: bool) -> bytes:  # noqa: FBT001  as above
    counts = {"prompt_eval_count": INPUT, "eval_count": OUTPUT, "total_duration": 240_000_000}
    durations = {"load_duration": 20_000_000, "prompt_eval_duration": 75_000_000, "eval_duration": 150_000_000}
    return _ollama({}, **{"done": True, "done_reason": "length", **(counts | durations if usage else {})})


OLLAMA = Dialect(
    provider=Provider.OLLAMA,
    opening=_ollama({}),
    text=lambda text: _ollama({"content": text}),
    thought=lambda text: _ollama({"thinking": text}),
    tool=lambda text: _ollama({"tool_calls": [{"function": {"name": text, "arguments": {}}}]}),
    ending=_ollama_ending,
    error=line({"error": WORDS}),
    ping=b"\n",
    media=NDJSON,
    error_body=json.dumps({"error": WORDS}).encode(),
)


def _cohere(kind: str, message: dict[str, object]) -> bytes:
    return typed(kind, index=0, delta={"message": message})


def cohere_end(delta: dict[str, object]) -> bytes:
    return typed("message-end", delta=delta)


COHERE = Dialect(
    provider=Provider.COHERE,
    opening=_cohere("message-start", {"role": "assistant"}) + _cohere("content-start", {"content": {"text": ""}}),
    text=lambda text: _cohere("content-delta", {"content": {"text": text}}),
    thought=lambda text: _cohere("content-delta", {"content": {"thinking": text}}),
    tool=lambda text: _cohere("tool-call-delta", {"tool_calls": {"function": {"arguments": text}}}),
    ending=lambda usage: (
        typed("content-end", index=0)
        + cohere_end(
            {
                "finish_reason": "MAX_TOKENS",
                **({"usage": {"tokens": {"input_tokens": INPUT, "output_tokens": OUTPUT}}} if usage else {}),
            }
        )
    ),
    error=cohere_end({"finish_reason": "ERROR", "error": WORDS}),
    error_body=json.dumps({"message": WORDS}).encode(),
)


def tgi(text: str, *, special: bool = False, **more: object) -> bytes:
    token = {"id": 1, "text": text, "logprob": -0.1, "special": special}
    return sse({"index": 1, "token": token, "generated_text": None, "details": None, **more})


TGI = Dialect(
    provider=Provider.TGI,
    text=tgi,
    ending=lambda usage: tgi(
        "</s>",
        special=True,
        generated_text="all",
        details={"generated_tokens": OUTPUT, "input_length": INPUT} if usage else None,
    ),
    error=sse({"error": WORDS, "error_type": "generation"}),
    error_body=json.dumps({"error": WORDS, "error_type": "overloaded"}).encode(),
)
TRITON = Dialect(
    provider=Provider.TRITON,
    text=lambda text: sse({"id": "1", "model_name": "m", "model_version": "1", "text_output": text}),
    ending=lambda _: b"",
    error=sse({"error": WORDS}),
    marked=False,
    error_body=json.dumps({"error": WORDS}).encode(),
)


def _block(delta: dict[str, object]) -> bytes:
    return frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": delta, "p": "abcdefgh"})


def bedrock_metadata() -> bytes:
    usage = {"inputTokens": INPUT, "outputTokens": OUTPUT, "totalTokens": INPUT + OUTPUT, "cacheReadInputTokens": 0}
    return frame("metadata", {"usage": usage, "metrics": {"latencyMs": 240}})


BEDROCK = Dialect(
    provider=Provider.BEDROCK,
    opening=frame("messageStart", {"role": "assistant", "p": "ab"}),
    text=lambda text: _block({"text": text}),
    thought=lambda text: _block({"reasoningContent": {"text": text}}),
    tool=lambda text: _block({"toolUse": {"input": text}}),
    ending=lambda usage: (
        frame("contentBlockStop", {"contentBlockIndex": 0})
        + frame("messageStop", {"stopReason": "max_tokens"})
        + (bedrock_metadata() if usage else frame("metadata", {"metrics": {"latencyMs": 240}}))
    ),
    error=frame("modelStreamErrorException", {"message": WORDS}, "exception"),
    ping=frame("unknownEvent", {}),
    media=FRAMES,
    error_body=json.dumps({"message": WORDS}).encode(),
)

DIALECTS = (OPENAI, AZURE, COMPLETIONS, RESPONSES, ANTHROPIC, GEMINI, BEDROCK, OLLAMA, COHERE, TGI, TRITON)
