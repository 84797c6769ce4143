"""One result as a row of `result`. Pure.

A row says nothing twice. What follows from the columns beside it is left out, and bits of `same` tell which: the view
v_result puts it back. An agent that sends marks and values that do not fit gets both stored.
"""

import math
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Final

import msgspec
from msgspec.structs import astuple

from collector import schema
from collector.registry import AgentRow
from collector.store.results import Row
from isochrone.marks import Marks
from isochrone.outcome import Flag
from isochrone.result import Pings, Result, Tokens

_EPOCH_2000_MICROSECONDS: Final = 946_684_800 * 1_000_000
"""Postgres counts time from 2000-01-01 UTC."""
_MAX_INT4: Final = 2**31 - 1
_NEARLY: Final = 1e-9
"""Seconds: what the agent's own subtraction may have lost."""
_STARTED, _TOKEN, _ANSWER, _END, _MEDIAN, _EVENT_HEADERS, _EVENT_TOKEN, _ARRIVALS, _CACHED, _REASONING, _BOUND = (
    1 << bit for bit in range(len(schema.SAME))
)
"""Bits of `same`, as `schema.SAME` has them."""
_IPV4: Final = bytes((2, 32, 0, 4))
"""What Postgres writes before the four bytes of an address: family, bits of the mask, no network, length."""


def _codes(members: tuple[StrEnum, ...]) -> dict[int, int | None]:
    """Return codes by `id`: there is one object of each word, and an Enum's own hash runs in Python."""
    return {id(None): None, **{id(member): code for code, member in enumerate(members, start=1)}}


_OUTCOME: Final = _codes(schema.OUTCOMES)
_PROBER: Final = _codes(schema.PROBERS)
_CONNECTION: Final = _codes(schema.CONNECTIONS)
_RTT_METHOD: Final = _codes(schema.RTT_METHODS)
_RTT_SOURCE: Final = _codes(schema.RTT_SOURCES)
_CLOCK_SOURCE: Final = _codes(schema.CLOCK_SOURCES)
_TOKEN_SOURCE: Final = _codes(schema.TOKEN_SOURCES)
_FLAG_BIT: Final = {flag: 1 << bit for bit, flag in enumerate(schema.FLAGS)}
_NO_COMPONENTS: Final = (None,) * 3
_NO_PINGS: Final = ((None,) * 8, 0)
_NO_TOKENS: Final = ((None,) * 6, 0)
_NO_SERVER_TIMING: Final = (None,) * 5


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """What all rows of a batch share."""

    came_at: datetime
    """Ages count from here."""
    received_at: datetime
    agent: AgentRow
    batch_id: bytes
    run_id: int


def row_maker(common: Common) -> Callable[[Result, int, float], Row]:
    """Return the function that makes one row of a result, its target's id and its age in seconds."""
    came, received = _microseconds(common.came_at), _microseconds(common.received_at)
    agent_id, region_id = common.agent.id, common.agent.region.id
    batch_id, run_id = common.batch_id, common.run_id

    def row_of(result: Result, target_id: int, age_seconds: float) -> Row:
        # All fields at once: each look at one costs as much as ten of these.
        (
            seq, _, _, prober, started_at, started_boottime, outcome, reason, http_status, address, ip_version,
            connection, clock_source, marks, duration, setup, rtt, rtt_source, rtt_variation, ttft, bound, answer_ttft,
            tpot, rate, stall, components, pings, tokens, timing, served_region, flags, start_delay, _,
        ) = astuple(result)  # fmt: skip
        started = came - math.floor(age_seconds * 1e6)
        said = _microseconds(started_at)
        apart = said - started
        close = -_MAX_INT4 <= apart <= _MAX_INT4
        marks_columns, same = _marks(marks, (duration, setup, ttft, answer_ttft))
        pings_columns, median = _NO_PINGS if pings is None else _pings(pings, rtt)
        tokens_columns, counts = _NO_TOKENS if tokens is None else _tokens(tokens)
        same |= median | counts | (_BOUND if bound == 0 else 0)
        ip = None if address is None else _ip(address)
        return (
            started,
            None if close else said,
            received,
            started_boottime,
            seq,
            None,
            batch_id,
            agent_id,
            region_id,
            target_id,
            _PROBER[id(prober)],
            _OUTCOME[id(outcome)],
            _CLOCK_SOURCE[id(clock_source)],
            _flag_bits(flags) if flags else 0,
            _CONNECTION[id(connection)],
            _RTT_SOURCE[id(rtt_source)],
            ip_version,
            http_status,
            duration,
            setup,
            rtt,
            ttft,
            answer_ttft,
            tpot,
            rate,
            stall,
            start_delay,
            *marks_columns,
            *(_NO_COMPONENTS if components is None else astuple(components)),
            *pings_columns,
            *tokens_columns,
            reason,
            address if ip is None else None,
            *(_NO_SERVER_TIMING if timing is None else astuple(timing)),
            served_region,
            bound or None,
            rtt_variation,
            run_id,
            apart if close else None,
            same or None,
            ip,
        )

    return row_of


