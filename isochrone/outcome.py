"""How a probe ended (closed sets), and what could have spoiled it."""

from enum import StrEnum


class Outcome(StrEnum):
    """The end of one probe. A failure has no latency: it has an outcome, and the marks it reached."""

    OK = "ok"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    AUTH = "auth"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    HTTP_4XX = "http_4xx"
    HTTP_5XX = "http_5xx"
    TIMEOUT_HEADERS = "timeout_headers"
    TIMEOUT_FIRST_TOKEN = "timeout_first_token"  # noqa: S105  a model's token
    TIMEOUT_STALL = "timeout_stall"
    TIMEOUT_TOTAL = "timeout_total"
    TRUNCATED = "truncated"
    STREAM_ERROR = "stream_error"
    PROTOCOL = "protocol"
    EMPTY = "empty"
    DENIED = "denied"
    BUDGET = "budget"
    OTHER = "other"


class Prober(StrEnum):
    """What a module does."""

    RTT = "rtt"
    INFERENCE = "inference"


class Connection(StrEnum):
    """What the probe's clock holds: what happened, not what was intended."""

    COLD = "cold"
    """The opening of the connection, whole or as far as it came."""
    WARM = "warm"
    """The request alone, on a connection that stood before: kept from an earlier probe, or opened beforehand."""


class RttMethod(StrEnum):
    """How a round trip is provoked."""

    TCP = "tcp"
    """A handshake to a literal address, closed at once."""
    HTTP = "http"
    """A HEAD request on a warm connection, to its first response byte."""
    TLS = "tls"
    """A TLS handshake's first flight, ClientHello to ServerHello, on a connection of its own."""
    ICMP = "icmp"
    """An echo request, to its reply."""


class RttSource(StrEnum):
    """Where `rtt_seconds` comes from."""

    TCP_INFO_MIN = "tcp_info_min"
    """Kernel's `tcpi_min_rtt` of the very connection."""
    TCP_INFO = "tcp_info"
    """Kernel's smoothed `tcpi_rtt`, where the kernel keeps no minimum."""
    HANDSHAKE = "handshake"
    """TCP handshake to the literal address."""
    HTTP = "http"
    """Request to first response byte on a warm connection: includes the server's own time."""
    TLS = "tls"
    """ClientHello to ServerHello: includes the server's own time for its key."""
    ICMP = "icmp"
    """Echo request to its reply, which the server's kernel sends."""


class ClockSource(StrEnum):
    """Which clock stamped the request's departure and the arrivals."""

    KERNEL = "kernel"
    """The kernel's, both."""
    USER = "user"
    """The agent's own, for at least one arrival."""
    KERNEL_RECEIVE = "kernel_receive"
    """The kernel's for all arrivals, the agent's own for the request: its network device stamps no departures."""


class TokenSource(StrEnum):
    """Where the number of output tokens comes from: the provider's usage, or counted arrivals."""

    USAGE = "usage"
    ARRIVALS = "arrivals"


class Flag(StrEnum):
    """What could have spoiled a result. Spoiled results are stored, and left out of baselines and live metrics."""

    LATE_START = "late_start"
    LOOP_LAG = "loop_lag"
    """The agent's event loop was held up during the probe."""
    THROTTLED = "throttled"
    """The agent's control group was denied the processor during the probe."""
    CLOCK_UNSYNCHRONIZED = "clock_unsynchronized"
    """The kernel no longer vouches for the agent's wall clock, as it once did."""
    BUFFERED = "buffered"
    BELOW_FLOOR = "below_floor"
    """Never set by a running agent: it takes the locations of both ends. `isochrone-agent probe` may be told them."""
    RETRANSMITS = "retransmits"
