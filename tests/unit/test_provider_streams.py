"""Every recorded stream, of every provider: any split gives the same events, and no cut makes a good stream."""

from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.framing import Event, FramingError
from agent.providers import PROVIDERS, Reading, WireFormat
from isochrone.outcome import Outcome
from tests.accuracy.dialects import DIALECTS, OUTPUT, TRITON, Dialect
from tests.accuracy.peculiar import peculiar_shapes
from tests.accuracy.shapes import Shape, every_shape

STREAMS = [
    shape
    for shape in (*every_shape(), *peculiar_shapes())
    if shape.play.status == 200 and "json" not in shape.play.media.removeprefix("application/x-nd")
]
SHORT = [shape for shape in STREAMS if sum(len(data) for _, data in shape.play.writes) < 3_000]


def body(shape: Shape) -> bytes:
    return b"".join(data for _, data in shape.play.writes)


def events(wire: WireFormat, *pieces: bytes) -> list[Event | str]:
    """Return the events, and the words with which the framing refused the rest."""
    parser = wire.framing.parser()
    found: list[Event | str] = []
    try:
        for piece in pieces:
            found += parser.feed(piece)
        found += parser.finish()
    except FramingError as exc:
        found.append(str(exc))
    return found


@cache
def whole(index: int) -> list[Event | str]:
    shape = STREAMS[index]
    return events(PROVIDERS[shape.provider], body(shape))


def readings(wire: WireFormat, data: bytes) -> list[Reading]:
    return [wire.interpret(event) for event in events(wire, data) if isinstance(event, Event)]


@given(st.integers(0, len(STREAMS) - 1), st.lists(st.floats(0, 1), max_size=12))
def test_every_split_of_every_recorded_stream_gives_the_same_events(index: int, cuts: list[float]) -> None:
    data = body(STREAMS[index])
    bounds = sorted({0, len(data), *(int(cut * len(data)) for cut in cuts)})
    pieces = [data[start:end] for start, end in pairwise(bounds)]
    assert refusal_apart(events(PROVIDERS[STREAMS[index].provider], *pieces)) == refusal_apart(whole(index))


def refusal_apart(found: list[Event | str]) -> tuple[list[Event], str | None]:
    """Return events and refusal; a read that is refused gives none of its events, so then only the words count."""
    refused = next((one for one in found if isinstance(one, str)), None)
    return ([] if refused else [one for one in found if isinstance(one, Event)]), refused


@pytest.mark.parametrize("shape", SHORT, ids=lambda shape: shape.name)
def test_two_pieces_cut_at_every_byte_are_the_whole(shape: Shape) -> None:
    wire, data = PROVIDERS[shape.provider], body(shape)
    expected = refusal_apart(events(wire, data))
    for cut in range(len(data)):
        assert refusal_apart(events(wire, data[:cut], data[cut:])) == expected


@pytest.mark.parametrize("shape", STREAMS, ids=lambda shape: shape.name)
def test_byte_by_byte_is_the_whole(shape: Shape) -> None:
    data = body(shape)[:20_000]
    wire = PROVIDERS[shape.provider]
    pieces = [data[index : index + 1] for index in range(len(data))]
    assert refusal_apart(events(wire, *pieces)) == refusal_apart(events(wire, data))


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.provider)
def test_a_stream_cut_at_any_byte_before_its_ending_is_not_good(dialect: Dialect) -> None:
    wire = PROVIDERS[dialect.provider]
    data = dialect.opening + b"".join(dialect.text(f"w{n}") for n in range(4))
    ending = dialect.ending(True)  # noqa: FBT003  with usage
    for cut in range(len(data) + 1):
        found = readings(wire, data[:cut])
        assert not any(reading.finished or reading.done for reading in found)
        assert all(reading.error is None and reading.unreadable is None for reading in found)
    complete = readings(wire, data + ending)
    assert any(reading.finished or reading.done for reading in complete) is (dialect is not TRITON)
    assert sum(reading.token for reading in complete) == 4


@pytest.mark.parametrize(
    "shape", [shape for shape in STREAMS if shape.expected.outcome is Outcome.OK], ids=lambda shape: shape.name
)
def test_arrivals_are_counted_the_same_without_a_socket(shape: Shape) -> None:
    found = readings(PROVIDERS[shape.provider], body(shape))
    until_done = found[: next((n + 1 for n, reading in enumerate(found) if reading.done), len(found))]
    gathered = shape.name.endswith("gathered in one write")
    assert sum(reading.token for reading in until_done) == (OUTPUT if gathered else shape.expected.arrivals)
