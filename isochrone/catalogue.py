"""The catalogue of cloud regions and edge cities: look one up by name, or guess it from a host name. Pure.

It is read on first use and costs half a megabyte: a long-running agent must not import this module.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from typing import Final

import msgspec

from isochrone.regiondata import BLOCKS, Block

_NEAR: Final = 3
_CITY_METERS: Final = 25_000.0
_COARSE_METERS: Final = dict.fromkeys(("azure", "gcp"), 150_000.0)
"""Their own lists give the middle of a state or a country in places: azure/uksouth lies 78 km from London."""

_HOSTS: Final = {
    "aws": ("amazonaws.com", "amazonaws.com.cn", "api.aws", "on.aws"),
    "gcp": ("googleapis.com", "run.app", "cloudfunctions.net", "pkg.dev"),
    "azure": (
        "azure.com",
        "azure.net",
        "azure-api.net",
        "azurecontainerapps.io",
        "azurewebsites.net",
        "cognitive.microsoft.com",
        "windows.net",
    ),
    "akamai-linode": ("linode.com", "linodeobjects.com"),
    "hetzner": ("hetzner.com", "your-objectstorage.com"),
    "ovh": ("ovh.net", "ovh.us", "ovh.ca"),
}
"""The domains under which a provider writes its regions into host names. Elsewhere a name says nothing for certain."""


class Kind(StrEnum):
    """What stands at a place."""

    REGION = "region"
    """Servers under addresses of their own."""
    BEHIND_ANYCAST = "behind-anycast"
    """Servers that are reached through the provider's nearest edge."""
    EDGE = "edge"
    """A front end that shares its address with the others: it ends connections, and runs no model."""


class Region(msgspec.Struct, frozen=True, kw_only=True):
    """One place of one provider."""

    provider: str
    region: str
    city: str
    country: str
    """ISO 3166-1 alpha-2."""
    latitude: float
    longitude: float
    ping_url: str | None
    """A public URL that the place itself answers (an edge: whichever is near); None where none is known."""
    kind: Kind
    region_source: str
    coordinates_source: str
    ping_source: str

    @property
    def name(self) -> str:
        """Return the full name, as in `aws/eu-central-1`."""
        return f"{self.provider}/{self.region}"

    @property
    def doubt_meters(self) -> float:
        """Return how far from these coordinates the place may stand."""
        return _COARSE_METERS.get(self.provider, _CITY_METERS)


@cache
def regions() -> tuple[Region, ...]:
    """Return the whole catalogue, provider by provider."""
    return tuple(_region(block, line) for block in BLOCKS for line in block[-1].splitlines())


def find(name: str) -> Region:
    """Return the place called `name`: `aws/eu-central-1`, or `eu-central-1` where one provider alone has it.

    Case does not count. Raises ValueError with what was meant, perhaps.
    """
    found = _named(name)
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{name!r} is the name of several regions: write {_either(one.name for one in found)}")
    near = _near(name)
    raise ValueError(f"{name!r} is no region of the catalogue" + (f": did you mean {_either(near)}?" if near else ""))


def match(text: str) -> Region | None:
    """Return the region that a provider means by `text` ("East US", "us-east-1"); None when that is not certain."""
    found = [one for one in _named(text.replace(" ", "")) if one.kind is not Kind.EDGE]
    return found[0] if len(found) == 1 else None


def edge(airport: str) -> Region | None:
    """Return Cloudflare's edge by the airport code that ends a `cf-ray`; None when it is not known."""
    found = _named(f"cloudflare/{airport}")
    return found[0] if found else None


def guess(host: str) -> Region | None:
    """Return the region that stands in a cloud's host name; None when there is none, or more than one."""
    name = host.lower().rstrip(".")
    for provider, domains in _HOSTS.items():
        if any(name.endswith(f".{domain}") for domain in domains):
            inside = set(_pattern(provider).findall(name))
            return find(f"{provider}/{inside.pop()}") if len(inside) == 1 else None
    return None


def _region(block: Block, line: str) -> Region:
    provider, kind, (region_source, coordinates_source, ping_source), url, _ = block
    region, city, country, latitude, longitude, *more = line.split("|")
    own_url, own_source = [*more, "", ""][:2]
    return Region(
        provider=provider,
        region=region,
        city=city,
        country=country,
        latitude=float(latitude),
        longitude=float(longitude),
        ping_url=own_url or url.format(region) or None,
        kind=Kind(kind),
        region_source=region_source,
        coordinates_source=own_source or coordinates_source,
        ping_source=ping_source,
    )


@cache
def _by_name() -> dict[str, tuple[Region, ...]]:
    index: dict[str, tuple[Region, ...]] = {}
    for one in regions():
        for name in (one.name.lower(), one.region.lower()):
            index[name] = (*index.get(name, ()), one)
    return index


def _named(name: str) -> tuple[Region, ...]:
    return _by_name().get(name.strip().lower(), ())


def _near(name: str) -> list[str]:
    there = [one.name for one in regions() if one.city.lower() == name.strip().lower()]
    if there:
        return there[:_NEAR]
    close = get_close_matches(name.strip().lower(), _by_name(), n=_NEAR)
    return list(dict.fromkeys(one.name for known in close for one in _by_name()[known]))[:_NEAR]


def _either(names: Iterable[str]) -> str:
    return " or ".join(names)


@cache
def _pattern(provider: str) -> re.Pattern[str]:
    """Match a region between anything but letters and digits: eastus2 is not eastus."""
    names = (re.escape(one.region) for one in regions() if one.provider == provider)
    return re.compile(rf"(?<![a-z0-9])(?:{'|'.join(names)})(?![a-z0-9])")
