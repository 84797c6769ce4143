"""Our `rtt` prober through the lab, method by method: the round trip, and which samples were lost."""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Final

from isochrone.outcome import RttMethod
from tests.bench.accuracy.binomial import bounds, touched
from tests.bench.accuracy.conditions import Schedule
from tests.bench.accuracy.lab import Lab, Pinged
from tests.bench.accuracy.verdicts import RoundTrips

PROBER: Final = str(Path(sys.executable).with_name("isochrone-agent"))
AT_ONCE: Final = 4
SAMPLES: Final = 45
"""Of each of the probers that run at once: 180, of which 3 % loss each way takes ten."""
METHODS: Final = (RttMethod.TCP, RttMethod.HTTP, RttMethod.ICMP, RttMethod.TLS)
_TIMEOUT_SECONDS: Final = 100
_SOURCES: Final[Mapping[RttMethod, frozenset[str]]] = {
    RttMethod.TCP: frozenset({"tcp_info_min", "tcp_info", "handshake"}),
    RttMethod.HTTP: frozenset({"http"}),
    RttMethod.ICMP: frozenset({"icmp"}),
    RttMethod.TLS: frozenset({"tls"}),
}
_PACKETS: Final = {RttMethod.HTTP: 4, RttMethod.TLS: 16}
"""The most packets of one sample whose loss may make it a lost one; its acknowledgements and retries included."""


def measure(lab: Lab, schedule: Schedule) -> Iterator[RoundTrips]:
    """Yield each method on each path at each loss."""
    with lab.responder() as responder:
        for rtt_ms in schedule.paths_ms:
            for loss_percent in schedule.losses_percent:
                for method in METHODS:
                    url = responder if method is RttMethod.HTTP else lab.url(tls=method is RttMethod.TLS)
                    pinged = lab.ping(_commands(url, method), rtt_ms=rtt_ms, loss_percent=loss_percent)
                    yield judged(pinged, method=method, rtt_ms=rtt_ms, loss_percent=loss_percent)


_TRUE_MS: Final[Mapping[RttMethod, Callable[[Pinged], float | None]]] = {
    RttMethod.TCP: lambda pinged: pinged.handshakes_ms,
    RttMethod.HTTP: lambda pinged: pinged.answers_ms,
    RttMethod.ICMP: lambda pinged: pinged.echoes_ms,
    RttMethod.TLS: lambda _: None,
}


def _commands(url: str, method: RttMethod) -> list[list[str]]:
    options = {"method": method, "count": SAMPLES, "spacing": "50ms", "timeout": f"{_TIMEOUT_SECONDS}s"}
    given = [word for key, value in options.items() for word in ("--module-option", f"{key}={value}")]
    return [[PROBER, "probe", url + "/", "--json", *given]] * AT_ONCE


def judged(pinged: Pinged, *, method: RttMethod, rtt_ms: int, loss_percent: int) -> RoundTrips:
    """Hold what the prober said against what the lab saw."""
    found = [result["pings"] for result in pinged.results if result.get("pings")]
    medians = [one["median_seconds"] for one in found if one.get("median_seconds") is not None]
    sent = sum(one["sent"] for one in found)
    return RoundTrips(
        method=method,
        rtt_ms=rtt_ms,
        loss_percent=loss_percent,
        sent=sent,
        lost=sum(one["lost"] for one in found),
        median_ms=median(medians) * 1e3 if medians else None,
        true_ms=_TRUE_MS[method](pinged),
        truly_lost=_TRULY_LOST[method](pinged, sent, loss_percent / 100) if sent else (0, 0),
        trouble=_trouble(pinged, method, sent=sent),
    )


def _trouble(pinged: Pinged, method: RttMethod, *, sent: int) -> str | None:
    sources = {str(one["rtt_source"]) for one in pinged.results if one.get("rtt_source")}
    if strange := sources - _SOURCES[method]:
        return f"the prober measured by {', '.join(sorted(strange))} instead"
    wanted = AT_ONCE * SAMPLES
    if sent == wanted:
        return None
    reasons = [str(result["reason"]) for result in pinged.results if result.get("reason")]
    said = pinged.said.strip().splitlines()[-1:]
    return f"{sent} of {wanted} samples were taken: {'; '.join((*dict.fromkeys(reasons), *said)) or 'nothing was said'}"


def _lost_handshakes(pinged: Pinged, _sent: int, _loss: float) -> tuple[int, int]:
    """Count in the capture: a sample is a handshake."""
    return pinged.lost_handshakes, pinged.lost_handshakes


def _lost_echoes(pinged: Pinged, sent: int, _loss: float) -> tuple[int, int]:
    """Count what the path dropped, less what may have been packets of others (a namespace seeks routers)."""
    out, back = pinged.wan["ab"], pinged.wan["ba"]
    dropped = out["lost"] + back["lost"]
    foreign = max(0, out["packets"] - sent) + max(0, back["packets"] - (out["packets"] - out["lost"]))
    return max(0, dropped - foreign), dropped


def _few(packets: int) -> Callable[[Pinged, int, float], tuple[int, int]]:
    """Return a bound for methods over TCP: it sends again what was lost, so a sample may be late instead of lost."""

    def count(_pinged: Pinged, sent: int, loss: float) -> tuple[int, int]:
        return 0, bounds(sent, touched(loss, packets=packets))[1]

    return count


_TRULY_LOST: Final[Mapping[RttMethod, Callable[[Pinged, int, float], tuple[int, int]]]] = {
    RttMethod.TCP: _lost_handshakes,
    RttMethod.ICMP: _lost_echoes,
    RttMethod.HTTP: _few(_PACKETS[RttMethod.HTTP]),
    RttMethod.TLS: _few(_PACKETS[RttMethod.TLS]),
}
