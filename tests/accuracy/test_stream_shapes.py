"""Every shape of stream x provider, over real sockets: outcome, token counts, marks to the write, server's word."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from isochrone.config import Provider
from isochrone.outcome import Flag, Outcome, TokenSource
from isochrone.result import Result
from isochrone.wire import decode_result, encode_result
from tests.accuracy.dialects import DIALECTS
from tests.accuracy.peculiar import peculiar_shapes
from tests.accuracy.scripted import Record, Stage
from tests.accuracy.shapes import Shape, every_shape
from tests.simulated import KEY, inference, probes

SHAPES = {shape.name: shape for shape in (*every_shape(), *peculiar_shapes())}
GOOD = [name for name, shape in SHAPES.items() if shape.expected.outcome is Outcome.OK]
BAD = [name for name in SHAPES if name not in GOOD]
AT_ONCE = 12
LATE_SECONDS = 0.5
"""How late a busy machine may take a request or wake a server."""
NEAR_SECONDS = 0.01
MARKS = ("first_event", "first_token", "first_answer", "last_token", "end")


@dataclass(frozen=True)
class Seen:
    result: Result
    record: Record

    def between(self, earlier: int, later: int) -> tuple[float, float]:
        """Return the least and the most seconds that can lie between two writes: each left within a moment."""
        (before, after), (later_before, later_after) = self.record.left_ns[earlier], self.record.left_ns[later]
        return (later_before - after) / 1e9, (later_after - before) / 1e9


@pytest.fixture(scope="module")
def seen() -> Mapping[str, Seen]:
    """Play every shape once, several at a time."""
    return asyncio.run(_play_all())


async def _play_all() -> Mapping[str, Seen]:
    places = {name: str(index) for index, name in enumerate(SHAPES)}
    stage = Stage({places[name]: shape.play for name, shape in SHAPES.items()})
    gate = asyncio.Semaphore(AT_ONCE)
    async with stage.open() as base:
        results = await asyncio.gather(*(_probe(f"{base}/{places[name]}", SHAPES[name], gate) for name in SHAPES))
    return {name: Seen(result, stage.records[places[name]]) for name, result in zip(SHAPES, results, strict=True)}


async def _probe(url: str, shape: Shape, gate: asyncio.Semaphore) -> Result:
    stall = 0.5 if shape.expected.outcome is Outcome.TIMEOUT_STALL else 10.0
    first = shape.first_token_timeout
    async with gate, probes() as running:
        return await running.run(inference(url, "m", first_token=first, stall=stall, provider=shape.provider))


def test_the_table_has_every_provider_and_is_long_enough() -> None:
    assert {dialect.provider for dialect in DIALECTS} == set(Provider)
    assert len(SHAPES) >= 40


@pytest.mark.parametrize("name", SHAPES)
def test_the_outcome_is_right_and_the_result_fits_the_wire(name: str, seen: Mapping[str, Seen]) -> None:
    result, expected = seen[name].result, SHAPES[name].expected
    assert (result.outcome, expected.reason in (result.reason or "")) == (expected.outcome, True), result.reason
    assert decode_result(encode_result(result)) == result
    assert KEY not in encode_result(result).decode()


@pytest.mark.parametrize("name", GOOD)
def test_tokens_are_counted_right(name: str, seen: Mapping[str, Seen]) -> None:
    expected, tokens = SHAPES[name].expected, seen[name].result.tokens
    assert tokens is not None
    assert tokens.source is (TokenSource.USAGE if expected.counted else TokenSource.ARRIVALS)
    assert (tokens.output, tokens.arrivals) == (expected.output, expected.arrivals)
    assert (tokens.input, tokens.cached_input, tokens.reasoning) == (
        expected.input,
        expected.cached,
        expected.reasoning,
    )


@pytest.mark.parametrize("name", GOOD)
def test_each_mark_is_the_moment_at_which_its_write_left(name: str, seen: Mapping[str, Seen]) -> None:
    """The request's way is not in it: what lies between two marks must lie between the two writes."""
    one, expected = seen[name], SHAPES[name].expected
    marks = one.result.marks
    if expected.first_token is None:
        return
    for mark in MARKS:
        place = getattr(expected, mark)
        if place is None:
            assert getattr(marks, mark) is None
            continue
        least, most = one.between(expected.first_token, place)
        found = (getattr(marks, mark) or 0) - (marks.first_token or 0)
        assert least - NEAR_SECONDS <= found <= most + NEAR_SECONDS, mark


@pytest.mark.parametrize("name", GOOD)
def test_ttft_is_never_sooner_than_the_first_token_left(name: str, seen: Mapping[str, Seen]) -> None:
    one, expected = seen[name], SHAPES[name].expected
    ttft = one.result.ttft_seconds
    assert ttft is not None
    left_ns = one.record.left_ns[expected.first_token or 0][0]
    truth = (left_ns - one.record.asked_ns) / 1e9
    assert truth - 0.001 <= ttft <= truth + LATE_SECONDS
    assert (one.result.answer_ttft_seconds is None) == (one.result.marks.first_answer is None)


@pytest.mark.parametrize("name", GOOD)
def test_the_rate_is_that_of_the_writes_or_none_is_told(name: str, seen: Mapping[str, Seen]) -> None:
    one, expected = seen[name], SHAPES[name].expected
    assert (Flag.BUFFERED in one.result.flags) == (Flag.BUFFERED in expected.flags)
    if expected.streamed is None:
        assert (one.result.tpot_seconds, one.result.tokens_per_second) == (None, None)
        return
    least, most = one.between(expected.first_token or 0, expected.last_token or 0)
    after_first = expected.streamed * (expected.arrivals - 1) / expected.arrivals
    assert one.result.tpot_seconds is not None
    assert 0.95 * least <= one.result.tpot_seconds * after_first <= 1.05 * most


@pytest.mark.parametrize("name", GOOD)
def test_the_servers_word_is_kept_in_seconds(name: str, seen: Mapping[str, Seen]) -> None:
    expected, result = SHAPES[name].expected, seen[name].result
    assert result.served_region == expected.region
    if expected.timing is None:
        assert result.server_timing is None
        return
    timing = result.server_timing
    assert timing is not None
    source, first, total, queue = expected.timing
    assert timing.source == source
    told = (timing.first_token_seconds, timing.total_seconds, timing.queue_seconds)
    assert told == tuple(None if value is None else pytest.approx(value) for value in (first, total, queue))
    if expected.trusted is not None:
        assert timing.trusted is expected.trusted


@pytest.mark.parametrize("name", BAD)
def test_a_failure_has_no_latency_but_the_marks_that_it_reached(name: str, seen: Mapping[str, Seen]) -> None:
    result, expected = seen[name].result, SHAPES[name].expected
    values = (result.duration_seconds, result.ttft_seconds, result.tokens_per_second, result.components)
    assert values == (None, None, None, None)
    assert result.server_timing is None
    assert (result.marks.first_token is None) == (expected.first_token is None)
    assert result.marks.headers is not None


@pytest.mark.parametrize("name", [f"{dialect.provider} plain" for dialect in DIALECTS])
def test_the_key_goes_into_a_header_and_nowhere_else(name: str, seen: Mapping[str, Seen]) -> None:
    record = seen[name].record
    carriers = [field for field, value in record.headers.items() if KEY in value]
    assert len(carriers) == 1
    assert carriers[0] in {"authorization", "x-api-key", "x-goog-api-key", "api-key"}
    assert KEY not in record.path
    assert KEY.encode() not in record.body
    assert record.headers["accept-encoding"] == "identity"
    assert isinstance(json.loads(record.body), dict)
