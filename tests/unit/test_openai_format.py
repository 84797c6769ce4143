"""OpenAI's wire format: what is asked, and what each event of a stream means."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.framing import Event
from agent.providers import PROVIDERS, Ask, Reading, error_text
from agent.providers import openai as chat
from agent.providers.openai import PATH, interpret
from agent.providers.wire import Request, stream_url
from agent.timeline import Usage
from isochrone.config import Assignment, Duration, InferenceOptions, Module, Provider
from isochrone.outcome import Prober


def target(model: str, url: str = "https://llm.example/v1") -> Assignment:
    options = Module(
        prober=Prober.INFERENCE,
        interval=Duration(60),
        timeout=Duration(30),
        inference=InferenceOptions(max_output_tokens=20),
    )
    return Assignment(endpoint="e", module="m", url=url, options=options, provider=Provider.OPENAI, model=model)


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def request(target: Assignment, *, key: str | None, prompt: str) -> Request:
    return chat.request(Ask(target=target, key=key, prompt=prompt, at=NOON))


def asked(model: str, url: str = "https://llm.example/v1") -> dict[str, object]:
    body: dict[str, object] = json.loads(request(target(model, url), key=None, prompt="n0nce hello").body)
    return body


def read(payload: object, name: str = "") -> Reading:
    return interpret(Event(name=name, data=payload if isinstance(payload, str) else json.dumps(payload)))


def delta(**fields: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}], "usage": None}


@pytest.mark.parametrize(
    ("base", "full"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1/chat/completions"),
        ("http://h:1/v1/chat/completions", "http://h:1/v1/chat/completions"),
        (
            "https://r.azure.com/openai/d/x?api-version=1",
            "https://r.azure.com/openai/d/x/chat/completions?api-version=1",
        ),
        ("http://[::1]:8000", "http://[::1]:8000/chat/completions"),
    ],
)
def test_a_base_gets_the_path_and_a_full_url_stays(base: str, full: str) -> None:
    assert stream_url(base, PATH) == full


@pytest.mark.parametrize(
    ("model", "url", "expected"),
    [
        ("tiny", "http://127.0.0.1:8000/v1", ("max_tokens", None)),
        ("gpt-4o", "https://api.openai.com/v1", ("max_completion_tokens", None)),
        ("gpt-5-mini", "https://api.openai.com/v1", ("max_completion_tokens", "minimal")),
        ("openai/gpt-5", "https://gateway.example/v1", ("max_completion_tokens", "minimal")),
        ("gpt-5.1", "https://api.openai.com/v1", ("max_completion_tokens", "none")),
        ("o3-mini", "https://gateway.example/v1", ("max_completion_tokens", None)),
        ("olmo-7b", "https://gateway.example/v1", ("max_tokens", None)),
        ("custom_openai/gpt-oss", "https://gateway.example/v1", ("max_tokens", None)),
    ],
)
def test_the_limit_goes_by_the_name_that_the_server_knows(
    model: str, url: str, expected: tuple[str, str | None]
) -> None:
    limit, effort = expected
    body = asked(model, url)
    assert body[limit] == 20
    assert len({"max_tokens", "max_completion_tokens"} & set(body)) == 1
    assert body.get("reasoning_effort") == effort


def test_usage_is_asked_for_and_padding_refused_only_where_it_exists() -> None:
    assert asked("m")["stream_options"] == {"include_usage": True}
    assert asked("m", "https://api.openai.com/v1")["stream_options"] == {
        "include_usage": True,
        "include_obfuscation": False,
    }


def test_the_key_is_a_bearer_token_and_stands_nowhere_else() -> None:
    made = request(target("m"), key="sk-1", prompt="p")
    assert made.headers["Authorization"] == "Bearer sk-1"
    assert b"sk-1" not in made.body
    assert "Authorization" not in request(target("m"), key=None, prompt="p").headers


@pytest.mark.parametrize("key", ["sk\n", "schlüssel", "a\x00b"])
def test_a_key_that_no_header_may_hold_is_refused_without_quoting_it(key: str) -> None:
    with pytest.raises(ValueError, match="the key holds characters") as caught:
        request(target("m"), key=key, prompt="p")
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("payload", "channel"),
    [
        (delta(content="Hi"), "answer"),
        (delta(content=" "), "answer"),
        (delta(refusal="No"), "answer"),
        (delta(content=None, reasoning_content="hm"), "reasoning"),
        (delta(content="", reasoning="hm"), "reasoning"),
        (delta(tool_calls=[{"index": 0, "function": {"arguments": "{"}}]), "tool"),
        (delta(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": ""}}]), "tool"),
        (delta(tool_calls=[{"index": 0, "function": {"arguments": {"a": 1}}}]), "tool"),
        (delta(tool_calls=[{"index": 0, "custom": {"input": "x"}}]), "tool"),
        (delta(function_call={"name": "f"}), "tool"),
        (delta(content=[{"type": "text", "text": "Hi"}]), "answer"),
        (delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]), "reasoning"),
    ],
)
def test_text_of_any_channel_is_a_token(payload: dict[str, object], channel: str) -> None:
    reading = read(payload)
    assert reading.token
    assert [name for name in ("answer", "reasoning", "tool") if getattr(reading, name)] == [channel]


@pytest.mark.parametrize(
    "payload",
    [
        delta(role="assistant", content=""),
        delta(),
        delta(content=None),
        {"choices": []},
        {"choices": [{"index": 0, "content_filter_offsets": {}}]},
        {"choices": [{"index": 0, "delta": None}]},
        {"choices": None},
        {"error": None, "choices": []},
        {"error": "", "choices": [{"error": None, "delta": None}]},
        delta(tool_calls="f"),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ""}}]),
        delta(function_call={"arguments": ""}),
        delta(content=[{"type": "text", "text": ""}]),
        delta(content=["x", 7]),
        delta(content={"text": "x"}, reasoning=["x"]),
        {"choices": {"delta": {"content": "x"}}},
        {"choices": [{"delta": [{"content": "x"}], "finish_reason": True}]},
        {},
        [],
        None,
        7,
    ],
)
def test_role_filter_notes_and_nonsense_are_no_tokens(payload: object) -> None:
    reading = read(json.dumps(payload))
    assert (reading.token, reading.finished, reading.done, reading.error, reading.unreadable) == (
        False,
        False,
        False,
        None,
        None,
    )


def test_the_end_is_told_by_finish_reason_and_done() -> None:
    assert read({"choices": [{"delta": {}, "finish_reason": "length"}]}).finished
    assert read("[DONE]").done


@pytest.mark.parametrize("holder", ["usage", "x_groq"])
def test_usage_is_found_where_providers_put_it(holder: str) -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    payload = {"choices": [], "usage": usage} if holder == "usage" else {"choices": [], "x_groq": {"usage": usage}}
    assert read(payload).usage == Usage(output=12, input=9, cached_input=3, reasoning=4)


def test_usage_that_is_no_count_is_absent() -> None:
    payload = {"choices": [], "usage": {"completion_tokens": -1, "prompt_tokens": "9", "prompt_tokens_details": None}}
    assert read(payload).usage == Usage()


@pytest.mark.parametrize("number", [1.5, 2**31, 10**400, float("inf"), float("nan"), True, "9", [9], {"n": 9}, None])
def test_a_number_that_is_no_count_is_absent(number: object) -> None:
    assert read({"choices": [], "usage": {"completion_tokens": number, "prompt_tokens": 9.0}}).usage == Usage(input=9)


@pytest.mark.parametrize(
    ("payload", "name", "words"),
    [
        ({"error": {"message": "Overloaded", "type": "x"}}, "", "Overloaded"),
        ({"error": {"code": 500}}, "", "500"),
        ({"error": "broken"}, "", "broken"),
        ({"error": {}}, "", "the provider named no reason"),
        ({"detail": "x"}, "error", "the provider named no reason"),
        ("not json", "error", "not json"),
        ("[DONE]", "error", "[DONE]"),
        ({"error": {"message": "", "code": "", "type": ""}}, "", "the provider named no reason"),
        ({"error": [{"message": "first"}, {"message": "second"}]}, "", "first"),
        ({"error": "", "message": "late"}, "error", "late"),
        ({"type": "error", "message": "typed"}, "", "typed"),
        ({"object": "error", "message": "vLLM's old way", "code": 400}, "", "vLLM's old way"),
        ({"choices": [{"error": {"code": 502, "message": "upstream"}}]}, "", "upstream"),
        ({"choices": [{"delta": {}, "finish_reason": "error"}]}, "", "the model's end is error"),
    ],
)
def test_an_error_event_is_an_error(payload: object, name: str, words: str) -> None:
    assert read(payload, name).error == words


@pytest.mark.parametrize("data", ["{", "<html>", "[" * 100_000])
def test_what_is_not_json_is_told(data: str) -> None:
    assert read(data).unreadable is not None


def test_half_of_a_surrogate_pair_is_a_token_like_any_other() -> None:
    assert read('{"choices":[{"delta":{"content":"\\ud83d"}}]}').answer


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["choices", "delta", "content", "usage", "error", "x_groq", "tool_calls"]), inner
            )
        ),
    )
)
def test_no_json_breaks_the_reading(payload: object) -> None:
    assert isinstance(read(json.dumps(payload)), Reading)


@pytest.mark.parametrize(
    ("body", "words"),
    [(b'{"error":{"message":"no such model"}}', "no such model"), (b"<html>", None), (b"[]", None), (b'{"a":1}', None)],
)
def test_the_words_of_a_failed_answer_are_found(body: bytes, words: str | None) -> None:
    assert error_text(body) == words


def test_every_provider_of_the_contract_has_a_format() -> None:
    assert set(PROVIDERS) == set(Provider)
