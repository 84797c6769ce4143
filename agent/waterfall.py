"""One result as a person reads it: a waterfall of where the time went. Pure: text out, 80 columns.

DNS          12.3 ms  █
TCP          18.9 ms   ██
TLS          21.0 ms     ██
wait        101.7 ms       █████████
first token 195.2 ms                █████████████████
stream      620.4 ms                                 ████████████████

Where the floor is known, the part of a round trip that light in fibre needs is drawn light: ░ (= in ASCII).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

import msgspec

from agent.findings import EDGE, findings, findings_of_all, has_arrivals, milliseconds
from agent.floor import Floor, Source
from isochrone import catalogue
from isochrone.marks import Marks
from isochrone.names import printable
from isochrone.outcome import Outcome, Prober, RttSource
from isochrone.physics import FLOOR_SLACK_SECONDS
from isochrone.result import Pings, Result, ServerTiming, Tokens

WIDTH: Final = 80
_LABEL: Final = 12
_VALUE: Final = 12
_BAR: Final = WIDTH - 2 - _LABEL - _VALUE - 2

_RED, _GREEN, _BLUE, _YELLOW, _BOLD, _DIM = "31", "32", "34", "33", "1", "2"

_SOURCES: Final = {
    RttSource.TCP_INFO_MIN: "kernel, least",
    RttSource.TCP_INFO: "kernel, smoothed",
    RttSource.HANDSHAKE: "TCP handshake",
    RttSource.HTTP: "HEAD to first byte",
    RttSource.TLS: "TLS hello",
    RttSource.ICMP: "ICMP echo",
}
_KNOWN: Final = {
    Source.GIVEN: "",
    Source.HOST: " (a guess from the host name)",
    Source.SERVED_REGION: " (the provider says so)",
}
_ROUND_TRIPS: Final = frozenset({"TCP", "TLS", "wait"})
"""The phases that cannot be shorter than one round trip."""


class Style(msgspec.Struct, frozen=True, kw_only=True):
    """What the terminal can do."""

    color: bool = False
    blocks: bool = True
    """It shows block characters and all of Unicode; else # is drawn, and ASCII alone."""

    def paint(self, text: str, code: str) -> str:
        """Return `text` in the colour `code`, or plain."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.color else text


class _Phase(msgspec.Struct, frozen=True, kw_only=True):
    label: str
    start: float
    end: float
    color: str


def render(result: Result, *, url: str, style: Style, floor: Floor | None = None) -> str:
    """Return the lines for one result; `floor` is None where nobody asked for it."""
    lines = [style.paint(printable(url, limit=WIDTH), _BOLD), style.paint(_facts(result), _DIM)]
    lines += _bars(phases(result.marks), style, floor_seconds=None if floor is None else floor.floor_seconds)
    if result.outcome is not Outcome.OK:
        lines += _wrap(f"failed: {result.outcome}: {result.reason}", style, _RED)
    else:
        lines += _rtt_lines(result) if result.prober is Prober.RTT else _stream_lines(result, style)
        lines += _floor_lines(floor, style)
        for note in findings(result, floor=floor):
            lines += _wrap(f"note: {note}", style, _YELLOW)
    return _text(lines, style)


def summary(results: Sequence[Result], *, style: Style) -> str:
    """Return the lines over several results: medians and ranges of those that ended well."""
    good = [result for result in results if result.outcome is Outcome.OK]
    failed = Counter(result.outcome.value for result in results if result.outcome is not Outcome.OK)
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(failed.items())) or "none failed"
    lines = [style.paint(f"{len(results)} probes: {len(good)} ok, {said}", _RED if failed else _BOLD)]
    lines += _range("RTT", [result.rtt_seconds for result in good], milliseconds)
    lines += _range("TTFT", [result.ttft_seconds for result in good], milliseconds)
    lines += _range("tokens/s", [result.tokens_per_second for result in good], lambda value: f"{value:.1f}")
    lines += _range("total", [r.duration_seconds for r in good if r.prober is Prober.INFERENCE], milliseconds)
    for note in findings_of_all(results):
        lines += _wrap(f"note: {note}", style, _YELLOW)
    return _text(lines, style)


def timed_events(result: Result) -> str:
    """Return the moments that were reached, one a line, in order of time."""
    found = ((getattr(result.marks, name), name) for name in result.marks.__struct_fields__)
    moments = sorted((at, name) for at, name in found if at is not None)
    lines = [f"{result.started_at.isoformat()} {result.prober} {result.address or 'no address'}"]
    lines += [f"+{at * 1000:10.3f} ms  {name}" for at, name in moments]
    return "\n".join([*lines, f"clock: {result.clock_source}; outcome: {result.outcome}"])


def phases(marks: Marks) -> list[_Phase]:
    """Return the phases that took place, each from the end of the one before."""
    steps = (
        ("DNS", marks.dns, _BLUE),
        ("TCP", marks.tcp, _BLUE),
        ("TLS", marks.tls, _BLUE),
        ("send", marks.request_started, _DIM),
        ("wait", marks.headers, _YELLOW),
        ("first token", marks.first_token, _YELLOW),
        ("stream", marks.end, _GREEN),
    )
    found: list[_Phase] = []
    before = 0.0
    for label, end, color in steps:
        if end is None:
            continue
        if label != "send":  # what the client spends between the handshake and the request has no bar
            found.append(_Phase(label=label, start=before, end=max(before, end), color=color))
        before = max(before, end)
    return found


def _bars(found: Sequence[_Phase], style: Style, *, floor_seconds: float | None) -> list[str]:
    whole = max((phase.end for phase in found), default=0.0)
    if whole <= 0:
        return []
    least = 0 if floor_seconds is None else round(floor_seconds / whole * _BAR)
    lines = []
    for phase in found:
        first = min(int(phase.start / whole * _BAR), _BAR - 1)
        length = max(1, min(_BAR, round(phase.end / whole * _BAR)) - first)
        light = min(least, length) if phase.label in _ROUND_TRIPS else 0
        head = f"  {phase.label:<{_LABEL}}{milliseconds(phase.end - phase.start):>{_VALUE}}  "
        lines.append(head + " " * first + style.paint(_bar(length, style, light=light), phase.color))
    return lines


def _bar(length: int, style: Style, *, light: int) -> str:
    full, pale = ("█", "░") if style.blocks else ("#", "=")
    return pale * light + full * (length - light)


def _facts(result: Result) -> str:
    facts = [
        result.connection and f"{result.connection} connection",
        result.address,
        result.http_status and f"HTTP {result.http_status}",
        result.outcome is Outcome.OK and has_arrivals(result) and f"clock: {result.clock_source}",
    ]
    return "  " + ", ".join(str(fact) for fact in facts if fact)


def _floor_lines(floor: Floor | None, style: Style) -> list[str]:
    if floor is None:
        return []
    if floor.there is None or floor.floor_seconds is None or floor.distance_meters is None:
        text = "floor unknown: neither host name nor answer tells where the endpoint stands; --endpoint-location does"
        return _wrap(text, style, _DIM)
    way = f"{floor.distance_meters / 1000:,.0f} km to {floor.there.words}{_KNOWN[floor.source or Source.GIVEN]}"
    if floor.floor_seconds < FLOOR_SLACK_SECONDS:
        return _wrap(f"floor under 1 ms: light in fibre over {way}", style)
    text = f"floor {milliseconds(floor.floor_seconds)}: light in fibre over {way}"
    if floor.efficiency is not None and floor.efficiency <= 1:  # more is in the doubt of the places
        text += f"; efficiency {floor.efficiency:.0%}"
    return _wrap(text, style)


def _rtt_lines(result: Result) -> list[str]:
    pings = result.pings
    if pings is None or pings.median_seconds is None:
        return []
    return [f"  {_rtt(result, pings.median_seconds)}", f"  {_pings(pings)}"]


def _rtt(result: Result, seconds: float | None) -> str:
    if seconds is None:
        return ""
    source = "" if result.rtt_source is None else f" ({_SOURCES[result.rtt_source]})"
    return f"RTT {milliseconds(seconds)}{source}"


def _pings(pings: Pings) -> str:
    values = (("least", pings.min_seconds), ("most", pings.max_seconds), ("jitter", pings.jitter_seconds))
    said = ", ".join(f"{name} {milliseconds(value)}" for name, value in values if value is not None)
    return f"{said}; {pings.lost} of {pings.sent} lost"


def _stream_lines(result: Result, style: Style) -> list[str]:
    lines = []
    if result.components is not None and result.duration_seconds:
        shares = (
            ("network", result.components.network_seconds, _BLUE),
            ("model", result.components.model_seconds, _YELLOW),
            ("streaming", result.components.streaming_seconds, _GREEN),
        )
        said = [
            style.paint(f"{name} {milliseconds(value)} ({value / result.duration_seconds:.0%})", color)
            for name, value, color in shares
        ]
        lines.append("  " + " + ".join(said))
        lines.append(f"  = {milliseconds(result.duration_seconds)} in all")
    answer = result.answer_ttft_seconds if result.answer_ttft_seconds != result.ttft_seconds else None
    times = [_named("TTFT", result.ttft_seconds), _named("answer", answer), _rtt(result, result.rtt_seconds)]
    for told in (", ".join(part for part in times if part), _rate(result), _server(result), _served(result)):
        lines += _wrap(told, style) if told else []
    return lines


def _named(name: str, seconds: float | None) -> str:
    return "" if seconds is None else f"{name} {milliseconds(seconds)}"


def _rate(result: Result) -> str:
    if result.tokens is None:
        return ""
    tokens = _tokens(result.tokens)
    return tokens if result.tokens_per_second is None else f"{result.tokens_per_second:.1f} tokens/s ({tokens})"


def _tokens(tokens: Tokens) -> str:
    reasoning = f", {tokens.reasoning} of reasoning" if tokens.reasoning else ""
    cached = "" if tokens.cached_input is None else f", {tokens.cached_input} of them cached"
    asked = "" if tokens.input is None else f"; {tokens.input} in the prompt{cached}"
    return f"{tokens.output} tokens by {tokens.source}{reasoning}{asked}"


def _server(result: Result) -> str:
    told = result.server_timing
    if told is None:
        return ""
    times = (
        _named("first token", told.first_token_seconds),
        _named("queue", told.queue_seconds),
        _named("total", told.total_seconds),
    )
    said = ", ".join(part for part in times if part)
    return f"server's own word: {said}, by {told.source}: {_trust(told)}"


def _trust(told: ServerTiming) -> str:
    return "it fits what was seen" if told.trusted else "it does not fit what was seen, nothing is reckoned with it"


def _served(result: Result) -> str:
    """Return where the provider says that it answered; of an edge there is a note."""
    served = result.served_region
    if served is None or served.startswith(EDGE):
        return ""
    region = catalogue.match(served)
    return f"served from {served}" if region is None else f"served from {served} ({region.name}, {region.city})"


def _range(name: str, values: Sequence[float | None], show: Callable[[float], str]) -> list[str]:
    found = [value for value in values if value is not None]
    if not found:
        return []
    return [f"  {name:<{_LABEL}}median {show(median(found))}, from {show(min(found))} to {show(max(found))}"]


def _wrap(text: str, style: Style, code: str | None = None) -> list[str]:
    lines, line = [], " "
    for word in text.split():
        if len(line) + 1 + len(word) > WIDTH and line.strip():
            lines.append(line)
            line = "   "
        line += f" {word}"
    return [part if code is None else style.paint(part, code) for part in [*lines, line]]


def _text(lines: Sequence[str], style: Style) -> str:
    text = "\n".join(lines)
    return text if style.blocks else text.encode("ascii", errors="replace").decode("ascii")
