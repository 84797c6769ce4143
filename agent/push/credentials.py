"""The agent's credential on disk, and its replacement without a moment in which none is good.

<file>         the credential in use
<file>.next    the one that shall follow: made here, its digest told to the collector, not in use yet

Steps of a rotation, each repeatable: write .next; PUT its digest with the old one; ask with .next; rename it over the
old one. From the first use of .next the collector lets the old one live for a day more. After a crash anywhere, .next
is tried first: if the collector knows it, it moves up, else it is told again with the old one.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import Enum, auto
from pathlib import Path
from typing import Final

import msgspec

from agent.config import read_credential
from agent.config.credentials import next_credential
from agent.config.tokens import OwnToken, new_token, own_token
from agent.errors import ConfigError, DeliveryError
from agent.push.wait import Answer, Client, Timing
from agent.spool.files import fsync_folder, write_durably
from agent.telemetry import LOG
from isochrone.names import printable

CREDENTIAL_PATH: Final = "/v1/agent/credential"
ROTATE_HEADER: Final = "isochrone-rotate"
MAX_ANSWER_BYTES: Final = 16 * 1024
CHECK_SECONDS: Final = 3_600.0
"""How often the age of the credential is looked at."""
RETRY_SECONDS: Final = 60.0
"""First pause after a rotation that did not come to its end; doubled up to `CHECK_SECONDS`."""
MIN_AGE: Final = timedelta(seconds=60)
"""A younger credential is not replaced, whoever asks: bounds what a collector that always asks can do."""
JITTER: Final = 0.2
"""Share of the interval by which a rotation comes earlier or later, so that a fleet does not rotate at once."""

_OK: Final = 200
_UNAUTHORIZED: Final = 401
_CONFLICT: Final = 409


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the collector says of a credential."""

    agent: str
    agent_region: str
    key_id: str


