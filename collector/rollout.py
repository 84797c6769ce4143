"""How a revision of the targets goes out: guarded against emptying, by a canary's steps, taken back when it does harm.

    applied --canary 10%--> canary --promote--> 50 % --promote--> everybody
                              |
                              +-- too many failed or silent --> halted: its agents get what the others have

A revision's content never changes: going back is a new revision with the old content. `shrinkage` and `verdict` are
pure; the rest works in a transaction that stands.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

import msgspec

from collector.errors import ConfirmationNeeded, SettingsError, TargetsRefused
from collector.registry import ALL_PERCENT, AgentRow, Registry, items_of, share_of
from collector.store import agent_config, targets
from collector.store.agent_config import ConfigReport
from collector.store.engine import Connection
from collector.store.registry import load_rows
from collector.store.targets import Revision
from isochrone.config import (
    MAX_CONFIG_BYTES,
    AgentConfig,
    Assignment,
    Targets,
    decode_targets,
    encode_config,
)
from isochrone.names import printable
from isochrone.outcome import Connection as ConnectionMode
from isochrone.outcome import Prober

STEPS: Final = (1, 10, 50, ALL_PERCENT)
"""Percent of the agents, from step to step of `targets promote`."""
MAX_SHRINK: Final = 0.5
"""Share of the assigned targets that a new file may take away without a word of confirmation."""
MAX_HARM: Final = 0.05
MIN_HARMED: Final = 2
"""More than this share of the canaries, and at least so many (or all, where there are fewer), halt a canary."""
SILENT_SECONDS: Final = 300.0
"""An agent asks for its configuration every minute: after so long without, it is silent."""
_SHOWN: Final = 5


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a target file: its revision, and whether anything differs from before."""

    revision: int
    etag: str
    changed: bool
    share_percent: int = ALL_PERCENT
    canaries: int | None = None
    """How many agents get it before the others; None: it goes to all."""


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """How a new file shall go out. `share_percent` None: to everybody, but a file that stands already stays so."""

    share_percent: int | None = None
    confirmed: bool = False


def apply_document(connection: Connection, document: Targets, rollout: Rollout | None = None) -> Applied:
    """Make a checked target file the newest; an equal one changes nothing but its share, which only grows.

    Raise ConfirmationNeeded when it takes away most of what is probed, TargetsRefused when an agent could not hold it.
    """
    how = rollout or Rollout()
    canonical = encode_config(document)
    etag = sha256(canonical).hexdigest()
    targets.lock_targets(connection)
    newest = targets.newest_revision(connection)
    if newest is not None and newest.etag == etag and not (newest.halted_at and how.share_percent):
        return _widen(connection, newest, how)
    registry = Registry(load_rows(connection))
    if how.share_percent is None and _stands(connection, registry, etag):
        return Applied(revision=registry.revision, etag=etag, changed=False)
    _check_sizes(registry, document)
    if not how.confirmed and (words := shrinkage(registry, document)) is not None:
        raise ConfirmationNeeded(words)
    return _insert(connection, document, share=how.share_percent or ALL_PERCENT)


def promote(connection: Connection) -> Applied:
    """Give the open canary to the next step's share of the agents; raise SettingsError without one."""
    targets.lock_targets(connection)
    newest = targets.newest_revision(connection)
    if newest is None or newest.share_percent >= ALL_PERCENT:
        raise SettingsError("no canary is open: isochrone-collector targets apply FILE --canary 10%")
    if newest.halted_at is not None:
        raise SettingsError(f"revision {newest.revision} was halted: {newest.halt_reason}: mend the file and apply it")
    step = next(step for step in STEPS if step > newest.share_percent)
    return _widen(connection, newest, Rollout(share_percent=step))


def roll_back(connection: Connection, revision: int | None, *, confirmed: bool) -> Applied:
    """Apply the content of an earlier revision as a new one; None: that before the newest.

    A canary, open or halted, is left for what the others have. Raise SettingsError for a revision that is not there.
    """
    targets.lock_targets(connection)
    found = targets.find_revision(connection, _before(connection) if revision is None else revision)
    if found is None:
        raise SettingsError(f"there is no revision {revision}: isochrone-collector targets show")
    document = read_document(found)
    registry = Registry(load_rows(connection))
    if not confirmed and (words := shrinkage(registry, document)) is not None:
        raise ConfirmationNeeded(words)
    return _insert(connection, document, share=ALL_PERCENT)


def halt_if_harmful(connection: Connection, now: datetime, *, heard_since: datetime | None = None) -> str | None:
    """Halt the open canary when it does harm, and return why; None otherwise, or when another collector looks at it.

    `heard_since`: since when the collector has listened without a break; None: for long.
    """
    if not targets.try_canary_lock(connection):
        return None
    targets.lock_targets(connection)  # a file that is applied meanwhile must not be undone by what stood before it
    registry = Registry(load_rows(connection))
    if registry.canary is None:
        return None
    number = registry.canary.revision
    reports = agent_config.list_reports(connection)
    if heard_since is not None and heard_since > now - timedelta(seconds=SILENT_SECONDS):
        # Nobody is silent who could not be heard: an outage of the collector speaks against no configuration.
        reports = [msgspec.structs.replace(one, reported_at=now) for one in reports]
    reason = verdict(number, registry.canaries, reports, now=now)
    if reason is None or not targets.halt_revision(connection, number, reason=reason):
        return None
    if (standing := targets.find_revision(connection, registry.revision)) is not None:
        put_dictionaries(connection, read_document(standing))
    return f"revision {number}: {reason}"


