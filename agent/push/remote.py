"""Fetches what to probe from the collector, tries it, and goes back to the last known good one when it does harm.

    fetched -> size, form, local policy -> candidate on disk -> in force, on probation -> last known good
                        |                                             |
                        +------------> given up, its tag remembered <-+

A collector that is away or says 429 or 503 never speaks against a configuration, and none ever expires.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from agent.errors import AnswerTooLong, ConfigError, DeliveryError
from agent.push.wait import Answer, Client, Timing
from agent.revisions import ConfigCache, Failed, Fetched, Watch, fault, probation_seconds
from agent.revisions.files import TAG_PATTERN, revision_of
from agent.telemetry import LOG
from isochrone.config import MAX_CONFIG_BYTES, STATE_HEADER, AgentConfig, Assignment, ConfigState, encode_state
from isochrone.durations import format_duration
from isochrone.names import MAX_SECONDS, printable
from isochrone.outcome import Outcome

CONFIG_PATH: Final = "/v1/agent/config"
POLL_SECONDS: Final = 60.0
POLL_JITTER: Final = 0.2
"""Share of the interval by which a poll may come earlier or later."""
SPREAD_SECONDS: Final = 30.0
"""A fleet that hears of a new revision at once fetches it within this time, evenly."""
FIRST_RETRY_SECONDS: Final = 1.0
"""While there is no configuration at all: doubled up to the poll's interval."""
FORGIVE_SECONDS: Final = 600.0
"""An agent that died twice with its first configuration idles for so long, then tries it again: a machine that was
started twice, or ran out of memory by another's fault, must not be silent for ever."""
REFUSED_SECONDS: Final = 3_600.0
"""A credential that is refused or revoked is asked with more and more rarely, down to once in so long, until a batch is
acknowledged: then somebody has let this agent in again."""
LAG_SECONDS: Final = 1.0
"""Between two samples of the event loop's lateness."""

_TAG: Final = re.compile(TAG_PATTERN)
_OK: Final = 200
_UNCHANGED: Final = 304
_MAX_DOUBLINGS: Final = 16
_NOT_US: Final = frozenset({401, 403})