class CredentialFiles:
    """The credential's file and the one beside it. Whatever writes here raises OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.next_path = next_credential(path)

    def waiting(self) -> OwnToken | None:
        """Return the credential that shall follow; None when there is none, or none that can be read."""
        try:
            return own_token(read_credential(self.next_path))
        except (ConfigError, ValueError):
            return None

    def prepare(self) -> OwnToken:
        """Return the credential that shall follow, made and on disk; the same one again until it is adopted."""
        waiting = self.waiting()
        if waiting is None:
            waiting = new_token()
            write_durably(self.next_path, f"{waiting.token}\n".encode())
        return waiting

    def adopt(self) -> None:
        """Let the next one be the one in use: the old one is gone with that."""
        self.next_path.replace(self.path)
        fsync_folder(self.path.parent)

    def forget_next(self) -> None:
        """Delete the next one: the collector will not take it."""
        self.next_path.unlink(missing_ok=True)


class RotationHints:
    """A client that looks whether an answer asks for a new credential, and passes it on."""

    def __init__(self, client: Client, ask: Callable[[], None]) -> None:
        self._client = client
        self._ask = ask

    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str], body: bytes | None = None, max_response_bytes: int
    ) -> Answer:
        """Return the answer; raise DeliveryError for whatever the network does."""
        answer = await self._client.request(
            method, path, headers=headers, body=body, max_response_bytes=max_response_bytes
        )
        if answer.headers.get(ROTATE_HEADER) == "1":
            self._ask()
        return answer


class Found(Enum):
    """What the collector says of the next credential."""

    KNOWN = auto()
    UNKNOWN = auto()


class Rotator:
    """Owns the loop that replaces the credential."""

    def __init__(self, client: Client, files: CredentialFiles, *, timing: Timing, every_seconds: float) -> None:
        self._client = client
        self._files = files
        self._timing = timing
        self._every_seconds = every_seconds * (1 + JITTER * (2 * timing.random() - 1))
        self._asked = False
        self._wake = asyncio.Event()
        self._unfinished = 0

    def ask(self) -> None:
        """Replace the credential now: the collector's operator wants it. For the event loop."""
        if not self._asked:
            self._asked = True
            self._wake.set()

    async def run(self) -> None:
        """Rotate when it is time, for ever, whatever happens."""
        while True:
            await self._timing.wait(self._wake, await self._guarded_turn())

    async def _guarded_turn(self) -> float:
        try:
            done = await self.turn()
        except (ConfigError, DeliveryError, OSError) as exc:
            why = exc.strerror or "the file cannot be written" if isinstance(exc, OSError) else str(exc)
            LOG.warning("credential: not replaced, the present one stays: %s", printable(why))
            done = False
        except Exception:  # noqa: BLE001  a fault here must not end the agent
            LOG.exception("credential: a fault of ours: the present one stays")
            done = False
        self._unfinished = 0 if done else self._unfinished + 1
        self._asked = self._asked and not done
        wait = CHECK_SECONDS if done else min(CHECK_SECONDS, RETRY_SECONDS * float(1 << min(self._unfinished - 1, 10)))
        return wait * (1 + JITTER * (2 * self._timing.random() - 1))

    async def turn(self) -> bool:
        """Go on with a rotation that was broken off, or begin one that is due; tell whether none is left open.

        Raise DeliveryError, ConfigError or OSError.
        """
        waiting = await asyncio.to_thread(self._files.waiting)
        if waiting is not None:
            return await self._go_on(waiting)
        if not self._due():
            return True
        fresh = await asyncio.to_thread(self._files.prepare)
        await self._tell(fresh)
        return await self._move_up(fresh)

    def _due(self) -> bool:
        written_at = self._files.path.stat().st_mtime
        age = self._timing.clock.utc_now().timestamp() - written_at
        return age > self._every_seconds or (self._asked and abs(age) > MIN_AGE.total_seconds())

    async def _go_on(self, waiting: OwnToken) -> bool:
        if await self._try(waiting) is Found.UNKNOWN:
            await self._tell(waiting)
        return await self._move_up(waiting)

    async def _move_up(self, following: OwnToken) -> bool:
        if await self._try(following) is not Found.KNOWN:
            raise DeliveryError("the collector took the new credential and does not know it yet")
        await asyncio.to_thread(self._files.adopt)
        LOG.info("credential: replaced, key %s", following.key_id)
        return True

    async def _try(self, token: OwnToken) -> Found:
        answer = await self._request("GET", token.token, None)
        if answer.status == _UNAUTHORIZED:
            return Found.UNKNOWN
        if not _is_of(answer, token):
            raise DeliveryError(f"the collector answered {answer.status} to GET {CREDENTIAL_PATH}")
        return Found.KNOWN

    async def _tell(self, following: OwnToken) -> None:
        body = msgspec.json.encode({"key_id": following.key_id, "secret_sha256": following.secret_sha256})
        answer = await self._request("PUT", read_credential(self._files.path), body)
        if answer.status == _CONFLICT:
            await asyncio.to_thread(self._files.forget_next)
        if not _is_of(answer, following):
            raise DeliveryError(f"the collector answered {answer.status} to PUT {CREDENTIAL_PATH}")

    async def _request(self, method: str, token: str, body: bytes | None) -> Answer:
        headers = {"authorization": f"Bearer {token}", "accept": "application/json", "content-type": "application/json"}
        return await self._client.request(
            method, CREDENTIAL_PATH, headers=headers, body=body, max_response_bytes=MAX_ANSWER_BYTES
        )


def _is_of(answer: Answer, token: OwnToken) -> bool:
    """Tell whether the answer is a collector's word on this very credential: a proxy's page is not."""
    if answer.status != _OK:
        return False
    known = decode_known(answer.body)
    return known is not None and known.key_id == token.key_id


def decode_known(body: bytes) -> Known | None:
    """Return what the collector says of a credential; None for anything else."""
    try:
        return msgspec.json.decode(body, type=Known)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
