"""Fetches what to probe from the collector, and keeps the last good answer on disk for the times when it is away."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final

import msgspec

from agent.errors import ConfigError, DeliveryError
from agent.push.wait import Client, Timing
from agent.spool.files import write_durably
from agent.telemetry import LOG
from isochrone.config import MAX_CONFIG_BYTES, AgentConfig, decode_agent_config
from isochrone.names import printable

CONFIG_PATH: Final = "/v1/agent/config"
POLL_SECONDS: Final = 60.0
POLL_JITTER: Final = 0.2
"""Share of the interval by which a poll may come earlier or later."""
FIRST_RETRY_SECONDS: Final = 1.0
"""While there is no configuration at all: doubled up to the poll's interval."""

_TAG_PATTERN: Final = r"^[\x21-\x7e]{1,200}\Z"
"""What goes back in If-None-Match: a tag beyond ASCII can be received but not sent."""
_TAG: Final = re.compile(_TAG_PATTERN)
_OK: Final = 200
_UNCHANGED: Final = 304


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration as the collector gave it, with its tag."""

    etag: Annotated[str, msgspec.Meta(pattern=_TAG_PATTERN)]
    config: msgspec.Raw

    def decoded(self) -> AgentConfig:
        """Return the configuration; raise ValueError naming the path."""
        return decode_agent_config(bytes(self.config))


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Fetched)


class ConfigCache:
    """The last known good configuration in a file. A broken file counts as none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Fetched | None:
        """Return what was stored, or None."""
        try:
            fetched = _decoder.decode(self._path.read_bytes())
            fetched.decoded()
        except FileNotFoundError:
            return None
        except (OSError, ValueError, msgspec.DecodeError, RecursionError) as exc:
            LOG.warning("config: %s is not used: %s", self._path, printable(str(exc)))
            return None
        return fetched

    def store(self, fetched: Fetched) -> None:
        """Replace the file durably; a failing disk is told in the log. Waits for the disk: not for the event loop."""
        try:
            write_durably(self._path, _encoder.encode(fetched))
        except OSError as exc:
            LOG.warning("config: %s cannot be written: %s", self._path, exc.strerror)


class ConfigPoller:
    """Owns the loop that keeps the configuration current."""

    def __init__(self, client: Client, cache: ConfigCache, *, credential: Callable[[], str], timing: Timing) -> None:
        """Take `credential`, which returns the token as it stands now."""
        self.apply: Callable[[AgentConfig], Awaitable[None]] = _nothing
        """Called with every new configuration."""
        self._client = client
        self._cache = cache
        self._credential = credential
        self._timing = timing
        self._etag: str | None = None
        self._wake = asyncio.Event()
        self._retry_seconds = FIRST_RETRY_SECONDS

    def hint(self, etag: str) -> None:
        """Fetch now if `etag` is not what this agent has. For the event loop."""
        if etag != self._etag:
            self._wake.set()

    async def run(self) -> None:
        """Start with the last known configuration, then fetch for ever, whatever happens."""
        await _guarded(self._start())
        while True:
            await _guarded(self.fetch())
            await self._timing.wait(self._wake, self._pause())

    async def _start(self) -> None:
        known = await asyncio.to_thread(self._cache.load)
        if known is not None:
            LOG.info("config: starting with the last known one")
            await self._take(known)

    async def fetch(self) -> None:
        """Fetch once; apply what is new and good. Whatever goes wrong is told and leaves the present one in force."""
        try:
            fetched = await self._ask()
            if fetched is not None:
                fetched.decoded()
        except (ConfigError, DeliveryError, ValueError) as exc:
            state = "no configuration yet" if self._etag is None else "the present one stays"
            LOG.warning("config: %s: %s", printable(str(exc)), state)
            return
        if fetched is not None:
            await self._take(fetched)
            await asyncio.to_thread(self._cache.store, fetched)  # applied before: a bad one must not come back

    async def _ask(self) -> Fetched | None:
        headers = {"authorization": f"Bearer {self._credential()}", "accept": "application/json"}
        if self._etag is not None:
            headers["if-none-match"] = self._etag
        limit = MAX_CONFIG_BYTES
        answer = await self._client.request("GET", CONFIG_PATH, headers=headers, body=None, max_response_bytes=limit)
        if answer.status == _UNCHANGED and self._etag is not None:
            return None
        etag = answer.headers.get("etag")
        if answer.status != _OK:
            raise DeliveryError(f"the collector answered {answer.status} to GET {CONFIG_PATH}")
        if etag is None or _TAG.match(etag) is None:
            raise DeliveryError("the configuration has no ETag that can be sent back: is something in between?")
        if etag == self._etag:
            return None
        try:
            return Fetched(etag=etag, config=msgspec.json.decode(answer.body, type=msgspec.Raw))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise DeliveryError("the configuration is not JSON: is something in between?") from exc

    async def _take(self, fetched: Fetched) -> None:
        config = fetched.decoded()
        LOG.info("config: revision %d with %d targets", config.revision, len(config.targets))
        await self.apply(config)
        self._etag = fetched.etag

    def _pause(self) -> float:
        if self._etag is not None:
            return POLL_SECONDS * (1 + POLL_JITTER * (2 * self._timing.random() - 1))
        self._retry_seconds = min(POLL_SECONDS, 2 * self._retry_seconds)
        return self._retry_seconds * (1 + self._timing.random()) / 2


async def _guarded(work: Awaitable[None]) -> None:
    try:
        await work
    except Exception:  # noqa: BLE001  a configuration that cannot be applied must not end the agent
        LOG.exception("config: a fault of ours: the present one stays")


async def _nothing(_config: AgentConfig) -> None:
    """Stand in until somebody wants to know."""