class ConfigPoller:
    """Owns the loop that keeps the configuration current."""

    def __init__(self, client: Client, cache: ConfigCache, *, credential: Callable[[], str], timing: Timing) -> None:
        """Take `credential`, which returns the token as it stands now."""
        self.apply: Callable[[AgentConfig], Awaitable[None]] = _nothing
        """Called with every configuration that comes into force."""
        self.problems: Callable[[Assignment], list[str]] = _none
        """Returns why the local policy forbids a target: one line each."""
        self.io_lost: Callable[[], int] = int
        """Returns how many results were lost to a failing disk so far."""
        self._client = client
        self._cache = cache
        self._credential = credential
        self._timing = timing
        self._good: Fetched | None = None
        self._running: Fetched | None = None
        self._revision: int | None = None
        self._watch = self._new_watch()
        self._before: Watch | None = None
        """What was seen under the configuration before the one on probation."""
        self._probation_seconds: float | None = None
        """None: the running one is not on probation."""
        self._bad: tuple[Failed, ...] = ()
        self._begun_seconds = self._now()
        self._received: str | None = None
        self._confirmed_seconds: float | None = None
        self._wake = asyncio.Event()
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._refused = 0
        """How often in a row the collector would not have this agent."""

    def hint(self, etag: str) -> None:
        """Take the tag that came with an acknowledgement: fetch soon if it is new here. For the event loop."""
        self._watch.acks += 1
        if self._refused:
            self._refused = 0
            self._wake.set()
        if etag not in (self._tag, self._received) and self._failure(etag) is None:
            self._wake.set()

    def ran(self, outcome: Outcome, revision: int | None) -> None:
        """Take how a probe ended, and under which revision it began."""
        if revision == self._revision:
            self._watch.ran(outcome)

    @property
    def state(self) -> ConfigState:
        """What the collector is told."""
        failed = None if self._received is None else self._failure(self._received)
        return ConfigState(
            running=self._revision,
            probation=self._probation_seconds is not None,
            received=None if self._received is None else self._revision_of(self._received),
            failed=None if failed is None else failed.revision,
            reason=None if failed is None else failed.reason,
            age_seconds=self._age_seconds,
        )

    async def run(self) -> None:
        """Start with the last known configuration, then fetch for ever, whatever happens."""
        await _guarded(self.begin())
        while True:
            await _guarded(self.fetch())
            await _guarded(self.review())
            hinted = await self._timing.wait(self._wake, self._pause())
            if hinted and self._running is not None:
                await self._timing.wait(asyncio.Event(), SPREAD_SECONDS * self._timing.random())

    async def watch_loop(self) -> None:
        """Sample for ever how late the event loop runs its timers."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self._watch.lagged(loop.time() - due)

    async def begin(self) -> None:
        """Take up what is on disk: the one on probation if the process did not die of it, else the last good one."""
        start = await asyncio.to_thread(self._cache.start)
        self._good, self._bad = start.good, start.bad
        if self._bad:
            self._received = self._bad[0].etag
        if start.candidate is not None:
            LOG.info("config: starting with the last known one, still on probation")
            await self._try(start.candidate)
        elif start.good is not None:
            LOG.info("config: starting with the last known good one")
            await self._put_in_force(start.good)

    async def rest(self) -> None:
        """Note that the process ends on purpose."""
        if self._probation_seconds is not None:
            await asyncio.to_thread(self._cache.rest)

    async def fetch(self) -> None:
        """Fetch once; try what is new. Whatever goes wrong is told and leaves the present one in force."""
        try:
            fetched = await self._ask()
        except AnswerTooLong as exc:
            await self._refuse_long(exc)
            return
        except (ConfigError, DeliveryError, ValueError) as exc:
            LOG.warning("config: %s: %s", printable(str(exc)), self._present)
            return
        if fetched is not None:
            await self._take(fetched)

    async def _refuse_long(self, answer: AnswerTooLong) -> None:
        """Give up a configuration that is too long to be read, so that the collector hears of it and sends it no more.

        Only with a tag of a collector's own form: the page of a proxy is long too.
        """
        etag = answer.headers.get("etag", "")
        if answer.status != _OK or _TAG.match(etag) is None or revision_of(etag) is None:
            LOG.warning("config: %s: %s", printable(str(answer)), self._present)
            return
        self._confirm(etag)
        await self._give_up(etag, f"larger than {MAX_CONFIG_BYTES} bytes, the most that an agent takes")

    async def _forgive(self) -> None:
        """Try again what the process died with, where there is nothing else to run."""
        idle = self._running is None and self._good is None
        if not idle or self._now() - self._begun_seconds < FORGIVE_SECONDS:
            return
        for one in self._bad:
            if one.by_death:
                LOG.warning("config: %s is tried again: there is no other", printable(one.etag))
                self._bad = (await asyncio.to_thread(self._cache.forgive, one.etag)).bad

    async def review(self) -> None:
        """End a probation whose time is over: by promotion, or by going back."""
        await self._forgive()
        running, seconds = self._running, self._probation_seconds
        if running is None or seconds is None or self._now() - self._watch.begun_seconds < seconds:
            return
        self._watch.io_lost = self.io_lost()
        reason = fault(self._watch, self._before)
        if reason is not None and _probes(self._good):
            await self._give_up(running.etag, reason)
        elif reason is None and (self._watch.acks or not self._watch.runs):
            await self._promote(running)
        # Otherwise it stays on trial: no acknowledgement yet is the collector's affair, and without a good one that
        # probes anything, going back would only mean to measure nothing.

    async def _take(self, fetched: Fetched) -> None:
        try:
            config = fetched.decoded()
        except ValueError as exc:
            await self._give_up(fetched.etag, f"not of the expected form: {exc}")
            return
        if (reason := self._forbidden(config)) is not None:
            await self._give_up(fetched.etag, reason)
        elif self._good is not None and fetched.etag == self._good.etag:
            await asyncio.to_thread(self._cache.forget_candidate)
            await self._put_in_force(fetched)
        elif await asyncio.to_thread(self._cache.try_out, fetched) or self._running is None:
            await self._try(fetched)
        else:
            LOG.warning("config: revision %d waits until the disk takes it: %s", config.revision, self._present)

    async def _try(self, fetched: Fetched) -> None:
        before = self._watch if self._probation_seconds is None else self._before
        try:
            await self._put_in_force(fetched)
        except Exception as exc:  # noqa: BLE001  whatever it is, this configuration caused it
            LOG.exception("config: a fault of ours")
            await self._give_up(fetched.etag, f"it could not be applied: {type(exc).__name__}")
            return
        self._before = before
        self._probation_seconds = probation_seconds(fetched.decoded())
        LOG.info("config: on probation for %s", format_duration(self._probation_seconds))

    async def _give_up(self, etag: str, reason: str) -> None:
        """Remember that it is bad; if it was in force, or half applied, go back to the last known good one."""
        line = printable(reason)
        LOG.error("config: %s is given up: %s: %s", printable(etag), line, self._goes_on(etag))
        self._bad = (await asyncio.to_thread(self._cache.give_up, etag, line)).bad
        if self._running is None or self._running.etag == etag:
            await self._put_in_force(self._good)

    async def _promote(self, running: Fetched) -> None:
        if await asyncio.to_thread(self._cache.promote, running):
            self._good, self._probation_seconds = running, None
            LOG.info("config: revision %s stood its probation", self._revision)

    async def _put_in_force(self, fetched: Fetched | None) -> None:
        """Apply between runs: what is in flight ends as it began. None: idle."""
        config = _IDLE if fetched is None else fetched.decoded()
        self._running = self._revision = self._probation_seconds = None  # should it fail half way
        await self.apply(config)
        LOG.info("config: revision %d with %d targets", config.revision, len(config.targets))
        self._running, self._revision = fetched, None if fetched is None else config.revision
        self._watch = self._new_watch()

    async def _ask(self) -> Fetched | None:
        headers = self._headers()
        limit = MAX_CONFIG_BYTES
        answer = await self._client.request("GET", CONFIG_PATH, headers=headers, body=None, max_response_bytes=limit)
        etag = answer.headers.get("etag")
        if answer.status == _UNCHANGED and "if-none-match" in headers:
            self._refused = 0
            self._confirm(etag if etag is not None and _TAG.match(etag) else self._received or self._tag)
            return None
        self._refused = self._refused + 1 if answer.status in _NOT_US else 0
        if answer.status != _OK:
            raise DeliveryError(f"the collector answered {answer.status} to GET {CONFIG_PATH}")
        if etag is None or _TAG.match(etag) is None:
            raise DeliveryError("the configuration has no ETag that can be sent back: is something in between?")
        fetched = _fetched(etag, answer)
        self._confirm(etag)
        return None if etag == self._tag or self._failure(etag) is not None else fetched

    def _headers(self) -> dict[str, str]:
        headers = {"authorization": f"Bearer {self._credential()}", "accept": "application/json"}
        tags = [] if self._tag is None else [self._tag]
        tags += [one.etag for one in self._bad if one.etag != self._tag]  # not sent again until it is another
        if tags:
            headers["if-none-match"] = ", ".join(tags)
        headers[STATE_HEADER] = encode_state(self.state)
        return headers

    def _confirm(self, etag: str | None) -> None:
        self._received = etag
        self._confirmed_seconds = self._now()

    def _forbidden(self, config: AgentConfig) -> str | None:
        """Return why the local policy leaves nothing of `config`. Where something is left, the rest ends as denied."""
        refused = [lines[0] for target in config.targets if (lines := self.problems(target))]
        for line in refused[:1]:
            LOG.warning("config: %d of %d targets are refused here: %s", len(refused), len(config.targets), line)
        if not refused or len(refused) < len(config.targets) or not _probes(self._good):
            return None
        return f"this agent's own policy refuses every target: {refused[0]}"

    def _goes_on(self, given_up: str) -> str:
        if self._running is not None and self._running.etag != given_up:
            return self._present
        return "no probes until there is a good one" if self._good is None else "back to the last known good one"

    @property
    def _present(self) -> str:
        if self._revision is None:
            return "no configuration yet"
        age = self._age_seconds
        since = "not confirmed by this run" if age is None else f"confirmed {format_duration(round(age))} ago"
        return f"the present one stays: revision {self._revision}, {since}"

    @property
    def _age_seconds(self) -> float | None:
        since = self._confirmed_seconds
        return None if since is None else round(min(MAX_SECONDS, max(0.0, self._now() - since)), 1)

    @property
    def _tag(self) -> str | None:
        return None if self._running is None else self._running.etag

    def _failure(self, etag: str) -> Failed | None:
        return next((one for one in self._bad if one.etag == etag), None)

    def _revision_of(self, etag: str) -> int | None:
        return self._revision if etag == self._tag else revision_of(etag)

    def _new_watch(self) -> Watch:
        return Watch(begun_seconds=self._now(), io_lost=self.io_lost())

    def _now(self) -> float:
        return self._timing.clock.boottime_seconds()

    def _pause(self) -> float:
        doublings = min(max(0, self._refused - 1), _MAX_DOUBLINGS)
        return min(REFUSED_SECONDS, self._regular_pause() * float(1 << doublings))

    def _regular_pause(self) -> float:
        if self._running is None and self._confirmed_seconds is None:
            self._retry_seconds = min(POLL_SECONDS, 2 * self._retry_seconds)
            return self._retry_seconds * (1 + self._timing.random()) / 2
        pause = POLL_SECONDS * (1 + POLL_JITTER * (2 * self._timing.random() - 1))
        if self._probation_seconds is None:
            return pause
        left = self._probation_seconds - (self._now() - self._watch.begun_seconds)
        return min(pause, left) if left > 0 else pause


_IDLE: Final = AgentConfig(revision=0, agent="none", agent_region="none", targets=())
"""Probes nothing."""


def _probes(fetched: Fetched | None) -> bool:
    return fetched is not None and bool(fetched.decoded().targets)


def _fetched(etag: str, answer: Answer) -> Fetched:
    try:
        return Fetched(etag=etag, config=msgspec.json.decode(answer.body, type=msgspec.Raw))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise DeliveryError("the configuration is not JSON: is something in between?") from exc


async def _guarded(work: Awaitable[None]) -> None:
    try:
        await work
    except Exception:  # noqa: BLE001  a configuration that cannot be applied must not end the agent
        LOG.exception("config: a fault of ours: the present one stays")


async def _nothing(_config: AgentConfig) -> None:
    """Stand in until somebody wants to know."""


def _none(_target: Assignment) -> list[str]:
    """Stand in: no policy."""
    return []
