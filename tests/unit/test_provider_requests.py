"""What each provider is asked: where, with which key in which header, and for no more than was allowed."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.providers import PROVIDERS, Ask, Request
from agent.providers.bedrock import secrets
from isochrone.config import Assignment, Duration, InferenceOptions, Module, Provider
from isochrone.outcome import Prober

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROMPT = "n0nce hello"
KEY = "sk-secret-1"
PAIR = "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
P = Provider


def ask(provider: Provider, url: str, model: str = "m", *, key: str | None = KEY) -> Request:
    options = Module(
        prober=Prober.INFERENCE,
        interval=Duration(60),
        timeout=Duration(30),
        inference=InferenceOptions(max_output_tokens=20),
    )
    target = Assignment(endpoint="e", module="m", url=url, options=options, provider=provider, model=model)
    return PROVIDERS[provider].request(Ask(target=target, key=key, prompt=PROMPT, at=NOON))


def body(provider: Provider, model: str = "m", url: str = "https://h/v1") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(provider, url, model).body)
    return found


VERTEX = "https://eu-aiplatform.googleapis.com/v1/projects/p/locations/eu"
GEMINI = "https://generativelanguage.googleapis.com/v1beta"
AZURE = "https://r.openai.azure.com"
BEDROCK = "https://bedrock-runtime.eu-west-1.amazonaws.com"
STREAM = ":streamGenerateContent?alt=sse"


@pytest.mark.parametrize(
    ("provider", "base", "url"),
    [
        (P.OPENAI, "https://h/v1/", "https://h/v1/chat/completions"),
        (P.OPENAI_COMPLETIONS, "https://h/v1", "https://h/v1/completions"),
        (P.OPENAI_RESPONSES, "https://h/v1", "https://h/v1/responses"),
        (P.OPENAI_RESPONSES, "https://h/v1/responses", "https://h/v1/responses"),
        (P.ANTHROPIC, "https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
        (P.ANTHROPIC, "https://api.anthropic.com/v1/", "https://api.anthropic.com/v1/messages"),
        (P.ANTHROPIC, "https://h/anthropic/v1/messages", "https://h/anthropic/v1/messages"),
        (P.GEMINI, GEMINI, f"{GEMINI}/models/a%2Fb{STREAM}"),
        (P.GEMINI, f"{GEMINI}/models", f"{GEMINI}/models/a%2Fb{STREAM}"),
        (P.GEMINI, VERTEX, f"{VERTEX}/publishers/google/models/a%2Fb{STREAM}"),
        (P.GEMINI, f"{VERTEX}/publishers/x/models", f"{VERTEX}/publishers/x/models/a%2Fb{STREAM}"),
        (
            P.GEMINI,
            f"{GEMINI}/models/c:streamGenerateContent?x=1",
            f"{GEMINI}/models/c:streamGenerateContent?x=1&alt=sse",
        ),
        (P.AZURE_OPENAI, AZURE, f"{AZURE}/openai/deployments/a%2Fb/chat/completions?api-version=2024-10-21"),
        (
            P.AZURE_OPENAI,
            f"{AZURE}/openai/deployments/d?api-version=2025-01-01",
            f"{AZURE}/openai/deployments/d/chat/completions?api-version=2025-01-01",
        ),
        (
            P.AZURE_OPENAI,
            f"{AZURE}/openai/",
            f"{AZURE}/openai/deployments/a%2Fb/chat/completions?api-version=2024-10-21",
        ),
        (P.AZURE_OPENAI, f"{AZURE}/openai/v1/", f"{AZURE}/openai/v1/chat/completions"),
        (P.BEDROCK, BEDROCK, f"{BEDROCK}/model/a%2Fb/converse-stream"),
        (P.BEDROCK, f"{BEDROCK}/model/x/converse-stream", f"{BEDROCK}/model/x/converse-stream"),
        (P.OLLAMA, "http://h:11434", "http://h:11434/api/chat"),
        (P.OLLAMA, "http://h:11434/api", "http://h:11434/api/chat"),
        (P.COHERE, "https://api.cohere.com/v2", "https://api.cohere.com/v2/chat"),
        (P.COHERE, "https://api.cohere.com", "https://api.cohere.com/v2/chat"),
        (P.TGI, "http://h:8080", "http://h:8080/generate_stream"),
        (P.TRITON, "http://h:8000", "http://h:8000/v2/models/a%2Fb/generate_stream"),
        (P.TRITON, "http://h:8000/v2", "http://h:8000/v2/models/a%2Fb/generate_stream"),
    ],
)
def test_a_base_becomes_the_url_of_the_stream(provider: Provider, base: str, url: str) -> None:
    assert ask(provider, base, "a/b").url == url


@pytest.mark.parametrize(
    ("provider", "url", "key", "header"),
    [
        (P.OPENAI, "https://h/v1", KEY, ("Authorization", f"Bearer {KEY}")),
        (P.OPENAI_COMPLETIONS, "https://h/v1", KEY, ("Authorization", f"Bearer {KEY}")),
        (P.OPENAI_RESPONSES, "https://h/v1", KEY, ("Authorization", f"Bearer {KEY}")),
        (P.ANTHROPIC, "https://h/v1", KEY, ("x-api-key", KEY)),
        (P.GEMINI, GEMINI, KEY, ("x-goog-api-key", KEY)),
        (P.GEMINI, GEMINI, "ya29.token", ("Authorization", "Bearer ya29.token")),
        (P.GEMINI, VERTEX, KEY, ("Authorization", f"Bearer {KEY}")),
        (P.AZURE_OPENAI, AZURE, KEY, ("api-key", KEY)),
        (P.AZURE_OPENAI, AZURE, "eyJhbGciOi.x.y", ("Authorization", "Bearer eyJhbGciOi.x.y")),
        (P.BEDROCK, BEDROCK, "ABSK-bedrock", ("Authorization", "Bearer ABSK-bedrock")),
        (P.OLLAMA, "http://h", KEY, ("Authorization", f"Bearer {KEY}")),
        (P.COHERE, "http://h", KEY, ("Authorization", f"Bearer {KEY}")),
        (P.TGI, "http://h", KEY, ("Authorization", f"Bearer {KEY}")),
        (P.TRITON, "http://h", KEY, ("Authorization", f"Bearer {KEY}")),
    ],
)
def test_the_key_stands_in_its_header_alone(provider: Provider, url: str, *, key: str, header: tuple[str, str]) -> None:
    made = ask(provider, url, key=key)
    name, value = header
    assert made.headers[name] == value
    assert [field for field, text in made.headers.items() if key in text] == [name]
    assert key not in made.url
    assert key.encode() not in made.body
    assert name not in ask(provider, url, key=None).headers


@pytest.mark.parametrize("provider", list(Provider))
@pytest.mark.parametrize("key", ["sk\n", "schlüssel", "a\x00b"])
def test_a_key_that_no_header_may_hold_is_refused_without_quoting_it(provider: Provider, key: str) -> None:
    with pytest.raises(ValueError, match="the key holds characters") as caught:
        ask(provider, BEDROCK, key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("provider", list(Provider))
def test_prompt_and_bound_stand_in_the_body_and_a_stream_is_asked_for(provider: Provider) -> None:
    made = ask(provider, BEDROCK)
    text = made.body.decode()
    assert PROMPT in text
    assert ":20" in text
    assert made.headers["Accept"] == PROVIDERS[provider].framing.media_types[0]
    assert "stream" in text or "stream" in made.url.lower()


def test_an_access_key_signs_and_its_secret_is_sent_nowhere() -> None:
    made = ask(P.BEDROCK, BEDROCK, key=f"{PAIR}:token/+=")
    assert made.headers["Authorization"].startswith(
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260301/eu-west-1/bedrock/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature="
    )
    assert made.headers["x-amz-security-token"] == "token/+="
    assert "wJalr" not in str(made)


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("bedrock-runtime.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("bedrock-runtime-fips.us-east-2.amazonaws.com", "us-east-2"),
        ("bedrock-runtime.eu-central-1.api.aws", "eu-central-1"),
        ("vpce-1a.bedrock-runtime.us-west-2.vpce.amazonaws.com", "us-west-2"),
    ],
)
def test_the_region_is_read_from_the_host(host: str, region: str) -> None:
    assert f"/{region}/bedrock/" in ask(P.BEDROCK, f"https://{host}", key=PAIR).headers["Authorization"]


def test_a_host_without_a_region_is_refused_with_what_would_be_right() -> None:
    with pytest.raises(ValueError, match=r"give https://bedrock-runtime\.REGION\.amazonaws\.com") as caught:
        ask(P.BEDROCK, "https://proxy.example", key=PAIR)
    assert "wJalr" not in str(caught.value)


def test_half_an_access_key_is_refused_without_quoting_it() -> None:
    with pytest.raises(ValueError, match="ACCESS_KEY_ID:SECRET_ACCESS_KEY") as caught:
        ask(P.BEDROCK, BEDROCK, key="AKIAIOSFODNN7EXAMPLE:short")
    assert "short" not in str(caught.value)


def test_the_parts_of_an_access_key_are_secrets_one_by_one() -> None:
    assert secrets(f"{PAIR}:token") == (f"{PAIR}:token", PAIR.partition(":")[2], "token")
    assert secrets("ABSK") == ("ABSK",)


@pytest.mark.parametrize(
    ("model", "thinking"),
    [
        ("gemini-2.5-flash-lite", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", {"thinkingBudget": 128}),
        ("gemini-3-flash", {"thinkingLevel": "minimal"}),
        ("gemini-3-pro-preview", {"thinkingLevel": "low"}),
        ("gemini-2.0-flash", None),
    ],
)
def test_gemini_is_asked_to_think_as_little_as_the_model_allows(model: str, thinking: dict[str, object] | None) -> None:
    assert body(P.GEMINI, model)["generationConfig"].get("thinkingConfig") == thinking


@pytest.mark.parametrize(
    ("model", "effort"), [("gpt-5-mini", "minimal"), ("gpt-5.1", "none"), ("gpt-4.1", None), ("o3", None)]
)
def test_responses_are_asked_to_think_as_little_as_the_model_allows(model: str, effort: str | None) -> None:
    assert body(P.OPENAI_RESPONSES, model).get("reasoning") == (None if effort is None else {"effort": effort})


def test_others_are_asked_not_to_think_where_they_know_the_question() -> None:
    assert body(P.OLLAMA)["think"] is False
    assert body(P.COHERE, "command-a-reasoning-08-2025")["thinking"] == {"type": "disabled"}
    assert "thinking" not in body(P.COHERE, "command-a-03-2025")
    assert body(P.AZURE_OPENAI, "gpt-5-mini")["reasoning_effort"] == "minimal"


def test_padding_is_refused_at_openai_itself_and_nowhere_else() -> None:
    official = "https://api.openai.com/v1"
    assert body(P.OPENAI_RESPONSES, url=official)["stream_options"] == {"include_obfuscation": False}
    assert "stream_options" not in body(P.OPENAI_RESPONSES)
    assert body(P.OPENAI_COMPLETIONS, url=official)["stream_options"]["include_obfuscation"] is False


def test_nothing_is_stored_at_the_provider() -> None:
    assert body(P.OPENAI_RESPONSES)["store"] is False