def _marks(marks: Marks, beside: tuple[float | None, ...]) -> tuple[Row, int]:
    """Return the columns of the marks, and the bits of those that are left out. `beside` are the values' columns."""
    dns, tcp, tls, started, sent, headers, event, token, answer, last, end = astuple(marks)
    duration, setup, ttft, answer_ttft = beside
    same = 0
    if end is not None and end == duration:
        same, end = _END, None
    if event is not None and event == headers:
        same, event = same | _EVENT_HEADERS, None
    if setup is not None and started == setup:
        same, started = same | _STARTED, None
    if _adds_up(setup, ttft, token):
        if event is not None and event == token:
            same, event = same | _EVENT_TOKEN, None
        same, token = same | _TOKEN, None
    if _adds_up(setup, answer_ttft, answer):
        same, answer = same | _ANSWER, None
    return (dns, tcp, tls, started, sent, headers, event, token, answer, last, end), same


def _adds_up(setup: float | None, since: float | None, mark: float | None) -> bool:
    if setup is None or since is None or mark is None:
        return False
    return -_NEARLY < setup + since - mark < _NEARLY


def _pings(pings: Pings, rtt_seconds: float | None) -> tuple[Row, int]:
    """Return the columns of the pings, and the bit of the median where it is left out."""
    method, sent, lost, least, median, *rest = astuple(pings)
    if median is None or median != rtt_seconds:
        return (_RTT_METHOD[id(method)], sent, lost, least, median, *rest), 0
    return (_RTT_METHOD[id(method)], sent, lost, least, None, *rest), _MEDIAN


def _tokens(tokens: Tokens) -> tuple[Row, int]:
    """Return the columns of the tokens, and the bits of those that are left out."""
    same = 0
    cached, reasoning, arrivals = tokens.cached_input, tokens.reasoning, tokens.arrivals
    if cached == 0:
        same, cached = _CACHED, None
    if reasoning == 0:
        same, reasoning = same | _REASONING, None
    if arrivals == tokens.output:
        same |= _ARRIVALS
    left = None if same & _ARRIVALS else arrivals
    return (_TOKEN_SOURCE[id(tokens.source)], tokens.output, tokens.input, cached, reasoning, left), same


@lru_cache(maxsize=10_000)  # of a large fleet's endpoints
def _ip(address: str) -> bytes | None:
    """Return an IPv4 address in the form that Postgres reads, None for another: IPv6 may be written in many ways."""
    try:
        return _IPV4 + IPv4Address(address).packed
    except ValueError:
        return None


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6) - _EPOCH_2000_MICROSECONDS


def _flag_bits(flags: tuple[Flag, ...]) -> int:
    bits = 0
    for flag in flags:
        bits |= _FLAG_BIT[flag]
    return bits
