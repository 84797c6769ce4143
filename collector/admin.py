"""What commands do: plain functions, each in one transaction; `isochrone-collector up` calls them too."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from collector import rollout as rollout_steps
from collector.auth import new_credential
from collector.errors import NameTaken, SettingsError, TargetsRefused
from collector.fleet import FleetRow, View, overview
from collector.registry import ALL_PERCENT, Registry
from collector.rollout import Applied, Rollout, apply_document, read_document
from collector.store import agent_config, agents, distribution, migration, targets
from collector.store.agent_config import ConfigReport
from collector.store.engine import admin_transaction
from collector.store.fleet import count_received, list_facts
from collector.store.registry import load_rows
from collector.store.targets import Revision
from isochrone.config import Targets
from isochrone.configfile import ConfigFileError, load_targets
from isochrone.names import check_name

HISTORY: Final = 20
"""Revisions that are shown."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A revision in the history, and how many agents say what of it."""

    revision: int
    applied_at: datetime
    share_percent: int
    halted: bool
    halt_reason: str | None
    running: int
    received: int
    failed: int


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A revision with its content, the open canary (None: there is none), and what went before."""

    revision: int
    targets: Targets
    canary: int | None
    history: tuple[Given, ...]
    reports: tuple[ConfigReport, ...]


def migrate(database_url: str) -> str:
    """Bring the schema to this release's revision and return that; raise DatabaseUnavailable.

    Where the tables are distributed already, new ones are, too.
    """
    revision = migration.upgrade(database_url)
    with admin_transaction(database_url) as connection:
        if distribution.is_distributed(connection):
            distribution.distribute(connection)
    return revision


def distribute(database_url: str) -> list[str]:
    """Distribute the tables with Citus and return those that were not yet; raise DatabaseUnfit, DatabaseUnavailable."""
    with admin_transaction(database_url) as connection:
        return distribution.distribute(connection)


def read_targets(path: Path) -> Targets:
    """Return the checked targets in a file; raise TargetsRefused with every problem."""
    try:
        return load_targets(path.read_text(encoding="utf-8"), str(path))
    except ConfigFileError as exc:
        raise TargetsRefused(tuple(str(problem) for problem in exc.problems)) from exc
    except OSError as exc:
        raise TargetsRefused((f"{path}: cannot be read: {exc.strerror}",)) from exc
    except UnicodeDecodeError as exc:
        raise TargetsRefused((f"{path}: is not text in UTF-8: {exc.reason} at byte {exc.start}",)) from exc


def apply_targets(database_url: str, document: Targets, rollout: Rollout | None = None) -> Applied:
    """Make a checked target file the newest; an equal one changes nothing. Raise ConfirmationNeeded.

    Raise DatabaseUnavailable.
    """
    with admin_transaction(database_url) as connection:
        return apply_document(connection, document, rollout)


def promote_targets(database_url: str) -> Applied:
    """Give the open canary to more agents; raise SettingsError without one."""
    with admin_transaction(database_url) as connection:
        return rollout_steps.promote(connection)


def roll_back_targets(database_url: str, revision: int | None, *, confirmed: bool) -> Applied:
    """Apply an earlier content as a new revision; None: that before. Raise SettingsError, ConfirmationNeeded."""
    with admin_transaction(database_url) as connection:
        return rollout_steps.roll_back(connection, revision, confirmed=confirmed)


def current_targets(database_url: str) -> tuple[int, Targets] | None:
    """Return number and content of what every agent gets that is in no canary; None before the first.

    Raise DatabaseUnavailable, and SettingsError for a file of another release.
    """
    shown = show_targets(database_url, None)
    return None if shown is None else (shown.revision, shown.targets)


def show_targets(database_url: str, revision: int | None) -> Shown | None:
    """Return a revision and the history; None before the first. `revision` None: what everybody gets.

    Raise DatabaseUnavailable, and SettingsError for a revision of another release or one that is not there.
    """
    with admin_transaction(database_url) as connection:
        history = targets.list_revisions(connection, HISTORY)
        if not history:
            return None
        number = _standing(history) if revision is None else revision
        found = targets.find_revision(connection, number)
        reports = agent_config.list_reports(connection)
    if found is None:
        raise SettingsError(f"there is no revision {number}: isochrone-collector targets show")
    newest = history[0]
    is_open = newest.share_percent < ALL_PERCENT and newest.halted_at is None
    return Shown(
        revision=number,
        targets=read_document(found),
        canary=newest.revision if is_open else None,
        history=tuple(_given(one, reports) for one in history),
        reports=tuple(reports),
    )


def _standing(history: Sequence[Revision]) -> int:
    """Return what everybody gets; with nothing but canaries so far, the newest of them."""
    return next((one.revision for one in history if one.share_percent >= ALL_PERCENT), history[0].revision)


def _given(one: Revision, reports: Sequence[ConfigReport]) -> Given:
    return Given(
        revision=one.revision,
        applied_at=one.applied_at,
        share_percent=one.share_percent,
        halted=one.halted_at is not None,
        halt_reason=one.halt_reason,
        running=sum(report.running == one.revision for report in reports),
        received=sum(report.received == one.revision for report in reports),
        failed=sum(report.failed == one.revision for report in reports),
    )


def add_agent(
    database_url: str,
    *,
    name: str,
    region: str,
    labels: Mapping[str, str] | None = None,
    replace_credential: bool = False,
) -> str:
    """Register an agent and return its token, which is shown this once.

    Raise NameTaken when it exists, unless `replace_credential`: then it gets one more credential and keeps the others.
    """
    _check_names(name, region)
    credential = new_credential()
    with admin_transaction(database_url) as connection:
        agents.ensure_region(connection, region)
        agent_id = agents.insert_agent(connection, name=name, region=region, labels=labels or {})
        if agent_id is None and replace_credential:
            agent_id = agents.find_agent(connection, name)
        if agent_id is None:
            raise NameTaken(f"an agent named {name!r} exists: choose another name")
        agents.insert_credential(
            connection, key_id=credential.key_id, agent_id=agent_id, secret_sha256=credential.secret_sha256
        )
    return credential.token


def list_agents(database_url: str, view: View) -> list[FleetRow]:
    """Return how every agent stands, by name; raise DatabaseUnavailable."""
    with admin_transaction(database_url) as connection:
        registry = Registry(load_rows(connection))
        received = count_received(connection, since=view.since, until=view.now)
        return overview(list_facts(connection), registry, received, view=view)


def _check_names(name: str, region: str) -> None:
    try:
        check_name(name, place="name")
        check_name(region, place="region")
    except ValueError as exc:
        raise SettingsError(str(exc)) from exc
