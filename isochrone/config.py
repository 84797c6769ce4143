"""What to probe: the model of the target file, and each agent's share of it on the wire.

One document holds modules (how), endpoints and sites (what), regions (from where). `Duration`s are written `30s` in the
file and are seconds here. Rules across fields live in `isochrone.configcheck`.
"""

from enum import StrEnum
from typing import Annotated, Final, Literal, Self

import msgspec

from isochrone.durations import format_duration, parse_duration
from isochrone.names import MAX_SECONDS, Count, Latitude, Longitude, Model, Name, Seconds, Text, printable
from isochrone.outcome import Connection, Prober, RttMethod


class Duration(float):
    """Seconds, at most `MAX_SECONDS`, written as `500ms`, `30s`, `5m`, `1h`, `1d`."""

    @classmethod
    def parse(cls, text: object) -> Self:
        """Return the duration that `text` says; raise ValueError that tells the form."""
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is not a duration: write a number and a unit, as in 500ms, 30s, 5m, 1h, 1d")  # noqa: TRY004  msgspec turns ValueError into its own error with the path
        seconds = parse_duration(text)
        if seconds > MAX_SECONDS:
            raise ValueError(f"{text!r} is longer than {format_duration(MAX_SECONDS)}, the longest duration here")
        return cls(seconds)


class Provider(StrEnum):
    """The wire formats that this release speaks."""

    OPENAI = "openai"
    OPENAI_COMPLETIONS = "openai-completions"
    OPENAI_RESPONSES = "openai-responses"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    BEDROCK = "bedrock"
    AZURE_OPENAI = "azure-openai"
    OLLAMA = "ollama"
    COHERE = "cohere"
    TGI = "tgi"
    TRITON = "triton"


Url = Annotated[str, msgspec.Meta(max_length=2_000)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
Price = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
Country = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{2}\Z")]
Glob = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9*?\[\]!._/-]{1,64}\Z")]
IpVersion = Literal[4, 6]
EnvironmentName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z", max_length=128)]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of everything in the file: unknown keys are refused."""


class RttOptions(_Strict, frozen=True, kw_only=True):
    """How the `rtt` prober works."""

    method: RttMethod = RttMethod.TCP
    count: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5
    """Samples in one probe."""
    spacing: Duration = Duration(0.2)
    """From the start of one sample to the start of the next."""


class InferenceOptions(_Strict, frozen=True, kw_only=True):
    """How the `inference` prober works."""

    connection: Connection = Connection.COLD
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1, le=4_096)] = 32
    first_token_timeout: Duration = Duration(30)
    """From the request to the first token of any channel."""
    stall_timeout: Duration = Duration(10)
    """Between two arrivals."""


class Module(_Strict, frozen=True, kw_only=True):
    """How to probe, and how often."""

    prober: Prober
    interval: Duration
    timeout: Duration
    rtt: RttOptions | None = None
    inference: InferenceOptions | None = None


class ApiKey(_Strict, frozen=True, kw_only=True):
    """Where the agent finds a key: the key itself never stands in a configuration."""

    env: EnvironmentName | None = None
    file: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)] | None = None


class Location(_Strict, frozen=True, kw_only=True):
    """Where an endpoint stands: `region` is its label `endpoint_region`; degrees north and east."""

    region: Name
    latitude: Latitude | None = None
    longitude: Longitude | None = None


class TokenPrice(_Strict, frozen=True, kw_only=True):
    """US dollars per million tokens."""

    input_per_million: Price
    output_per_million: Price


class Budget(_Strict, frozen=True, kw_only=True):
    """What one agent may spend on one endpoint in one UTC day."""

    tokens_per_day: Annotated[int, msgspec.Meta(ge=1, le=10**12)] | None = None
    usd_per_day: Positive | None = None


class Selector(_Strict, frozen=True, kw_only=True):
    """Which agents probe: every condition given must hold; none given means all agents."""

    names: tuple[Glob, ...] | None = None
    regions: tuple[Glob, ...] | None = None
    labels: dict[str, str] | None = None


class Endpoint(_Strict, frozen=True, kw_only=True):
    """An inference endpoint."""

    name: Name
    url: Url
    provider: Provider
    model: Model
    modules: tuple[Name, ...]
    api_key: ApiKey | None = None
    location: Location | None = None
    price: TokenPrice | None = None
    budget: Budget | None = None
    agents: Selector = Selector()
    ip_version: IpVersion | None = None
    """The only version that is dialled. It stands here and not at the module: series are one endpoint's, and the two
    ways must not meet in one. None: IPv4 where the name has it."""
    http2: bool = False
    """Speak HTTP/2, agreed on by ALPN, instead of HTTP/1.1: https alone."""
    simulated: bool = False
    """The endpoint is `isochrone-agent simulate`: tables say so."""


