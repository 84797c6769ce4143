"""Sends sealed segments until each is acknowledged: the newest first, so that the present is never behind the past.

A segment is forgotten for one reason alone: the collector said, in our own format and with this batch id, that it is
committed. Everything else keeps it, and waits.
"""

import asyncio
import gzip
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import msgspec

from agent.config import MAX_FLUSH_SECONDS
from agent.errors import ConfigError, DeliveryError
from agent.push.answer import Action, Answered, Verb, action
from agent.push.backoff import Backoff
from agent.push.offset import ClockOffset
from agent.push.wait import Client, Timing
from agent.segment import Segment, SegmentError
from agent.spool import Sealed, Spool, uuid7
from agent.telemetry import LOG, Telemetry
from isochrone.batch import MEDIA_TYPE, WIRE_VERSION, Ack, AgentStatus, Batch, DropReason
from isochrone.names import printable
from isochrone.wire import encode_batch

BATCHES_PATH: Final = "/v1/batches"
MAX_ACK_BYTES: Final = 1024 * 1024
"""An acknowledgement that names 2,000 rejected results weighs under 600 kB."""
GZIP_LEVEL: Final = 6  # measured: 5 times smaller in 8 ms for 1,000 results; zstd is no better and needs a dependency
BACKLOG_PAUSE_SECONDS: Final = 2.0
"""Between two segments of the backlog: a returning fleet must not crowd out its own live results."""
MAX_BACKLOG_PAUSE_SECONDS: Final = 300.0
MIN_ASKED_FLUSH_SECONDS: Final = 5.0
"""A collector may not ask for less, unless the agent's own setting is less."""
CREDENTIAL_CHECK_SECONDS: Final = 60.0
"""How often a revoked agent looks whether it was given another credential."""
EARLIER_PAUSE_SECONDS: Final = 60.0
"""After the losses of an earlier run could not be told: no batch of results waits for that."""
LIVE_FLUSHES: Final = 2
"""A segment sealed by this run within so many flushes is live."""
IDLE_FLUSHES: Final = 0.5
"""Without a result, a report is due at the flush: half of one covers how long the last answer took."""
BLOCKED_FLUSHES: Final = 1.5
"""Results that wait are about to be sealed; when none comes of it, the disk refuses them, and that is to be told."""
_LOGGED_EVERY: Final = 10
"""Failures in a row between two lines of the log, after the first."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """Under which names a batch is sent."""

    batch_id: UUID
    boot_id: UUID
    """The run that recorded the results."""
    of_this_start: bool
    """The machine was not started anew since."""


class Sender:
    """Owns the loop that empties the spool."""

    def __init__(
        self,
        spool: Spool,
        client: Client,
        *,
        credential: Callable[[], str],
        telemetry: Telemetry,
        timing: Timing,
        flush_seconds: float,
    ) -> None:
        """Take `credential`, which returns the token as it stands now, so that it can be replaced under way."""
        self.on_config_etag: Callable[[str], None] = lambda _etag: None
        """Called with the tag of the configuration that the collector has for this agent."""
        self.on_revoked: Callable[[bool], None] = lambda _revoked: None
        """Called with True when the collector wants this agent to stop, with False when it takes from it again."""
        self._spool = spool
        self._client = client
        self._credential = credential
        self._telemetry = telemetry
        self._timing = timing
        self._flush_seconds = flush_seconds
        self._shortest_flush_seconds = min(MIN_ASKED_FLUSH_SECONDS, flush_seconds)
        self._backlog_seconds = BACKLOG_PAUSE_SECONDS
        self._revoked_token: str | None = None
        """The credential that is revoked; None: it is not."""
        self._sent_token: str | None = None
        """The one that the last request bore: it may have been replaced, or taken away, since."""
        self._backoff = Backoff(timing.random)
        self.attempts: dict[UUID, int] = {}
        """How often each segment that waits was attempted."""
        self._failed_in_row = 0
        self._heard = False
        """The collector acknowledged something of this run."""
        self._earlier_from_boottime_seconds = 0.0
        """Not before this moment the losses of earlier runs are told."""
        self._offset = ClockOffset()
        self._told_boottime_seconds = timing.clock.boottime_seconds()
        """When the collector last acknowledged something."""
        self._flushed_boottime_seconds = timing.clock.boottime_seconds()
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look for sealed segments now. For the event loop."""
        self._wake.set()

    async def run(self) -> None:
        """Send for ever, whatever happens."""
        while True:
            try:
                await self.turn()
            except Exception:  # noqa: BLE001  whatever it is, what waits on disk must still go out
                LOG.exception("push: a fault of ours")
                await self._back_off(self._backoff.failed(self._flush_seconds))

    async def turn(self) -> None:
        """Seal, keep the spool's limits, send one segment, wait: what is sealed meanwhile has its turn next.

        Seals by time while the collector answers; while it does not, by size alone.
        """
        self._seal_by_time()
        self._spool.keep_limits()
        if self._earlier_is_due() and not await self._tell_earlier_losses():
            return
        chosen = self._choose()
        if chosen is None:
            if await self._report_if_idle():
                await self._timing.wait(self._wake, max(0.0, self._flush_seconds - self._since_flush()))
            return
        pause = await self.send(chosen)
        if pause is not None:
            await self._back_off(pause)
        elif not self._is_live(chosen) and self._choose() is not None:
            await self._timing.wait(self._wake, self._backlog_seconds)

    async def send_once_each(self) -> None:
        """Attempt every waiting segment once, up to the first failure: the last thing before the end.

        A collector that is away, overloaded or has revoked this agent must not have the whole spool thrown at it.
        """
        for sealed in self._spool.waiting():
            if await self.send(sealed) is not None:
                return

    async def send(self, sealed: Sealed) -> float | None:
        """Attempt one segment; return None when it is done with, else the seconds to wait."""
        self.attempts[sealed.batch_id] = self.attempts.get(sealed.batch_id, 0) + 1
        self._spool.lease(sealed.batch_id)  # before it is read: dropped now, it would be counted lost and yet arrive
        try:
            return await self._send(sealed)
        finally:
            self._spool.lease(None)

    async def _send(self, sealed: Sealed) -> float | None:
        try:
            segment = await asyncio.to_thread(self._spool.read, sealed)
        except (FileNotFoundError, SegmentError) as exc:
            LOG.warning("push: %s cannot be read, its results are lost: %s", sealed.path.name, exc)
            self._spool.give_up(sealed)
            return None
        except OSError as exc:
            return self._failed(Action(verb=Verb.RETRY, reason=f"{sealed.path.name}: {exc.strerror}"))
        envelope = Envelope(
            batch_id=sealed.batch_id,
            boot_id=segment.boot_id,
            of_this_start=self._spool.is_of_this_machine_start(segment),
        )
        return await self._obey(await self._exchange(envelope, segment.payloads), sealed, segment)

    def _earlier_is_due(self) -> bool:
        due = self._timing.clock.boottime_seconds() >= self._earlier_from_boottime_seconds
        return due and self._heard and bool(self._spool.earlier_losses)

    async def _tell_earlier_losses(self) -> bool:
        """Send the last word of a run that may have ended before it was heard. False: it failed, and was waited for.

        Totals of a run count once, however often they are told.
        """
        first, *others = self._spool.earlier_losses
        now = self._telemetry.status(self._spool.state())
        status = msgspec.structs.replace(
            now, boot_id=first.boot_id, dropped_results=first.dropped_results, recorded_results=None
        )
        envelope = Envelope(batch_id=uuid7(self._timing.clock), boot_id=first.boot_id, of_this_start=True)
        done = await self._exchange(envelope, (), status)
        if done.told_by_collector and done.verb in {Verb.SPLIT, Verb.GIVE_UP}:
            LOG.error("push: the losses of run %s are refused and not told again: %s", first.boot_id, done.reason)
            self._spool.earlier_losses = tuple(others)
        if done.ack is None:
            await self._back_off(self._failed(done))
            self._earlier_from_boottime_seconds = self._timing.clock.boottime_seconds() + EARLIER_PAUSE_SECONDS
            return False
        self._spool.earlier_losses = tuple(others)
        self._connected(done.ack)
        return True

    async def _report_if_idle(self) -> bool:
        """Send a batch without results when a flush passed without any: who is idle is not silent. False: it failed.

        Its id is new each time: nothing is lost with it, so that it is never sent again.
        """
        flushes = IDLE_FLUSHES if self._spool.queued_results == 0 else BLOCKED_FLUSHES
        if self._timing.clock.boottime_seconds() - self._told_boottime_seconds < flushes * self._flush_seconds:
            return True
        envelope = Envelope(batch_id=uuid7(self._timing.clock), boot_id=self._spool.boot_id, of_this_start=True)
        done = await self._exchange(envelope, ())
        if done.ack is None:
            await self._back_off(self._failed(done))
            return False
        self._connected(done.ack)
        return True

    async def _back_off(self, seconds: float) -> None:
        # A segment that is sealed meanwhile must not cut a backoff short: an event that nobody sets.
        while self._revoked_token is not None and seconds > CREDENTIAL_CHECK_SECONDS:
            await self._timing.wait(asyncio.Event(), CREDENTIAL_CHECK_SECONDS)
            seconds -= CREDENTIAL_CHECK_SECONDS
            if self._token_now() not in (None, self._revoked_token):
                return
        await self._timing.wait(asyncio.Event(), seconds)

    def _token_now(self) -> str | None:
        try:
            return self._credential()
        except ConfigError:
            return None

    def _since_flush(self) -> float:
        return self._timing.clock.boottime_seconds() - self._flushed_boottime_seconds

    def _seal_by_time(self) -> None:
        online = self._backoff.connected or not self._spool.waiting()
        if online and self._since_flush() >= self._flush_seconds:
            self._flushed_boottime_seconds = self._timing.clock.boottime_seconds()
            self._spool.rotate()

    def _choose(self) -> Sealed | None:
        """Return a live segment if there is one, of its kind the least attempted, then the newest.

        One bad segment blocks no other, and no failure puts the present behind the past.
        """
        waiting = self._spool.waiting()
        self.attempts = {sealed.batch_id: self.attempts.get(sealed.batch_id, 0) for sealed in waiting}
        return min(
            waiting, key=lambda sealed: (not self._is_live(sealed), self.attempts[sealed.batch_id]), default=None
        )

    def _is_live(self, sealed: Sealed) -> bool:
        since = sealed.sealed_boottime_seconds
        now = self._timing.clock.boottime_seconds()
        return since is not None and now - since < LIVE_FLUSHES * self._flush_seconds

    async def _exchange(
        self, envelope: Envelope, payloads: Sequence[bytes], status: AgentStatus | None = None
    ) -> Action:
        clock = self._timing.clock
        try:
            token = self._sent_token = self._credential()
            status = status or self._telemetry.status(self._spool.state())
            body = await asyncio.to_thread(self._encode, envelope, payloads, status)
            sent = clock.boottime_seconds()
            answer = await self._client.request(
                "POST", BATCHES_PATH, headers=_headers(token), body=body, max_response_bytes=MAX_ACK_BYTES
            )
            received = clock.boottime_seconds()
        except (ConfigError, DeliveryError) as exc:
            return Action(verb=Verb.RETRY, reason=printable(str(exc)))
        answered = Answered(status=answer.status, headers=answer.headers, body=answer.body)
        done = action(answered, envelope.batch_id, now=clock.utc_now())
        if done.ack is not None:
            self._offset.take(done.ack, sent=sent, received=received)
        return done

    def _encode(self, envelope: Envelope, payloads: Sequence[bytes], status: AgentStatus) -> bytes:
        boottime_seconds, wall = self._timing.clock.boottime_seconds(), self._timing.clock.utc_now()
        batch = Batch(
            version=WIRE_VERSION,
            batch_id=envelope.batch_id,
            boot_id=envelope.boot_id,
            sent_at=wall,
            sent_boottime_seconds=boottime_seconds if envelope.of_this_start else None,
            clock=self._offset.reading(wall=wall, boottime_seconds=boottime_seconds),
            status=status,
            results=(),
        )
        return gzip.compress(encode_batch(batch, list(payloads)), GZIP_LEVEL, mtime=0)

    async def _obey(self, done: Action, sealed: Sealed, segment: Segment) -> float | None:
        match done.verb:
            case Verb.ACK:
                self._acknowledged(done.ack, sealed, segment)
                return None
            case Verb.SPLIT:
                return await self._halve(done, sealed, segment)
            case Verb.GIVE_UP:
                LOG.error("push: batch %s given up, moved to corrupt/: %s", sealed.batch_id, done.reason)
                self._spool.give_up(sealed)
                return None
            case Verb.WAIT | Verb.RETRY | Verb.REVOKED:
                return self._failed(done)

    def _failed(self, done: Action) -> float:
        if done.verb is Verb.REVOKED:
            pause = self._backoff.revoked()
            self._set_revoked(self._sent_token)
        elif done.verb is Verb.WAIT:
            pause = self._backoff.refused()
        else:
            pause = self._backoff.failed(self._flush_seconds, done.retry_after_seconds)
        self._tell_failure(done.reason, pause)
        return pause

    def _acknowledged(self, ack: Ack | None, sealed: Sealed, segment: Segment) -> None:
        if ack is None:
            return
        named = sorted({entry.index for entry in ack.rejected if entry.index < len(segment.payloads)})
        lines = [segment.payloads[index] for index in named]
        if lines:
            LOG.error("push: %d results refused, kept in rejected/: %s", len(lines), ack.rejected[0].reason)
            self._spool.reject(sealed.batch_id, lines)
        self._count_damage(sealed, segment)
        self._spool.acknowledge(sealed.batch_id)
        self._connected(ack)

    def _set_revoked(self, token: str | None) -> None:
        """Tell on a change; `token` is the revoked one, None: the collector takes from this agent again."""
        before, self._revoked_token = self._revoked_token, token
        if (before is None) == (token is None):
            return
        if token is None:
            LOG.info("push: this agent is no longer revoked: it probes again")
        else:
            words = "its probes stop, what waits is kept: give it another credential, or retire it"
            LOG.error("push: the collector has revoked this agent: %s", words)
        self._spool.revoked = token is not None
        self.on_revoked(token is not None)

    def _connected(self, ack: Ack) -> None:
        self._set_revoked(None)
        self._heard = True
        self._told_boottime_seconds = self._timing.clock.boottime_seconds()
        self._backoff.acknowledged()
        if self._failed_in_row:
            LOG.info("push: the collector answers again")
        self._failed_in_row = 0
        self._flush_seconds = min(max(ack.next_flush_seconds, self._shortest_flush_seconds), MAX_FLUSH_SECONDS)
        asked = BACKLOG_PAUSE_SECONDS if ack.backlog_interval_seconds is None else ack.backlog_interval_seconds
        self._backlog_seconds = min(max(asked, BACKLOG_PAUSE_SECONDS), MAX_BACKLOG_PAUSE_SECONDS)
        if ack.config_etag is not None:
            self.on_config_etag(ack.config_etag)

    async def _halve(self, done: Action, sealed: Sealed, segment: Segment) -> float | None:
        single = len(segment.payloads) < 2  # noqa: PLR2004  one result has no halves
        whole = sealed.batch_id.version == 7  # noqa: PLR2004  a half has an id of another kind, and its whole was tried
        told = done.told_by_collector
        if (single and not told) or (told and (single or whole) and not await self._takes_envelopes(segment)):
            return self._failed(done)
        if single:
            LOG.error("push: a result refused, kept in rejected/: %s", done.reason)
            self._count_damage(sealed, segment)
            self._spool.reject(sealed.batch_id, segment.payloads)
            self._spool.acknowledge(sealed.batch_id)
            return None
        try:
            await asyncio.to_thread(self._spool.split, sealed, segment)
        except OSError as exc:
            LOG.warning("push: batch %s cannot be halved: %s", sealed.batch_id, exc.strerror)
            return self._failed(done)
        self._count_damage(sealed, segment)
        LOG.warning("push: batch %s halved: %s", sealed.batch_id, done.reason)
        # A proxy that takes nothing at all would have every result in a file of its own within a second.
        return None if told else self._failed(done)

    async def _takes_envelopes(self, segment: Segment) -> bool:
        """Tell whether a batch like it without results is taken: if not, as by an older collector, none is to blame."""
        batch_id, same_start = uuid7(self._timing.clock), self._spool.is_of_this_machine_start(segment)
        done = await self._exchange(Envelope(batch_id=batch_id, boot_id=segment.boot_id, of_this_start=same_start), ())
        return done.ack is not None

    def _count_damage(self, sealed: Sealed, segment: Segment) -> None:
        """Count what was readable when the segment was sealed and is no more; only once it is done with."""
        self._telemetry.lost(DropReason.CORRUPT, sealed.results - len(segment.payloads))

    def _tell_failure(self, reason: str, pause: float) -> None:
        if self._failed_in_row % _LOGGED_EVERY == 0:
            text = "push: not acknowledged: %s: %d results wait, next attempt in %.1f s"
            LOG.warning(text, reason, self._spool.queued_results, pause)
        self._failed_in_row += 1


def _headers(token: str) -> dict[str, str]:
    return {
        "authorization": f"Bearer {token}",
        "content-type": f"{MEDIA_TYPE};v={WIRE_VERSION}",
        "content-encoding": "gzip",
        "accept": "application/json",
    }
