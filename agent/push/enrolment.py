"""Joining a collector: the agent makes its credential itself, and tells the collector its key id and a digest alone.

The credential is on disk before the first request, under the name with `.next`, and gets its own name when the
collector has let it in: after a crash or a lost answer the same command goes on with the same pair, and uses no second
token.
"""

import asyncio
from typing import Final

import msgspec

from agent.config.tokens import OwnToken
from agent.errors import AgentError, ConfigError, DeliveryError
from agent.push.credentials import MAX_ANSWER_BYTES, CredentialFiles, Known, decode_known
from agent.push.wait import Answer, Client
from isochrone.names import printable

ENROLL_PATH: Final = "/v1/agents/enroll"
PAUSES_SECONDS: Final = (1.0, 2.0, 4.0, 8.0)
"""Between attempts: an answer that was lost is asked for again."""

_OK: Final = 200
_REFUSED: Final = frozenset({400, 401, 403, 409, 413, 415, 422})


class NotLetIn(AgentError):
    """The collector refused. The text is its own word."""


class _Problem(msgspec.Struct):
    detail: str = ""


async def enroll(client: Client, files: CredentialFiles, *, join_token: str, name: str) -> Known:
    """Join as `name` and leave the credential in its file.

    Raise ConfigError when the file is there already or cannot be written, NotLetIn, and DeliveryError when the
    collector gave no answer: then the same command goes on where this one ended.
    """
    if files.path.exists():
        raise ConfigError(f"{files.path}: exists, so this agent joined before: name another file, or move it away")
    try:
        own = files.prepare()
    except OSError as exc:
        raise ConfigError(f"{files.next_path}: {exc.strerror}: name a file in a folder that may be written") from exc
    known = await _ask_until_answered(client, own, join_token=join_token, name=name)
    try:
        files.adopt()
    except OSError as exc:
        raise ConfigError(
            f"{files.path}: {exc.strerror}: joined, but the credential stands in {files.next_path}: mend that and run "
            "the same command again"
        ) from exc
    return known


async def _ask_until_answered(client: Client, own: OwnToken, *, join_token: str, name: str) -> Known:
    for pause in PAUSES_SECONDS:
        try:
            return await _ask(client, own, join_token=join_token, name=name)
        except DeliveryError:
            await asyncio.sleep(pause)
    return await _ask(client, own, join_token=join_token, name=name)


async def _ask(client: Client, own: OwnToken, *, join_token: str, name: str) -> Known:
    headers = {
        "authorization": f"Bearer {join_token}",
        "content-type": "application/json",
        "accept": "application/json",
    }
    body = msgspec.json.encode({"name": name, "key_id": own.key_id, "secret_sha256": own.secret_sha256})
    answer = await client.request("POST", ENROLL_PATH, headers=headers, body=body, max_response_bytes=MAX_ANSWER_BYTES)
    known = decode_known(answer.body) if answer.status == _OK else None
    if known is not None and known.key_id == own.key_id and known.agent == name:
        return known
    if answer.status in _REFUSED and (detail := _detail(answer)):
        raise NotLetIn(f"not let in: {detail}")
    raise DeliveryError(f"{answer.status} to POST {ENROLL_PATH}: {_detail(answer) or 'is this a collector?'}")


def _detail(answer: Answer) -> str:
    try:
        return printable(msgspec.json.decode(answer.body, type=_Problem).detail)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
