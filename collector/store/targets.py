"""Statements on revisions of the target file and on the dictionaries that results refer to."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, text

from collector.schema import CONNECTIONS
from isochrone.config import Endpoint, Region, Site
from isochrone.outcome import Connection as ConnectionMode

_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtext('apply_targets'))")
# Until the transaction ends; whoever finds it taken has nothing to do: another collector looks.
_TRY_CANARY_LOCK: Final = text("SELECT pg_try_advisory_xact_lock(hashtext('canary'))")
_COLUMNS: Final = "SELECT revision, etag, document, applied_at, share_percent, halted_at, halt_reason"
_NEWEST: Final = text(f"{_COLUMNS} FROM config_revision ORDER BY revision DESC LIMIT 1")
_FIND: Final = text(f"{_COLUMNS} FROM config_revision WHERE revision = :revision")
_HISTORY: Final = text(f"{_COLUMNS} FROM config_revision ORDER BY revision DESC LIMIT :count")
_INSERT_REVISION: Final = text(
    "INSERT INTO config_revision (etag, document, share_percent) VALUES (:etag, :document, :share_percent)"
    " RETURNING revision"
)
_WIDEN: Final = text(
    "UPDATE config_revision SET share_percent = :share_percent"
    " WHERE revision = :revision AND share_percent < :share_percent AND halted_at IS NULL"
)
_HALT: Final = text(
    "UPDATE config_revision SET halted_at = now(), halt_reason = :reason"
    " WHERE revision = :revision AND share_percent < 100 AND halted_at IS NULL"
)
_UPSERT_REGION: Final = text(
    "INSERT INTO agent_region (name, latitude, longitude, country, weight)"
    " VALUES (:name, :latitude, :longitude, :country, :weight)"
    " ON CONFLICT (name) DO UPDATE SET latitude = excluded.latitude, longitude = excluded.longitude,"
    " country = excluded.country, weight = excluded.weight"
)
_FORGET_REGIONS: Final = text(
    "UPDATE agent_region SET latitude = NULL, longitude = NULL, country = NULL, weight = NULL"
    " WHERE NOT name = ANY(:names)"
)
_UPSERT_ENDPOINT: Final = text(
    "INSERT INTO endpoint (name, url, provider, model, endpoint_region, latitude, longitude, simulated)"
    " VALUES (:name, :url, :provider, :model, :endpoint_region, :latitude, :longitude, :simulated)"
    " ON CONFLICT (name) DO UPDATE SET url = excluded.url, provider = excluded.provider, model = excluded.model,"
    " endpoint_region = excluded.endpoint_region, latitude = excluded.latitude, longitude = excluded.longitude,"
    " simulated = excluded.simulated"
)
_INSERT_MODULE: Final = text("INSERT INTO module (name) VALUES (:name) ON CONFLICT (name) DO NOTHING")
_UPSERT_TARGET: Final = text(
    "INSERT INTO target (endpoint_id, module_id, model, connection)"
    " SELECT e.id, m.id, :model, :connection FROM endpoint e, module m WHERE e.name = :endpoint AND m.name = :module"
    " ON CONFLICT (endpoint_id, module_id, model) DO UPDATE SET connection = excluded.connection"
)


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """A target file as it was applied, and how far it goes."""

    revision: int
    etag: str
    document: str
    applied_at: datetime
    share_percent: int
    halted_at: datetime | None
    halt_reason: str | None


def lock_targets(connection: Connection) -> None:
    """Let one change of the targets be under way at a time, until the transaction ends."""
    connection.execute(_LOCK)


def try_canary_lock(connection: Connection) -> bool:
    """Let one collector at a time judge the canary; tell whether it is this one."""
    return bool(connection.execute(_TRY_CANARY_LOCK).scalar_one())


def newest_revision(connection: Connection) -> Revision | None:
    """Return the newest revision, be it a canary; None before the first."""
    row = connection.execute(_NEWEST).mappings().one_or_none()
    return None if row is None else Revision(**row)


def find_revision(connection: Connection, revision: int) -> Revision | None:
    """Return a revision; None when there is none of that number."""
    row = connection.execute(_FIND, {"revision": revision}).mappings().one_or_none()
    return None if row is None else Revision(**row)


def list_revisions(connection: Connection, count: int) -> list[Revision]:
    """Return the newest revisions, the newest first."""
    return [Revision(**row) for row in connection.execute(_HISTORY, {"count": count}).mappings()]


def insert_revision(connection: Connection, *, etag: str, document: str, share_percent: int) -> int:
    """Store a target file and return its number."""
    values = {"etag": etag, "document": document, "share_percent": share_percent}
    return int(connection.execute(_INSERT_REVISION, values).scalar_one())


def widen_revision(connection: Connection, revision: int, *, share_percent: int) -> None:
    """Give a canary to more agents; a halted one stays as it is."""
    connection.execute(_WIDEN, {"revision": revision, "share_percent": share_percent})


def halt_revision(connection: Connection, revision: int, *, reason: str) -> bool:
    """Take a canary back; tell whether it was one that was open."""
    return connection.execute(_HALT, {"revision": revision, "reason": reason}).rowcount == 1


def put_regions(connection: Connection, regions: Sequence[Region]) -> None:
    """Bring the regions to what the file says; those that it does not name lose their coordinates."""
    connection.execute(_FORGET_REGIONS, {"names": [region.name for region in regions]})
    if regions:
        connection.execute(_UPSERT_REGION, [msgspec.structs.asdict(region) for region in regions])


def put_endpoints(connection: Connection, items: Sequence[Endpoint | Site]) -> None:
    """Bring endpoints and sites to what the file says. Those that it does not name stay: results refer to them."""
    if items:
        connection.execute(_UPSERT_ENDPOINT, [_endpoint(item) for item in items])


def put_modules(connection: Connection, names: Sequence[str]) -> None:
    """Give every module an id."""
    if names:
        connection.execute(_INSERT_MODULE, [{"name": name} for name in names])


def put_target(
    connection: Connection, endpoint: str, module: str, *, model: str | None, mode: ConnectionMode | None
) -> None:
    """Give an endpoint with a module an id."""
    code = None if mode is None else CONNECTIONS.index(mode) + 1
    values = {"endpoint": endpoint, "module": module, "model": model or "", "connection": code}
    connection.execute(_UPSERT_TARGET, values)


def _endpoint(item: Endpoint | Site) -> dict[str, object]:
    location, endpoint = item.location, item if isinstance(item, Endpoint) else None
    return {
        "name": item.name,
        "url": item.url,
        "provider": None if endpoint is None else endpoint.provider.value,
        "model": None if endpoint is None else endpoint.model,
        "endpoint_region": None if location is None else location.region,
        "latitude": None if location is None else location.latitude,
        "longitude": None if location is None else location.longitude,
        "simulated": endpoint is not None and endpoint.simulated,
    }
