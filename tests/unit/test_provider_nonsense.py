"""Whatever JSON an endpoint sends, every format reads it to something that the contract can hold, and never breaks."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.framing import Event
from agent.providers import PROVIDERS, Reading, error_text
from agent.timeline import Usage, count_tokens, pace
from isochrone.config import Provider
from tests.accuracy.dialects import DIALECTS, Dialect

MAX_COUNT = 2**31 - 1
VALUES: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just("error")
)


def plain_events(dialect: Dialect) -> list[Event]:
    parser = PROVIDERS[dialect.provider].framing.parser()
    told = dialect.opening + dialect.text("w") + dialect.ending(True) + dialect.error  # noqa: FBT003  with usage
    told += b"".join(say("t") for say in (dialect.thought, dialect.tool) if say is not None)
    return parser.feed(told)


EVENTS = [
    (dialect.provider, event) for dialect in DIALECTS for event in plain_events(dialect) if event.data != "[DONE]"
]
NAMES = sorted({event.name for _, event in EVENTS})


def mangled(value: object, draw: st.DrawFn) -> object:
    """Return the payload with some of its values, at any depth, put in another's place."""
    if draw(st.integers(0, 7)) == 0:
        return draw(VALUES | st.lists(VALUES, max_size=2) | st.dictionaries(st.just("text"), VALUES) | st.just([value]))
    if isinstance(value, dict):
        return {name: mangled(inner, draw) for name, inner in value.items()}
    return [mangled(inner, draw) for inner in value] if isinstance(value, list) else value


@st.composite
def nonsense(draw: st.DrawFn) -> tuple[Provider, Event]:
    provider, event = draw(st.sampled_from(EVENTS))
    name = draw(st.sampled_from([event.name, event.name, *NAMES]))
    data = json.dumps(mangled(json.loads(event.data), draw))
    return provider, Event(name=name, data=data, fault=draw(st.sampled_from([event.fault, False])))


@given(nonsense())
def test_no_value_in_anothers_place_breaks_a_format(told: tuple[Provider, Event]) -> None:
    provider, event = told
    reading = PROVIDERS[provider].interpret(event)
    assert isinstance(reading, Reading)
    assert all(type(flag) is bool for flag in (reading.answer, reading.reasoning, reading.tool, reading.finished))
    assert reading.error is None or reading.error != ""
    counts = count_tokens([], Usage().merged(reading.usage or Usage()))
    assert all(
        value is None or 0 <= value <= MAX_COUNT
        for value in (counts.output, counts.input, counts.cached_input, counts.reasoning)
    )
    assert pace([], reading.usage or Usage()).tokens_per_second is None


@given(st.sampled_from(list(Provider)), st.sampled_from(NAMES), st.text() | st.binary().map(repr))
def test_no_text_breaks_a_format(provider: Provider, name: str, data: str) -> None:
    for fault in (False, True):
        assert isinstance(PROVIDERS[provider].interpret(Event(name=name, data=data, fault=fault)), Reading)


@given(st.binary() | st.recursive(VALUES, st.lists).map(lambda value: json.dumps({"error": value}).encode()))
def test_no_body_of_an_error_breaks_its_reading(body: bytes) -> None:
    assert error_text(body) != ""


@pytest.mark.parametrize("provider", list(Provider))
def test_done_after_nothing_is_an_end_and_only_for_chat_a_good_one(provider: Provider) -> None:
    reading = PROVIDERS[provider].interpret(Event(data="[DONE]"))
    named = PROVIDERS[provider].ending
    assert reading.done
    assert reading.finished is (named is None or "[DONE]" in named)
