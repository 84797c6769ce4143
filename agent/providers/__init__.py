"""Wire formats of providers: pure, one file each, one literal dict."""

from typing import Final

from agent.eventstream import EVENT_STREAM
from agent.ndjson import NDJSON
from agent.providers import (
    anthropic,
    azure_openai,
    bedrock,
    cohere,
    gemini,
    ollama,
    openai,
    openai_completions,
    openai_responses,
    tgi,
    triton,
)
from agent.providers.wire import Ask, Reading, Request, WireFormat, error_text
from isochrone.config import Provider

PROVIDERS: Final[dict[Provider, WireFormat]] = {
    Provider.OPENAI: WireFormat(request=openai.request, interpret=openai.interpret, ending=openai.ENDING),
    Provider.OPENAI_COMPLETIONS: WireFormat(
        request=openai_completions.request, interpret=openai_completions.interpret, ending=openai.ENDING
    ),
    Provider.OPENAI_RESPONSES: WireFormat(
        request=openai_responses.request, interpret=openai_responses.interpret, ending=openai_responses.ENDING
    ),
    Provider.ANTHROPIC: WireFormat(request=anthropic.request, interpret=anthropic.interpret, ending=anthropic.ENDING),
    Provider.GEMINI: WireFormat(request=gemini.request, interpret=gemini.interpret, ending=gemini.ENDING),
    Provider.BEDROCK: WireFormat(
        request=bedrock.request,
        interpret=bedrock.interpret,
        ending=bedrock.ENDING,
        framing=EVENT_STREAM,
        secrets=bedrock.secrets,
    ),
    Provider.AZURE_OPENAI: WireFormat(request=azure_openai.request, interpret=openai.interpret, ending=openai.ENDING),
    Provider.OLLAMA: WireFormat(
        request=ollama.request, interpret=ollama.interpret, ending=ollama.ENDING, framing=NDJSON
    ),
    Provider.COHERE: WireFormat(request=cohere.request, interpret=cohere.interpret, ending=cohere.ENDING),
    Provider.TGI: WireFormat(request=tgi.request, interpret=tgi.interpret, ending=tgi.ENDING),
    Provider.TRITON: WireFormat(request=triton.request, interpret=triton.interpret, ending=None),
}

__all__ = ["PROVIDERS", "Ask", "Reading", "Request", "WireFormat", "error_text"]
