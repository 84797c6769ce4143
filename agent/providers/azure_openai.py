"""Azure OpenAI: chat completions of OpenAI behind a deployment's URL.

Rules:
- a base that is the resource alone gets the deployment (the model's name) and the API's version; `…/deployments/NAME`
  gets the version; `…/openai/v1` is OpenAI's own path and needs none; what the URL says already stays;
- a key goes into `api-key`; a token of Entra ID (a JWT) is a bearer token;
- the stream is OpenAI's: the filter's chunks have no choices, or choices without a `delta`.
"""

from typing import Final
from urllib.parse import parse_qs, quote

from agent.providers.openai import PATH, chat_body
from agent.providers.wire import Ask, Request, bearer, key_header, post, split_base

API_VERSION: Final = "2024-10-21"
"""The latest stable one of the deployments' interface; a base URL may name another: `?api-version=`."""
_DEPLOYMENTS: Final = "/openai/deployments/"
_COMPATIBLE: Final = "/openai/v1"


def request(ask: Ask) -> Request:
    """Return the request for a stream of at most `max_output_tokens`."""
    is_token = ask.key is not None and ask.key.startswith("eyJ")
    headers = bearer(ask.key) if is_token else key_header("api-key", ask.key)
    return post(_url(ask), chat_body(ask, official=False), headers=headers)


def _url(ask: Ask) -> str:
    parts = split_base(ask.target.url)
    path = parts.path
    if not path.endswith(PATH):
        named = _DEPLOYMENTS in path or path.endswith(_COMPATIBLE)
        base = path if named else f"{path.removesuffix('/openai')}{_DEPLOYMENTS}{quote(ask.model, safe='')}"
        path = base + PATH
    query = parts.query
    if _COMPATIBLE not in path and "api-version" not in parse_qs(query):
        query = "&".join(part for part in (query, f"api-version={API_VERSION}") if part)
    return parts._replace(path=path, query=query).geturl()
