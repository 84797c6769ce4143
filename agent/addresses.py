"""Which addresses belong to the public internet, and which to a machine, its network or its cloud. Pure.

`ipaddress` alone does not say it: for it, multicast, site-local addresses, and IPv4 addresses wrapped in IPv6 (6to4,
NAT64) are global. So an address is unwrapped first; public is then what is global and nothing else besides.
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Ip = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

METADATA: Final[tuple[Network, ...]] = (
    ip_network("169.254.0.0/16"),  # RFC 3927; AWS, Azure, Google, Oracle and others serve credentials at .169.254
    ip_network("fe80::/10"),  # RFC 4291 2.5.6
    ip_network("fd00:ec2::/32"),  # AWS: instance metadata by IPv6
    ip_network("100.100.100.200/32"),  # Alibaba Cloud
    ip_network("192.0.0.192/32"),  # Oracle Cloud
)
"""Where machines of a cloud find their credentials, link-local addresses all of them included."""
_NAT64: Final = IPv6Network("64:ff9b::/96")
"""RFC 6052 2.1. (64:ff9b:1::/48 is local by its definition, RFC 8215, and stays private.)"""
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]*|\d+", re.ASCII)
_MOST_PARTS: Final = 4


def unwrapped(address: Ip) -> Ip:
    """Return the IPv4 address that an IPv6 address stands for (mapped, 6to4, NAT64), else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_metadata(address: Ip) -> bool:
    """Tell whether a machine's credentials may be served there, or the address is link-local."""
    return any(address in network for network in METADATA)


def special_kind(address: Ip) -> str | None:
    """Return what an unwrapped address is, as in "a loopback address"; None for a public one."""
    if is_metadata(address):
        return "a link-local or metadata address"
    if address.is_loopback:
        return "a loopback address"
    if address.is_multicast:
        return "a multicast address"
    is_local = isinstance(address, IPv6Address) and address.is_site_local
    if not address.is_global or is_local:
        return "an address of this host" if address.is_unspecified else "a private address"
    return "a reserved address" if address.is_reserved else None


def parse_literal(host: str) -> Ip | None:
    """Return the address that `host` is, also in the forms that the system's look-up understands (inet_aton(3)).

    Those are decimal, octal and hexadecimal numbers, one to four of them. None: `host` is a name.
    """
    try:
        return ip_address(host)
    except ValueError:
        return _by_numbers(host.rstrip("."))


def _by_numbers(host: str) -> IPv4Address | None:
    parts = host.split(".")
    if len(parts) > _MOST_PARTS or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    try:
        *heads, last = [_number(part) for part in parts]
    except ValueError:  # 08: no octal number
        return None
    if any(head > 0xFF for head in heads) or last >= 256 ** (_MOST_PARTS - len(heads)):  # noqa: PLR2004  a byte each
        return None
    return IPv4Address(sum(head << 8 * (3 - place) for place, head in enumerate(heads)) + last)


def _number(part: str) -> int:
    if part[:2] in {"0x", "0X"}:
        return int(part[2:] or "0", 16)
    return int(part, 8 if part.startswith("0") else 10)
