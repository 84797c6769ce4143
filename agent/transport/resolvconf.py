"""How this system looks names up: /etc/resolv.conf, /etc/hosts and /etc/nsswitch.conf, read anew when they change.

`SystemFiles.plan` says whom to ask for a name by ourselves, or None where only the system's own way gives its answer.
"""

import ipaddress
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

MAX_SERVERS: Final = 3
"""resolv.conf(5), MAXNS."""
DEFAULT_TIMEOUT_SECONDS: Final = 5
DEFAULT_ATTEMPTS: Final = 2
MAX_ATTEMPTS: Final = 5
"""resolv.conf(5). A timeout is bounded by the default: the probe waits no longer for a name than twice that."""
MAX_NDOTS: Final = 15
MAX_SEARCH: Final = 32
MAX_FILE_BYTES: Final = 4 * 1024 * 1024

_OVERRIDES: Final = ("RES_OPTIONS", "LOCALDOMAIN")
"""Environment that changes resolv.conf: resolv.conf(5)."""
_FOREIGN_OPTIONS: Final = frozenset({"use-vc", "no-aaaa"})
"""What the system does and we do not."""
_NUMERIC: Final = re.compile(r"(?:^|\.)(?:\d+|0x[0-9a-f]*)$")
"""`127.1`, `0x7f000001`: an address to the system, not a name."""


class ResolvConf(msgspec.Struct, frozen=True, kw_only=True):
    """What /etc/resolv.conf says."""

    servers: tuple[str, ...]
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout_seconds: int = DEFAULT_TIMEOUT_SECONDS
    attempts: int = DEFAULT_ATTEMPTS
    plain: bool = True
    """False: it has an option that only the system knows."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to ask, and for what."""

    names: tuple[str, ...]
    """Absolute names in their order; the next one counts only if there is no such name before."""
    servers: tuple[str, ...]
    timeout_seconds: int
    attempts: int


def parse_resolv_conf(text: str) -> ResolvConf:
    """Return what `text` says; what is not understood is passed over, as the system does."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: dict[str, str] = {}
    for line in text.splitlines():
        match line.split():
            case ["nameserver", server, *_]:
                servers.append(server)
            case ["search" | "domain", *domains]:
                search = tuple(domain.rstrip(".") for domain in domains)[:MAX_SEARCH]
            case ["options", *words]:
                options.update((name, value) for name, _, value in (word.partition(":") for word in words))
            case _:
                pass
    return ResolvConf(
        servers=tuple(server for server in servers[:MAX_SERVERS] if _is_address(server)) or ("127.0.0.1",),
        search=tuple(domain for domain in search if domain),
        ndots=_number(options.get("ndots"), default=1, low=0, high=MAX_NDOTS),
        timeout_seconds=_number(
            options.get("timeout"), default=DEFAULT_TIMEOUT_SECONDS, low=1, high=DEFAULT_TIMEOUT_SECONDS
        ),
        attempts=_number(options.get("attempts"), default=DEFAULT_ATTEMPTS, low=1, high=MAX_ATTEMPTS),
        plain=not _FOREIGN_OPTIONS & set(options),
    )


def asks_dns(nsswitch: str) -> bool:
    """Return whether names that are not in /etc/hosts go straight to DNS, by the `hosts:` line of nsswitch.conf.

    Another service before it may know the name, and `[NOTFOUND=return]` may end the search. No such line: they do.
    """
    lines = (line.partition("#")[0].strip() for line in nsswitch.splitlines())
    services = next((line.partition(":")[2] for line in lines if re.match(r"hosts\s*:", line)), "dns files")
    words = re.findall(r"\[[^]]*\]|[^][\s]+", services.lower())
    if "dns" not in words:
        return False
    before = words[: words.index("dns")]
    return all(word == "files" or (word.startswith("[") and "return" not in word) for word in before)


class SystemFiles:
    """The three files in `folder`; what they say is kept until one of them changes."""

    def __init__(self, folder: Path = Path("/etc"), *, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        self._resolv_conf = _Watched(folder / "resolv.conf")
        self._hosts = _Watched(folder / "hosts")
        self._nsswitch = _Watched(folder / "nsswitch.conf")

    def plan(self, host: str) -> Plan | None:
        """Return whom to ask for `host`; None: the system's own way alone gives its answer."""
        if sys.platform != "linux" or any(name in self._environment for name in _OVERRIDES):
            return None
        name = host.lower().removesuffix(".")
        if "." not in name or _NUMERIC.search(name) or name.endswith(".localhost"):
            return None
        resolv_conf, hosts, nsswitch = self._resolv_conf.text(), self._hosts.text(""), self._nsswitch.text("")
        if resolv_conf is None or hosts is None or nsswitch is None:
            return None
        if not asks_dns(nsswitch) or re.search(rf"\s{re.escape(name)}\.?(?:\s|#|$)", hosts, re.IGNORECASE):
            return None
        return _plan(parse_resolv_conf(resolv_conf), name, absolute=host.endswith("."))


def _plan(conf: ResolvConf, name: str, *, absolute: bool) -> Plan | None:
    if not conf.plain:
        return None
    searched = () if absolute or name.count(".") >= conf.ndots else conf.search
    names = (*(f"{name}.{domain}" for domain in searched), name)
    return Plan(names=names, servers=conf.servers, timeout_seconds=conf.timeout_seconds, attempts=conf.attempts)


class _Watched:
    """One file's text, read anew when the file is another one or has another time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._text: str | None = None

    def text(self, missing: str | None = None) -> str | None:
        """Return the text, `missing` where there is no such file, None where it cannot be read or is too long."""
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_size)
            if seen != self._seen:
                self._text = self._path.read_text("utf-8", "replace") if status.st_size <= MAX_FILE_BYTES else None
                self._seen = seen
        except FileNotFoundError:
            return missing
        except OSError:
            return None
        return self._text


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _number(text: str | None, *, default: int, low: int, high: int) -> int:
    return min(high, max(low, int(text))) if text is not None and re.fullmatch(r"\d{1,6}", text) else default
