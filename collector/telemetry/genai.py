"""The words of OpenTelemetry's GenAI conventions (open-telemetry/semantic-conventions-genai, gen-ai-metrics). Pure.

`gen_ai.provider.name` is the flavour of telemetry: the wire format's, unless the host is known to be another's.
Where the conventions have no word for a format, ours stands: they allow it.
"""

from typing import Final
from urllib.parse import urlsplit

from isochrone.config import Provider

PROVIDER_NAMES: Final[dict[Provider, str]] = {
    Provider.OPENAI: "openai",
    Provider.OPENAI_COMPLETIONS: "openai",
    Provider.OPENAI_RESPONSES: "openai",
    Provider.ANTHROPIC: "anthropic",
    Provider.GEMINI: "gcp.gemini",
    Provider.BEDROCK: "aws.bedrock",
    Provider.AZURE_OPENAI: "azure.ai.openai",
    Provider.OLLAMA: "ollama",
    Provider.COHERE: "cohere",
    Provider.TGI: "tgi",
    Provider.TRITON: "triton",
}
HOST_NAMES: Final = {
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
}
"""Providers that speak another's format, by the end of their host."""
OPERATIONS: Final[dict[Provider, str]] = {
    Provider.OPENAI_COMPLETIONS: "text_completion",
    Provider.TGI: "text_completion",
    Provider.TRITON: "text_completion",
    Provider.GEMINI: "generate_content",
}
"""`gen_ai.operation.name` where it is not `chat`."""
_PORTS: Final = {"http": 80, "https": 443}


def provider_name(provider: str, host: str | None) -> str:
    """Return `gen_ai.provider.name`."""
    for end, name in HOST_NAMES.items():
        if host is not None and (host == end or host.endswith(("." + end, "-" + end))):
            return name
    try:
        return PROVIDER_NAMES[Provider(provider)]
    except ValueError:  # a newer release's
        return provider


def operation_name(provider: str) -> str:
    """Return `gen_ai.operation.name`."""
    try:
        return OPERATIONS.get(Provider(provider), "chat")
    except ValueError:
        return "chat"


def server_of(url: str) -> tuple[str, int] | None:
    """Return `server.address` and `server.port`; None for a URL that has none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    known = port if port is not None else _PORTS.get(parts.scheme)
    return None if host is None or known is None else (host, known)
