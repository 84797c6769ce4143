"""Statements on revisions of the target file and on the dictionaries that results refer to."""

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, text

from collector.schema import CONNECTIONS
from isochrone.config import Endpoint, Region, Site
from isochrone.outcome import Connection as ConnectionMode

_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtext('apply_targets'))")
_LATEST: Final = text("SELECT revision, etag, document FROM config_revision ORDER BY revision DESC LIMIT 1")
_INSERT_REVISION: Final = text(
    "INSERT INTO config_revision (etag, document) VALUES (:etag, :document) RETURNING revision"
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


class Latest(msgspec.Struct, frozen=True, kw_only=True):
    """The newest revision."""

    revision: int
    etag: str
    document: str


def lock_targets(connection: Connection) -> None:
    """Let one change of the targets be under way at a time, until the transaction ends."""
    connection.execute(_LOCK)


def latest_revision(connection: Connection) -> Latest | None:
    """Return the newest revision; None before the first."""
    row = connection.execute(_LATEST).mappings().one_or_none()
    return None if row is None else Latest(**row)


def insert_revision(connection: Connection, *, etag: str, document: str) -> int:
    """Store a target file and return its number."""
    return int(connection.execute(_INSERT_REVISION, {"etag": etag, "document": document}).scalar_one())


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
