"""What commands do: plain functions, each in one transaction; `isochrone-collector up` calls them too."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import msgspec

from collector.auth import new_credential
from collector.errors import NameTaken, SettingsError, TargetsRefused
from collector.fleet import FleetRow, View, overview
from collector.registry import Registry, items_of
from collector.store import agents, migration, targets
from collector.store.engine import Connection, admin_transaction
from collector.store.fleet import count_received, list_facts
from collector.store.registry import load_rows
from isochrone.config import Targets, decode_targets, encode_config
from isochrone.configfile import ConfigFileError, load_targets
from isochrone.names import check_name, printable
from isochrone.outcome import Connection as ConnectionMode
from isochrone.outcome import Prober


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a target file: its revision, and whether it differs from the one before."""

    revision: int
    etag: str
    changed: bool


def migrate(database_url: str) -> str:
    """Bring the schema to this release's revision and return that; raise DatabaseUnavailable."""
    return migration.upgrade(database_url)


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


def apply_targets(database_url: str, document: Targets) -> Applied:
    """Make a checked target file the current one; an equal one changes nothing. Raise DatabaseUnavailable."""
    with admin_transaction(database_url) as connection:
        return apply_document(connection, document)


def apply_document(connection: Connection, document: Targets) -> Applied:
    """Do what `apply_targets` does, in a transaction that stands."""
    canonical = encode_config(document)
    etag = sha256(canonical).hexdigest()
    targets.lock_targets(connection)
    latest = targets.latest_revision(connection)
    if latest is not None and latest.etag == etag:
        return Applied(revision=latest.revision, etag=etag, changed=False)
    _put_dictionaries(connection, document)
    revision = targets.insert_revision(connection, etag=etag, document=canonical.decode())
    return Applied(revision=revision, etag=etag, changed=True)


def current_targets(database_url: str) -> tuple[int, Targets] | None:
    """Return number and content of the current target file; None before the first.

    Raise DatabaseUnavailable, and SettingsError for a file of another release.
    """
    with admin_transaction(database_url) as connection:
        latest = targets.latest_revision(connection)
    if latest is None:
        return None
    try:
        return latest.revision, decode_targets(latest.document.encode())
    except ValueError as exc:
        text = f"targets of revision {latest.revision} are of another release: apply a file of this one, or upgrade"
        raise SettingsError(f"{text}: {printable(str(exc))}") from exc


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


def _put_dictionaries(connection: Connection, document: Targets) -> None:
    items = items_of(document)
    targets.put_regions(connection, document.regions)
    targets.put_endpoints(connection, items)
    targets.put_modules(connection, list(document.modules))
    for item in items:
        for name in item.modules:
            model = getattr(item, "model", None)
            targets.put_target(connection, item.name, name, model=model, mode=_mode(document, name))


def _mode(document: Targets, module: str) -> ConnectionMode | None:
    options = document.modules[module]
    if options.prober is not Prober.INFERENCE:
        return None
    return ConnectionMode.COLD if options.inference is None else options.inference.connection