def verdict(revision: int, members: frozenset[int], reports: Iterable[ConfigReport], *, now: datetime) -> str | None:
    """Return why a canary must not go on, or None."""
    concerned = [one for one in reports if one.agent_id in members]
    failed = [one for one in concerned if one.failed == revision]
    late = now - timedelta(seconds=SILENT_SECONDS)
    silent = [one for one in concerned if one.given == revision and one.reported_at < late]
    if _too_many(len(failed), len(members)):
        return printable(f"{len(failed)} of {len(members)} canaries gave it up: {failed[0].reason}")
    if _too_many(len(silent), len(members)):
        return f"{len(silent)} of {len(members)} canaries fell silent after they got it"
    return None


def shrinkage(registry: Registry, document: Targets) -> str | None:
    """Return what `document` takes away when that needs a confirmation; None when it does not."""
    before, after = _assigned(_standing(registry), document, registry.rows.agents)
    if not before or (len(after) >= (1 - MAX_SHRINK) * len(before) and items_of(document)):
        return None
    gone = sorted({f"{endpoint} {module}" for _, endpoint, module in before - after})
    more = f" and {len(gone) - _SHOWN} more" if len(gone) > _SHOWN else ""
    count = f"{len(before) - len(before & after)} of {len(before)} assigned targets"
    return (
        f"this file takes away {count}: {', '.join(gone[:_SHOWN])}{more}: confirm it with --confirm, as in"
        " isochrone-collector targets apply FILE --confirm"
    )


def read_document(revision: Revision) -> Targets:
    """Return a revision's content; raise SettingsError for one of another release."""
    try:
        return decode_targets(revision.document.encode())
    except ValueError as exc:
        text = f"targets of revision {revision.revision} are of another release: apply a file of this one, or upgrade"
        raise SettingsError(f"{text}: {printable(str(exc))}") from exc


def put_dictionaries(connection: Connection, document: Targets) -> None:
    """Bring regions, endpoints, modules and targets to what a file says."""
    items = items_of(document)
    targets.put_regions(connection, document.regions)
    targets.put_endpoints(connection, items)
    targets.put_modules(connection, list(document.modules))
    for item in items:
        for name in item.modules:
            model = getattr(item, "model", None)
            targets.put_target(connection, item.name, name, model=model, mode=_mode(document, name))


def _insert(connection: Connection, document: Targets, *, share: int) -> Applied:
    canonical = encode_config(document)
    etag = sha256(canonical).hexdigest()
    put_dictionaries(connection, document)
    revision = targets.insert_revision(connection, etag=etag, document=canonical.decode(), share_percent=share)
    return _applied(connection, revision, etag, share=share)


def _widen(connection: Connection, newest: Revision, how: Rollout) -> Applied:
    share = newest.share_percent if how.share_percent is None else max(newest.share_percent, how.share_percent)
    if share == newest.share_percent:
        return Applied(revision=newest.revision, etag=newest.etag, changed=False, share_percent=share)
    targets.widen_revision(connection, newest.revision, share_percent=share)
    return _applied(connection, newest.revision, newest.etag, share=share)


def _applied(connection: Connection, revision: int, etag: str, *, share: int) -> Applied:
    members = None
    if share < ALL_PERCENT:
        members = len(Registry(load_rows(connection)).canaries)
    return Applied(revision=revision, etag=etag, changed=True, share_percent=share, canaries=members)


def _stands(connection: Connection, registry: Registry, etag: str) -> bool:
    """Tell whether the file is what everybody has, beside a canary of another: reading it again must not end that."""
    standing = targets.find_revision(connection, registry.revision)
    return standing is not None and standing.etag == etag


def _before(connection: Connection) -> int:
    released = [row.revision for row in load_rows(connection).revisions if row.released]
    newest = targets.newest_revision(connection)
    if newest is not None and released and newest.revision != released[0]:
        return released[0]
    if len(released) < 2:  # noqa: PLR2004  the present one and one before it
        raise SettingsError("there is no revision before the present one: isochrone-collector targets show")
    return released[1]


def _standing(registry: Registry) -> Targets | None:
    return None if registry.released is None else decode_targets(registry.released.document.encode())


def _assigned(
    standing: Targets | None, document: Targets, agents: tuple[AgentRow, ...]
) -> tuple[set[tuple[str, str, str]], set[tuple[str, str, str]]]:
    """Return (agent, endpoint, module) before and after; without agents that have any, what the files name."""
    if standing is None:
        return set(), set()
    before = {(a.name, t.endpoint, t.module) for a in agents for t in share_of(standing, a)}
    after = {(a.name, t.endpoint, t.module) for a in agents for t in share_of(document, a)}
    return (before, after) if before else (_named(standing), _named(document))


def _named(document: Targets) -> set[tuple[str, str, str]]:
    return {("", item.name, name) for item in items_of(document) for name in item.modules}


def _check_sizes(registry: Registry, document: Targets) -> None:
    """Refuse a file of which an agent's share is longer than agents take."""
    for agent in registry.rows.agents:
        share: tuple[Assignment, ...] = share_of(document, agent)
        config = AgentConfig(revision=0, agent=agent.name, agent_region=agent.region.name, targets=share)
        size = len(encode_config(config)) + 20
        if size > MAX_CONFIG_BYTES:
            raise TargetsRefused((f"agent {agent.name} would get {size} bytes, more than {MAX_CONFIG_BYTES}",))


def _too_many(harmed: int, members: int) -> bool:
    return harmed > MAX_HARM * members and harmed >= min(MIN_HARMED, members)


def _mode(document: Targets, module: str) -> ConnectionMode | None:
    options = document.modules[module]
    if options.prober is not Prober.INFERENCE:
        return None
    return ConnectionMode.COLD if options.inference is None else options.inference.connection
