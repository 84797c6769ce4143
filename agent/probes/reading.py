"""Reads one token stream: events become marks, tokens and an end, or the failure that the stream is."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Final

import msgspec

from agent.framing import Event, FramingError
from agent.probes.attempt import Attempt, Deadline
from agent.providers import Reading, WireFormat
from agent.servertiming import MAX_REGION, Told, better
from agent.timeline import TokenArrival, Usage
from agent.transport import Answer, Arrival, Chunk, Failure
from isochrone.config import InferenceOptions
from isochrone.names import printable
from isochrone.outcome import ClockSource, Outcome

DRAIN_SECONDS: Final = 1.0
"""How long the end of the body may take after [DONE], sent again if it was lost: then the connection can be used."""
PIECE_BYTES: Final = 4 * 1024
"""Parsed at once: the smallest events take 3 ms for so many bytes."""


class StreamReader:
    """Follows a stream to its end. Good is only a stream with a terminal marker and at least one token."""

    def __init__(
        self,
        wire: WireFormat,
        attempt: Attempt,
        *,
        options: InferenceOptions,
        deadline: Deadline,
        clean: Callable[[str], str] = str,
    ) -> None:
        self._wire = wire
        self._attempt = attempt
        self._options = options
        self._deadline = deadline
        self._clean = clean
        self._parser = wire.framing.parser()
        self._last: Arrival | None = None
        self._may_be_exact = False
        """The newest event is a token whose read has a stamp: if nothing follows it in that read, the stamp is its."""
        self.arrivals: list[TokenArrival] = []
        self.usage = Usage()
        self.told: Told | None = None
        self.finished = False
        self.done = False

    async def read(self, answer: Answer) -> None:
        """Read to the terminal marker or the close. Raises Failure when the stream is not good."""
        try:
            await self._follow(answer)
        except Failure as exc:
            # Cut between the model's end and [DONE]: everything had come. An error there is one all the same.
            if not self.finished or exc.outcome is not Outcome.TRUNCATED:
                raise
        else:
            self._close(answer)
        self.check()

    def check(self) -> None:
        """Set the mark `end`; raise Failure unless the stream is good as it stands."""
        if not self.finished and self.arrivals:
            raise Failure(
                Outcome.TRUNCATED, f"the stream ended without {self._wire.ending or 'a framed end of its body'}"
            )
        if not self.arrivals:
            raise Failure(Outcome.EMPTY, "the stream ended without a token")
        if self._last is not None:
            self._attempt.mark_arrival("end", self._last)

    async def _follow(self, answer: Answer) -> None:
        async with aclosing(answer.chunks()) as chunks:
            read = 0
            async for chunk in chunks:
                if chunk.arrival.read != read:
                    self._end_read()
                    read = chunk.arrival.read
                await self._take_all(chunk.data, chunk.arrival, answer)
                if self.done:
                    break
            self._end_read()
            if self.done:
                await _drain(chunks)

    async def _take_all(self, data: bytes, arrival: Arrival, answer: Answer) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            try:
                events = self._parser.feed(data[start : start + PIECE_BYTES])
            except FramingError as exc:
                raise Failure(Outcome.PROTOCOL, str(exc)) from exc
            for event in events:
                self._take(event, arrival)
            await answer.breathe()

    def _end_read(self) -> None:
        """Call a token exact that came last in its read, and ended with it: it came with the last segment."""
        if self._may_be_exact and self._parser.between():
            self.arrivals[-1] = msgspec.structs.replace(self.arrivals[-1], bound_ns=0)
        self._may_be_exact = False

    def _close(self, answer: Answer) -> None:
        if self.done:
            return
        for event in self._parser.finish():
            self._take(event, answer.end)
        if self._wire.ending is None:
            self.finished = answer.framed
        self._last = answer.end

    def _take(self, event: Event, arrival: Arrival) -> None:
        if self.done:
            return
        self._last = arrival
        if not self._attempt.has("first_event"):
            self._attempt.mark_arrival("first_event", arrival)
        reading = self._wire.interpret(event)
        if reading.unreadable is not None:
            raise Failure(Outcome.PROTOCOL, reading.unreadable)
        if reading.error is not None:
            raise Failure(Outcome.STREAM_ERROR, f"the provider failed in its stream: {reading.error}")
        self._note(reading)
        self._may_be_exact = reading.token and arrival.clock is ClockSource.KERNEL
        if reading.token:
            self._take_token(reading, arrival)
        self.done = reading.done
        if reading.finished and not self.finished:
            self.finished = True
            self._expect_more("no end of the stream")

    def _note(self, reading: Reading) -> None:
        if reading.usage is not None:
            self.usage = self.usage.merged(reading.usage)
        if reading.told is not None:
            self.told = better(reading.told, self.told)
        if reading.region is not None:
            self._attempt.served_region = printable(self._clean(reading.region), limit=MAX_REGION)

    def _take_token(self, reading: Reading, arrival: Arrival) -> None:
        attempt = self._attempt
        if not self.arrivals:
            attempt.mark_arrival("first_token", arrival)
        if reading.answer and not attempt.has("first_answer"):
            attempt.mark_arrival("first_answer", arrival)
        attempt.mark_arrival("last_token", arrival)
        self.arrivals.append(
            TokenArrival(
                at_ns=arrival.at_ns,
                read=arrival.read,
                answer=reading.answer,
                reasoning=reading.reasoning,
                bound_ns=arrival.bound_ns,
            )
        )
        self._expect_more("no further token")

    def _expect_more(self, what: str) -> None:
        self._deadline.expect(Outcome.TIMEOUT_STALL, what, seconds=self._options.stall_timeout)


async def _drain(chunks: AsyncIterator[Chunk]) -> None:
    with contextlib.suppress(TimeoutError, Failure):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in chunks:
                pass