class Site(_Strict, frozen=True, kw_only=True):
    """A candidate placement: an address without a model, probed by `rtt` modules alone."""

    name: Name
    url: Url
    modules: tuple[Name, ...]
    location: Location | None = None
    agents: Selector = Selector()
    ip_version: IpVersion | None = None
    """As of an endpoint."""


class Region(_Strict, frozen=True, kw_only=True):
    """A user population. `weight` is its share of the users."""

    name: Name
    latitude: Latitude
    longitude: Longitude
    country: Country | None = None
    weight: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None


class Targets(_Strict, frozen=True, kw_only=True):
    """The whole file."""

    modules: dict[Name, Module]
    endpoints: tuple[Endpoint, ...] = ()
    sites: tuple[Site, ...] = ()
    regions: tuple[Region, ...] = ()


class Assignment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One target of one agent: an endpoint (or site) with one module."""

    endpoint: Name
    module: Name
    url: Url
    options: Module
    provider: Provider | None = None
    """None for a site: only `rtt` modules apply."""
    model: Model | None = None
    api_key: ApiKey | None = None
    price: TokenPrice | None = None
    budget: Budget | None = None
    ip_version: IpVersion | None = None
    http2: bool = False


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/agent/config`: what this agent shall probe."""

    revision: Count
    agent: Name
    agent_region: Name
    targets: tuple[Assignment, ...]


class ConfigState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an agent says of its configuration with each `GET /v1/agent/config`, in the header `STATE_HEADER`."""

    running: Count | None = None
    """The revision that is probed; None: the agent idles."""
    probation: bool = False
    """`running` is still tried: it may be given up for the last known good one."""
    received: Count | None = None
    """The newest revision that came, good or not."""
    failed: Count | None = None
    """The revision that was given up, as long as it is the newest that came."""
    reason: Text | None = None
    """Why it was given up."""
    age_seconds: Seconds | None = None
    """Since the collector last confirmed a configuration."""


STATE_HEADER: Final = "isochrone-config-state"
MAX_STATE_BYTES: Final = 1_000
MAX_CONFIG_BYTES: Final = 256 * 1024
PROVIDERS: Final = tuple(p.value for p in Provider)


def dec_hook(kind: type, value: object) -> object:
    """Decode what msgspec does not know: durations."""
    if kind is Duration:
        return Duration.parse(value)
    raise NotImplementedError(f"{kind!r} has no decoding")


def enc_hook(value: object) -> object:
    """Encode what msgspec does not know: durations."""
    if isinstance(value, Duration):
        return format_duration(value)
    raise NotImplementedError(f"{type(value)!r} has no encoding")


_encoder = msgspec.json.Encoder(enc_hook=enc_hook, order="deterministic")
_agent_decoder = msgspec.json.Decoder(AgentConfig, dec_hook=dec_hook)
_targets_decoder = msgspec.json.Decoder(Targets, dec_hook=dec_hook)
_state_decoder = msgspec.json.Decoder(ConfigState)


def encode_config(config: AgentConfig | Targets) -> bytes:
    """Return canonical JSON: equal configurations give equal bytes."""
    return _encoder.encode(config)


def decode_agent_config(data: bytes) -> AgentConfig:
    """Return an agent's share; raise ValueError naming the path."""
    try:
        return _agent_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ValueError(str(exc)) from exc


def decode_targets(data: bytes) -> Targets:
    """Return a stored target document; raise ValueError naming the path."""
    try:
        return _targets_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ValueError(str(exc)) from exc


def encode_state(state: ConfigState) -> str:
    """Return the header's value: JSON in printable ASCII, what is beyond it replaced by `?`."""
    reason = None if state.reason is None else printable(state.reason.encode("ascii", "replace").decode())
    return msgspec.json.encode(msgspec.structs.replace(state, reason=reason)).decode().replace("\u2026", "...")


def decode_state(header: str | None) -> ConfigState | None:
    """Return what the header says; None without one, or when it says nothing that can be read."""
    if header is None or len(header) > MAX_STATE_BYTES:
        return None
    try:
        return _state_decoder.decode(header)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
