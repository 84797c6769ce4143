"""What the operator of this agent lets a collector ask for. Pure: no socket, no clock, no file.

    refused     another scheme, an origin that is not in `allow`, a private address, a setting as a key, a key elsewhere
    narrowed    an interval below `min_interval`, more output tokens than `max_output_tokens`
    spent       requests, tokens and dollars of a day: `agent.budget` keeps the count

A configuration from outside can only narrow what stands here. A target that is refused is not attempted: each probe of
it becomes a result `denied` whose reason says what would have to be written where.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, Self

import msgspec

from agent.addresses import METADATA, Ip, Network, is_metadata, parse_literal, special_kind, unwrapped
from agent.bindings import Bindings
from agent.config import ENVIRONMENT_PREFIX, Origin, Settings, parse_origin
from isochrone.config import AgentConfig, Assignment, Duration, InferenceOptions
from isochrone.durations import format_duration
from isochrone.outcome import Prober

LOCALHOST: Final = "localhost"
"""RFC 6761 6.3: it, and every name below it, is the machine itself."""


class Reviewed(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration as it is carried out, and what the policy made of it, a line for each."""

    config: AgentConfig
    """All targets, those that are refused too: their probes say so."""
    refused: tuple[str, ...]
    narrowed: tuple[str, ...]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's word. The fields are settings of the same names."""

    allow: tuple[str, ...] = ()
    allow_private: tuple[str, ...] = ()
    keys: dict[str, tuple[str, ...]] | None = None
    min_interval: float = 0.0
    max_output_tokens: int | None = None
    max_usd_per_day: float | None = None
    min_usd_per_million_tokens: float | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return what `settings` say."""
        return cls(**{name: getattr(settings, name) for name in cls.__struct_fields__})

    def problems(self, target: Assignment) -> list[str]:
        """Return why `target` may not be probed, each in one line that says what to do; empty if it may."""
        try:
            origin = parse_origin(target.url)
        except ValueError as exc:
            return [str(exc)]
        found = (self._origin_problem(origin), self._literal_problem(origin), *self._spending_problems(target, origin))
        return [problem for problem in found if problem is not None]

    def narrowed(self, target: Assignment) -> Assignment:
        """Return `target` within the ceilings; itself where it is."""
        options = target.options
        if options.interval < self.min_interval:
            options = msgspec.structs.replace(options, interval=Duration(self.min_interval))
        asked = options.inference or InferenceOptions()
        most = self.max_output_tokens
        if options.prober is Prober.INFERENCE and most is not None and asked.max_output_tokens > most:
            options = msgspec.structs.replace(options, inference=msgspec.structs.replace(asked, max_output_tokens=most))
        return target if options is target.options else msgspec.structs.replace(target, options=options)

    def cuts(self, target: Assignment) -> list[str]:
        """Return what `narrowed` changes, each in one line."""
        within = self.narrowed(target).options
        cuts = []
        if within.interval != target.options.interval:
            asked, given = (format_duration(options.interval) for options in (target.options, within))
            cuts.append(f"interval {asked} becomes {given} by this agent's policy (min_interval)")
        if within.inference != target.options.inference and within.inference is not None:
            asked_tokens = (target.options.inference or InferenceOptions()).max_output_tokens
            given_tokens = within.inference.max_output_tokens
            cuts.append(f"max_output_tokens {asked_tokens} becomes {given_tokens} by this agent's policy")
        return cuts

    def review(self, config: AgentConfig) -> Reviewed:
        """Return `config` within the ceilings, with what was refused and what was changed."""
        refused, narrowed = [], []
        for target in config.targets:
            place = f"{target.endpoint} {target.module}"
            refused += [f"{place}: {problem}" for problem in self.problems(target)]
            narrowed += [f"{place}: {cut}" for cut in self.cuts(target)]
        targets = tuple(self.narrowed(target) for target in config.targets)
        within = msgspec.structs.replace(config, targets=targets)
        return Reviewed(config=within, refused=tuple(refused), narrowed=tuple(narrowed))

    def address_refusal(self, origin: Origin, addresses: Iterable[str]) -> str | None:
        """Return why `origin` may not be dialled at `addresses`, the whole answer of its look-up; None if it may."""
        for text in addresses:
            address = unwrapped(ip_address(text))
            kind = special_kind(address)
            if kind is not None and not self._opens(origin, address):
                return _private(origin, address, kind)
        return None

    def _origin_problem(self, origin: Origin) -> str | None:
        if not self.allow or str(origin) in self.allow:
            return None
        return f"{origin} is not in this agent's allow-list: add it to allow in the agent's policy (ISOCHRONE_ALLOW)"

    def _literal_problem(self, origin: Origin) -> str | None:
        """Tell early what the look-up would tell later."""
        literal = parse_literal(origin.host)
        if literal is not None:
            return self.address_refusal(origin, (str(literal),))
        return self.address_refusal(origin, ("127.0.0.1",)) if _is_localhost(origin.host) else None

    def _spending_problems(self, target: Assignment, origin: Origin) -> tuple[str | None, ...]:
        return (self._key_problem(target, origin), self._price_problem(target))

    def _key_problem(self, target: Assignment, origin: Origin) -> str | None:
        """Return why the key may not go there. A round trip carries none: there, only a setting as a key is refused."""
        key = target.api_key
        if key is None:
            return None
        if key.env is not None and key.env.upper().startswith(ENVIRONMENT_PREFIX):
            return f"api_key names {key.env}, a setting of the agent itself"
        if self.keys is None or target.options.prober is not Prober.INFERENCE:
            return None
        return Bindings(self.keys).refusal(key, str(origin))

    def _price_problem(self, target: Assignment) -> str | None:
        is_free = target.options.prober is not Prober.INFERENCE or self.max_usd_per_day is None
        if is_free or target.price is not None or self.min_usd_per_million_tokens is not None:
            return None
        return (
            "no price, and this agent has max_usd_per_day: give the endpoint a price, or the policy "
            "min_usd_per_million_tokens"
        )

    def _opens(self, origin: Origin, address: Ip) -> bool:
        """Tell whether the operator wrote this very address, its network, or its name, which opens no metadata."""
        if str(origin) in self.allow and _names(origin.host, address):
            return True
        if origin.host in self.allow_private and not is_metadata(address):
            return True
        return any(_covers(network, address) for network in map(_network, self.allow_private) if network is not None)


def _names(host: str, address: Ip) -> bool:
    """Tell whether `host` is the address itself, or localhost for a loopback address."""
    literal = parse_literal(host)
    if literal is not None:
        return unwrapped(literal) == address
    return _is_localhost(host) and address.is_loopback


def _covers(network: Network, address: Ip) -> bool:
    """Tell whether `network` opens `address`: a wide one opens no metadata address, that takes a network of those."""
    if address not in network:
        return False
    return not is_metadata(address) or any(_within(network, metadata) for metadata in METADATA)


def _within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, IPv4Network) and isinstance(outer, IPv4Network):
        return inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def _network(text: str) -> Network | None:
    try:
        return ip_network(text)
    except ValueError:  # a name
        return None


def _is_localhost(host: str) -> bool:
    name = host.rstrip(".")
    return name == LOCALHOST or name.endswith(f".{LOCALHOST}")


def _private(origin: Origin, address: Ip, kind: str) -> str:
    what = origin.host if origin.host == str(address) else f"{origin.host} stands for {address}, which"
    return f'{what} is {kind}: to let it be probed write allow_private = ["{address}"] into this agent\'s policy'
