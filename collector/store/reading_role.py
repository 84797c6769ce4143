"""The role `isochrone_read`: it may read the views whose names are promised, and nothing else.

It is given its rights after every migration, not by one: a role belongs to the whole server, and may come later than
the schema. Default privileges are not used, for Postgres has none for views alone, and tables hold hashes of secrets.
"""

from typing import Final

import psycopg
import sqlalchemy.exc
from sqlalchemy import Connection, text

from collector.store.engine import sqlstate_of

ROLE: Final = "isochrone_read"
_EXISTS: Final = text("SELECT count(*) FROM pg_roles WHERE rolname = :role")
_CREATE: Final = text(f"CREATE ROLE {ROLE} NOLOGIN")
_VIEWS: Final = text(
    "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'v' AND relname LIKE 'v\\_%'"
    " AND relnamespace = current_schema()::regnamespace ORDER BY 1"
)
# Everybody may use `public`, unless somebody took that away; before Postgres 15 only its owner may grant it.
_SCHEMA: Final = text(
    "SELECT quote_ident(current_schema()) WHERE NOT has_schema_privilege(:role, current_schema(), 'USAGE')"
)
_DENIED: Final = "42501"
_EXISTS_BY_NOW: Final = ("42710", "23505", "XX000")
"""Another database of the same server was migrated at the same moment."""


def ensure(connection: Connection) -> str | None:
    """Create the role unless it exists, and let it read every view `v_…`.

    Return None, or in words what this user may not do and who has to. Raise DatabaseUnavailable.
    """
    try:
        if not _exists(connection):
            _create(connection)
        with connection.begin_nested():
            _grant(connection)
    except sqlalchemy.exc.DBAPIError as exc:
        if sqlstate_of(exc.orig) != _DENIED:
            raise
        return (
            f"the role {ROLE} was not made ready, for this user may not do that; everything else works. For dashboards"
            f" that read the database, as a superuser: CREATE ROLE {ROLE} NOLOGIN; then isochrone-collector migrate"
        )
    return None


def _exists(connection: Connection) -> bool:
    return bool(connection.execute(_EXISTS, {"role": ROLE}).scalar_one())


def _create(connection: Connection) -> None:
    try:
        with connection.begin_nested():
            connection.execute(_CREATE)
    except sqlalchemy.exc.DBAPIError as exc:
        if not isinstance(exc.orig, psycopg.Error) or exc.orig.sqlstate not in _EXISTS_BY_NOW:
            raise


def _grant(connection: Connection) -> None:
    schema = connection.execute(_SCHEMA, {"role": ROLE}).scalar_one_or_none()
    if schema is not None:
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {schema} TO {ROLE}")
    views = ", ".join(connection.execute(_VIEWS).scalars())
    if views:
        connection.exec_driver_sql(f"GRANT SELECT ON {views} TO {ROLE}")
