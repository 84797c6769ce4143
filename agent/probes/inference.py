"""The `inference` prober: one prompt, one stream, all its marks.

    cold: look-up, TCP, TLS, request      warm: the connection stands before the clock starts

Where no warm connection was kept, one is opened before the clock starts. If that fails, the probe was a cold one that
failed, with the marks of the opening.

A failure has no latency: it keeps the marks that it reached, its outcome and one line of reason, and the tokens that
came, which are to be paid for. Neither key nor prompt nor answer ever stands in a result.
"""

import asyncio
import math
import secrets
from typing import Final

import msgspec

from agent.clock import Clock
from agent.probes.attempt import Attempt, Deadline, Link, open_link
from agent.probes.guard import Guard, everywhere
from agent.probes.keyring import KeyRing
from agent.probes.pool import Pool
from agent.probes.reading import StreamReader
from agent.probes.status import check_answer, outcome_of
from agent.probes.waits import WAIT_STATUSES, Waits
from agent.providers import PROVIDERS, Ask, Request, WireFormat
from agent.redaction import without
from agent.retryafter import asked_wait_seconds
from agent.servertiming import WORDED, Told, better, judge, region_by_headers, told_by_headers
from agent.timeline import Usage, count_tokens, pace
from agent.transport import Answer, Failure, Origin, parse_origin
from isochrone.config import Assignment, InferenceOptions
from isochrone.marks import Components, answer_ttft_seconds, components, setup_seconds, ttft_seconds
from isochrone.outcome import Connection, Flag, Outcome, Prober
from isochrone.result import Result

QUESTION: Final = "Write the numbers from one to one hundred in words, with commas between them, and nothing else."
NONCE_BYTES: Final = 8


