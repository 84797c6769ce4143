"""Moments of one probe, and the values that follow from them alone.

All marks come from one monotonic clock and are seconds since the probe's start, which is the first thing that it did:
the look-up of the name on a cold connection, the writing of the request on a warm one. None: it did not happen.

The components add up to the duration, always, because each boundary is one mark:

    0 --setup--> request_started --ttft--> first_token --streaming--> end
                                 `-rtt-' `--model--'
"""

from typing import Final

import msgspec

from isochrone.names import Seconds, bounds_hold, check_all_seconds


class Marks(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Seconds since the start of the probe; None where the moment did not come."""

    dns: Seconds | None = None
    """Name resolved; None for a literal address and on a warm connection."""
    tcp: Seconds | None = None
    """TCP connection open."""
    tls: Seconds | None = None
    """TLS handshake done."""
    request_started: Seconds | None = None
    """First byte of the request handed to the kernel: 0 on a warm connection."""
    request_sent: Seconds | None = None
    """Last byte of the request handed to the kernel."""
    headers: Seconds | None = None
    """Response headers complete."""
    first_event: Seconds | None = None
    """First event of the stream, with a token in it or not."""
    first_token: Seconds | None = None
    """First token of any channel: reasoning, answer, tool call."""
    first_answer: Seconds | None = None
    """First visible token of the answer."""
    last_token: Seconds | None = None
    end: Seconds | None = None
    """Terminal marker of the stream, or its close."""

    def __post_init__(self) -> None:
        if not bounds_hold():
            check_all_seconds(msgspec.structs.astuple(self), MARKS, place="marks.")


MARKS: Final = Marks.__struct_fields__
"""The names of all marks, in the order in which a cold probe passes them."""


class Components(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where the duration of a successful inference probe went, in seconds. The three add up to it."""

    network_seconds: Seconds
    model_seconds: Seconds
    streaming_seconds: Seconds


def setup_seconds(marks: Marks) -> float | None:
    """Return DNS + TCP + TLS, with what the client spent between them: 0 on a reused connection."""
    return marks.request_started


def phase_seconds(marks: Marks) -> dict[str, float]:
    """Return the seconds of each phase of the connection's setup that took place: `dns`, `tcp`, `tls`.

    Never negative, whatever order a result's marks claim: these go into sums that only grow.
    """
    phases: dict[str, float] = {}
    before = 0.0
    for name, mark in (("dns", marks.dns), ("tcp", marks.tcp), ("tls", marks.tls)):
        if mark is not None:
            phases[name] = max(0.0, mark - before)
            before = mark
    return phases


def ttft_seconds(marks: Marks) -> float | None:
    """Return time to first token: from the request's first byte on an open connection; None without a token."""
    return _since_request(marks, marks.first_token)


def answer_ttft_seconds(marks: Marks) -> float | None:
    """Return time to the first visible answer token, counted as `ttft_seconds` is."""
    return _since_request(marks, marks.first_answer)


def components(marks: Marks, *, rtt_seconds: float | None) -> Components | None:
    """Return network = setup + rtt, model = ttft - rtt, streaming = end - first token (design section 2).

    None unless the stream came to its end and the round trip is known. A round trip longer than the TTFT is a smoothed
    estimate that lags behind: no answer can come sooner than one round trip, so it is cut to the TTFT.
    """
    ttft = ttft_seconds(marks)
    if ttft is None or rtt_seconds is None or marks.end is None:
        return None
    rtt = min(rtt_seconds, ttft)
    setup = marks.request_started or 0.0
    first_token = setup + ttft
    return Components(
        network_seconds=setup + rtt,
        model_seconds=ttft - rtt,
        streaming_seconds=max(0.0, marks.end - first_token),
    )


def _since_request(marks: Marks, moment: float | None) -> float | None:
    if moment is None or marks.request_started is None:
        return None
    return max(0.0, moment - marks.request_started)
