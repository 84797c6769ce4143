"""Wire formats of providers: pure, one file each, one literal dict."""

from typing import Final

from agent.providers import openai
from agent.providers.wire import Reading, Request, WireFormat
from isochrone.config import Provider

PROVIDERS: Final[dict[Provider, WireFormat]] = {
    Provider.OPENAI: WireFormat(request=openai.request, interpret=openai.interpret, error_text=openai.error_text),
}

__all__ = ["PROVIDERS", "Reading", "Request", "WireFormat"]
