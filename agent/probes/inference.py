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
from collections.abc import Callable
from typing import Final

import msgspec

from agent.clock import Clock
from agent.errors import AgentError
from agent.probes.attempt import Attempt, Deadline, Link, open_link
from agent.probes.pool import Pool
from agent.probes.reading import StreamReader
from agent.probes.status import check_answer
from agent.providers import PROVIDERS, Ask, Request, WireFormat
from agent.servertiming import Told, better, judge, region_by_headers, told_by_headers
from agent.timeline import Usage, count_tokens, pace
from agent.transport import Answer, Failure, Origin, parse_origin
from isochrone.config import ApiKey, Assignment, InferenceOptions
from isochrone.marks import Components, answer_ttft_seconds, components, setup_seconds, ttft_seconds
from isochrone.outcome import Connection, Flag, Outcome, Prober
from isochrone.result import Result

QUESTION: Final = "Write the numbers from one to one hundred in words, with commas between them, and nothing else."
NONCE_BYTES: Final = 8


class InferenceProbe:
    """One attempt."""

    def __init__(self, target: Assignment, *, clock: Clock, pool: Pool, resolve_key: Callable[[ApiKey], str]) -> None:
        self._target = target
        self._options = target.options.inference or InferenceOptions()
        self._wire = PROVIDERS[target.provider] if target.provider is not None else None
        self._pool = pool
        self._resolve_key = resolve_key
        self._attempt = Attempt(target, Prober.INFERENCE, clock=clock)
        self._reader: StreamReader | None = None
        self._link: Link | None = None
        self._secrets: list[str] = []
        self._told: Told | None = None
        self._awaited_from: float | None = None
        self._retransmits_before = 0

    async def run(self) -> Result:
        """Return what was found; whatever the endpoint does is an outcome."""
        try:
            async with asyncio.timeout(None) as watch:
                deadline = Deadline(watch, total_seconds=self._target.options.timeout)
                await self._measure(deadline)
            return self._good()
        except TimeoutError:
            return self._late(deadline)
        except Failure as exc:
            return self._failed(exc)
        finally:
            self._let_go()

    async def _measure(self, deadline: Deadline) -> None:
        request = self._request()
        try:
            origin = parse_origin(request.url)
        except ValueError as exc:
            raise Failure(Outcome.OTHER, str(exc)) from exc
        self._link = await self._connect(origin, deadline)
        answer = await self._ask(self._link, request, deadline)
        try:
            await check_answer(answer, self._wire_format.framing)
            await self._stream(answer, deadline)
        finally:
            await answer.close()

    @property
    def _wire_format(self) -> WireFormat:
        if self._wire is None:
            raise Failure(Outcome.OTHER, "an inference module needs a provider and a model: none is given")
        return self._wire

    def _request(self) -> Request:
        prompt = f"{secrets.token_hex(NONCE_BYTES)} {QUESTION}"
        key = None
        if self._target.api_key is not None:
            try:
                key = self._resolve_key(self._target.api_key)
            except AgentError as exc:
                raise Failure(Outcome.AUTH, str(exc)) from exc
            self._secrets.extend(self._wire_format.secrets(key))
        self._secrets.append(prompt)
        try:
            ask = Ask(target=self._target, key=key, prompt=prompt, at=self._attempt.started_at)
            return self._wire_format.request(ask)
        except ValueError as exc:
            raise Failure(Outcome.OTHER, str(exc)) from exc

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
        attempt.served_region = region_by_headers(answer.headers)
        self._told = told_by_headers(answer.headers)
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
        self._reader = StreamReader(self._wire_format, self._attempt, options=self._options, deadline=deadline)
        await self._reader.read(answer)

    def _expect_by(self, deadline: Deadline, outcome: Outcome, what: str) -> None:
        deadline.expect(outcome, what, seconds=self._options.first_token_timeout, since=self._awaited_from)

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
        words = failure.words
        for secret in self._secrets:
            words = words.replace(secret, "***") if secret else words
        result = self._attempt.result(Failure(failure.outcome, words))
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
