"""One result as a person reads it: a waterfall of where the time went. Pure: text out, 80 columns.

DNS          12.3 ms  █
TCP          18.9 ms   ██
TLS          21.0 ms     ██
wait        101.7 ms       █████████
first token 195.2 ms                █████████████████
stream      620.4 ms                                 ████████████████
"""

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

import msgspec

from isochrone.marks import Marks
from isochrone.names import printable
from isochrone.outcome import Flag, Outcome, Prober, RttSource
from isochrone.result import Pings, Result

WIDTH: Final = 80
_LABEL: Final = 12
_VALUE: Final = 12
_BAR: Final = WIDTH - 2 - _LABEL - _VALUE - 2

_RED, _GREEN, _BLUE, _YELLOW, _BOLD, _DIM = "31", "32", "34", "33", "1", "2"

_NOTES: Final = {
    Flag.BUFFERED: "somebody on the way gathered the stream: it tells no tokens/s",
    Flag.RETRANSMITS: "packets were lost and sent again",
    Flag.LATE_START: "the probe started late",
    Flag.LOOP_LAG: "this machine was too busy to measure well",
    Flag.THROTTLED: "this machine's processor was throttled",
    Flag.CLOCK_UNSYNCHRONIZED: "this machine's clock is not synchronized",
    Flag.BELOW_FLOOR: "faster than light: an edge answered, or a location is wrong",
}
_SOURCES: Final = {
    RttSource.TCP_INFO_MIN: "kernel, least",
    RttSource.TCP_INFO: "kernel, smoothed",
    RttSource.HANDSHAKE: "TCP handshake",
    RttSource.HTTP: "HEAD to first byte",
    RttSource.TLS: "TLS hello",
    RttSource.ICMP: "ICMP echo",
}


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


def render(result: Result, *, url: str, style: Style) -> str:
    """Return the lines for one result."""
    lines = [style.paint(printable(url, limit=WIDTH), _BOLD), style.paint(_facts(result), _DIM)]
    lines += _bars(phases(result.marks), style)
    if result.outcome is not Outcome.OK:
        lines += _wrap(f"failed: {result.outcome}: {result.reason}", style)
    else:
        lines += _rtt_lines(result) if result.prober is Prober.RTT else _stream_lines(result, style)
        lines += [style.paint(f"  note: {_NOTES[flag]}", _YELLOW) for flag in result.flags]
    text = "\n".join(lines)
    return text if style.blocks else text.encode("ascii", errors="replace").decode("ascii")


def summary(results: Sequence[Result], *, style: Style) -> str:
    """Return the lines over several results: medians and ranges of those that ended well."""
    good = [result for result in results if result.outcome is Outcome.OK]
    failed = Counter(result.outcome.value for result in results if result.outcome is not Outcome.OK)
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(failed.items())) or "none failed"
    lines = [style.paint(f"{len(results)} probes: {len(good)} ok, {said}", _RED if failed else _BOLD)]
    lines += _range("RTT", [result.rtt_seconds for result in good], _ms)
    lines += _range("TTFT", [result.ttft_seconds for result in good], _ms)
    lines += _range("tokens/s", [result.tokens_per_second for result in good], lambda value: f"{value:.1f}")
    lines += _range("total", [r.duration_seconds for r in good if r.prober is Prober.INFERENCE], _ms)
    return "\n".join(lines)


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


def _bars(found: Sequence[_Phase], style: Style) -> list[str]:
    whole = max((phase.end for phase in found), default=0.0)
    if whole <= 0:
        return []
    block = "█" if style.blocks else "#"
    lines = []
    for phase in found:
        first = min(int(phase.start / whole * _BAR), _BAR - 1)
        length = max(1, min(_BAR, round(phase.end / whole * _BAR)) - first)
        head = f"  {phase.label:<{_LABEL}}{_ms(phase.end - phase.start):>{_VALUE}}  "
        lines.append(head + " " * first + style.paint(block * length, phase.color))
    return lines


def _facts(result: Result) -> str:
    facts = [
        result.connection and f"{result.connection} connection",
        result.address,
        result.http_status and f"HTTP {result.http_status}",
        result.outcome is Outcome.OK and f"clock: {result.clock_source}",
    ]
    return "  " + ", ".join(str(fact) for fact in facts if fact)


def _rtt_lines(result: Result) -> list[str]:
    pings = result.pings
    if pings is None or pings.median_seconds is None:
        return []
    source = "" if result.rtt_source is None else f" ({_SOURCES[result.rtt_source]})"
    return [f"  RTT {_ms(pings.median_seconds)}{source}", f"  {_pings(pings)}"]


def _pings(pings: Pings) -> str:
    values = (("least", pings.min_seconds), ("most", pings.max_seconds), ("jitter", pings.jitter_seconds))
    said = ", ".join(f"{name} {_ms(value)}" for name, value in values if value is not None)
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
            style.paint(f"{name} {_ms(value)} ({value / result.duration_seconds:.0%})", color)
            for name, value, color in shares
        ]
        lines.append("  " + " + ".join(said))
        lines.append(f"  = {_ms(result.duration_seconds)} in all")
    answer = result.answer_ttft_seconds if result.answer_ttft_seconds != result.ttft_seconds else None
    times = [_named("TTFT", result.ttft_seconds), _named("answer", answer), _named("RTT", result.rtt_seconds)]
    parts = [*times, _rate(result)]
    return [*lines, "  " + ", ".join(part for part in parts if part)]


def _named(name: str, seconds: float | None) -> str:
    return "" if seconds is None else f"{name} {_ms(seconds)}"


def _rate(result: Result) -> str:
    tokens = "" if result.tokens is None else f"{result.tokens.output} tokens by {result.tokens.source}"
    if result.tokens_per_second is None:
        return tokens
    return f"{result.tokens_per_second:.1f} tokens/s ({tokens})"


def _range(name: str, values: Sequence[float | None], show: Callable[[float], str]) -> list[str]:
    found = [value for value in values if value is not None]
    if not found:
        return []
    return [f"  {name:<{_LABEL}}median {show(median(found))}, from {show(min(found))} to {show(max(found))}"]


def _wrap(text: str, style: Style) -> list[str]:
    lines, line = [], " "
    for word in text.split():
        if len(line) + 1 + len(word) > WIDTH and line.strip():
            lines.append(line)
            line = "   "
        line += f" {word}"
    return [style.paint(part, _RED) for part in [*lines, line]]


def _ms(seconds: float) -> str:
    milliseconds = seconds * 1000
    if milliseconds >= 100:  # noqa: PLR2004  three digits say enough
        return f"{milliseconds:,.0f} ms"
    return f"{milliseconds:.1f} ms" if milliseconds >= 1 else f"{milliseconds:.3f} ms"