class InferenceProbe:
    """One attempt."""

    def __init__(
        self,
        target: Assignment,
        *,
        clock: Clock,
        pool: Pool,
        waits: Waits,
        keys: KeyRing,
        guard: Guard = everywhere,
    ) -> None:
        self._target = target
        self._options = target.options.inference or InferenceOptions()
        self._wire = PROVIDERS[target.provider] if target.provider is not None else None
        self._pool = pool
        self._waits = waits
        self._keys = keys
        self._attempt = Attempt(target, Prober.INFERENCE, clock=clock, guard=guard)
        self._reader: StreamReader | None = None
        self._link: Link | None = None
        self._secrets: list[str] = []
        self._told: Told | None = None
        self._awaited_from: float | None = None
        self._retransmits_before = 0

    async def run(self) -> Result:
        """Return what was found; whatever the endpoint does is an outcome."""
        try:
            async with Deadline(total_seconds=self._target.options.timeout) as deadline:
                await self._measure(deadline)
            return self._good()
        except TimeoutError:
            return self._late(deadline)
        except Failure as exc:
            return self._failed(exc)
        finally:
            self._let_go()

    @property
    def reader(self) -> StreamReader | None:
        """What reads the stream; None before there is one."""
        return self._reader

    async def _measure(self, deadline: Deadline) -> None:
        request = self._request()
        origin = self._origin(request.url)
        self._waits.check((self._target.endpoint, str(origin)), now_ns=self._attempt.clock.monotonic_ns())
        self._link = await self._connect(origin, deadline)
        answer = await self._ask(self._link, request, deadline)
        try:
            wait_seconds = self._heed(answer, origin)
            await check_answer(answer, self._wire_format.framing, wait_seconds=wait_seconds)
            await self._stream(answer, deadline)
        finally:
            await answer.close()

    @property
    def _wire_format(self) -> WireFormat:
        if self._wire is None:
            raise Failure(Outcome.OTHER, "an inference module needs a provider and a model: none is given")
        return self._wire

    def _request(self) -> Request:
        nonce = secrets.token_hex(NONCE_BYTES)
        prompt = f"{nonce} {QUESTION}"
        key = None
        if self._target.api_key is not None:
            self._origin(self._target.url)  # before the key is read: what is refused tells nothing of it
            key = self._keys.read(self._target.api_key)
            self._secrets.extend(self._wire_format.secrets(key))
        self._secrets += (nonce, QUESTION)
        try:
            ask = Ask(target=self._target, key=key, prompt=prompt, at=self._attempt.started_at)
            return self._wire_format.request(ask)
        except ValueError as exc:
            raise Failure(Outcome.OTHER, str(exc)) from exc

    def _origin(self, url: str) -> Origin:
        """Return where `url` points. Raises Failure where nothing can be dialled, or the key must not go."""
        try:
            origin = parse_origin(url)
        except ValueError as exc:
            raise Failure(Outcome.OTHER, str(exc)) from exc
        if self._target.api_key is not None:
            self._keys.check(self._target.api_key, str(origin))
        return origin

    def _heed(self, answer: Answer, origin: Origin) -> float | None:
        """Return the seconds that the answer asks to wait, if any; later probes are held to those of a refusal."""
        seconds = asked_wait_seconds(answer.headers, now=self._attempt.clock.utc_now())
        if seconds is not None and answer.status in WAIT_STATUSES:
            now_ns = self._attempt.clock.monotonic_ns()
            until_ns = now_ns + round(seconds * 1e9)
            key = (self._target.endpoint, str(origin))
            self._waits.note(key, outcome_of(answer.status), until_ns=until_ns, now_ns=now_ns)
        return seconds

    async def _connect(self, origin: Origin, deadline: Deadline) -> Link:
        """Return a connection; a warm one stands before the clock starts, opened now if none was kept."""
        attempt, warm = self._attempt, self._options.connection is Connection.WARM
        link = await self._pool.take(self._target, origin) if warm else None
        if link is None:
            attempt.connection = Connection.COLD
            attempt.origin_ns = attempt.clock.monotonic_ns()
            link = await open_link(origin, attempt, deadline)
        if not warm:
            return link
        attempt.connection = Connection.WARM
        attempt.forget_marks()
        attempt.address = link.address
        info = link.http.stream.tcp_info()
        self._retransmits_before = 0 if info is None else info.retransmits
        return link

    async def _ask(self, link: Link, request: Request, deadline: Deadline) -> Answer:
        attempt = self._attempt
        self._awaited_from = asyncio.get_running_loop().time()
        self._expect_by(deadline, Outcome.TIMEOUT_HEADERS, "no response headers")
        target = parse_origin(request.url).target
        try:
            answer = await link.http.request("POST", target, headers=request.headers, body=request.body)
        finally:
            self._begin(link)
        attempt.http_status = answer.status
        worded = {name: self._clean(value) for name, value in answer.headers.items() if name in WORDED}
        said = {**answer.headers, **worded}
        attempt.served_region = region_by_headers(said)
        self._told = told_by_headers(said)
        attempt.mark_arrival("headers", answer.complete)
        attempt.mark_request(link, answered_ns=answer.first.at_ns)
        return answer

    def _begin(self, link: Link) -> None:
        departure = link.http.departure
        if departure is not None and departure.started_ns is not None and self._attempt.connection is Connection.WARM:
            self._attempt.origin_ns = departure.started_ns
        self._attempt.mark_request(link)

    async def _stream(self, answer: Answer, deadline: Deadline) -> None:
        self._expect_by(deadline, Outcome.TIMEOUT_FIRST_TOKEN, "no token")
        self._reader = StreamReader(
            self._wire_format, self._attempt, options=self._options, deadline=deadline, clean=self._clean
        )
        await self._reader.read(answer)

    def _expect_by(self, deadline: Deadline, outcome: Outcome, what: str) -> None:
        deadline.expect(outcome, what, seconds=self._options.first_token_timeout, since=self._awaited_from)

    def _clean(self, words: str) -> str:
        """Hide what the endpoint repeats of the question; before anything is cut, for half a key would be missed."""
        return without(self._secrets, words)

    def _late(self, deadline: Deadline) -> Result:
        reader = self._reader
        if reader is None or not (reader.finished or reader.done):
            return self._failed(deadline.failure())
        try:
            reader.check()  # the model had ended: only the close did not come
        except Failure as exc:
            return self._failed(exc)
        return self._good()

    def _failed(self, failure: Failure) -> Result:
        result = self._attempt.result(Failure(failure.outcome, self._clean(failure.words)))
        reader = self._reader
        if reader is None or (not reader.arrivals and reader.usage == Usage()):
            return result
        return msgspec.structs.replace(result, tokens=count_tokens(reader.arrivals, reader.usage))

    def _good(self) -> Result:
        attempt, reader, link = self._attempt, self._reader, self._link
        if reader is None or link is None:
            return self._failed(Failure(Outcome.OTHER, "the stream was never read"))
        info = link.http.stream.tcp_info()
        if info is not None and info.retransmits > self._retransmits_before:
            attempt.flags.add(Flag.RETRANSMITS)
        rhythm = pace(reader.arrivals, reader.usage)
        if rhythm.buffered:
            attempt.flags.add(Flag.BUFFERED)
        rtt_seconds, rtt_source = link.round_trip()
        marks = attempt.marks()
        parts = components(marks, rtt_seconds=rtt_seconds)
        if parts is not None and not add_up(parts, marks.end):
            return self._failed(Failure(Outcome.OTHER, "the parts do not add up to the duration: a fault of ours"))
        told = better(reader.told, self._told)
        return msgspec.structs.replace(
            attempt.result(),
            duration_seconds=marks.end,
            setup_seconds=setup_seconds(marks),
            rtt_seconds=rtt_seconds,
            rtt_source=rtt_source,
            rtt_variation_seconds=None if info is None else info.rtt_variation_seconds,
            ttft_seconds=ttft_seconds(marks),
            ttft_bound_seconds=reader.arrivals[0].bound_ns / 1e9,
            answer_ttft_seconds=answer_ttft_seconds(marks),
            tpot_seconds=rhythm.tpot_seconds,
            tokens_per_second=rhythm.tokens_per_second,
            stall_seconds=rhythm.stall_seconds,
            components=parts,
            tokens=rhythm.tokens,
            server_timing=None if told is None else judge(told, marks, rtt_seconds=rtt_seconds),
        )

    def _let_go(self) -> None:
        link, self._link = self._link, None
        if link is None:
            return
        if self._options.connection is Connection.WARM:
            self._pool.keep(self._target, link)
        else:
            link.http.close()


def add_up(parts: Components, duration_seconds: float | None) -> bool:
    """Return whether the components make up the duration: they are promised to, always."""
    total = parts.network_seconds + parts.model_seconds + parts.streaming_seconds
    return duration_seconds is not None and math.isclose(total, duration_seconds, rel_tol=1e-9, abs_tol=1e-9)
