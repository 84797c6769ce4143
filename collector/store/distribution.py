"""Distributing the tables over several machines with Citus: which table goes where, and the way there.

By agent: the ledger, the results and the books of one agent stand on one machine, so that a batch is a transaction of
that machine alone. Dictionaries stand whole on every machine, where results are joined with them. What is in neither
list stays with the coordinator, and nothing here may refer to it (tests/migration/test_distributability.py).
"""

import re
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, text

from collector.errors import DatabaseUnfit

COLUMN: Final = "agent_id"
DISTRIBUTED: Final = ("batch", "result", "dirty_minute", "agent_run", "agent_report")
"""By `COLUMN`, each agent's rows of all of them on one machine. The first is the one that the others stand beside."""
REFERENCE: Final = ("agent_region", "agent", "credential", "agent_config", "run", "endpoint", "module", "target")
"""A copy on every machine: what results are joined with, and all that a foreign key ties to one of these."""
MIN_CITUS: Final = 12
"""Takes identity columns of type integer (citusdata/citus, pull request 7008)."""

_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtext('distribute'))")
# Rows are copied to their machines meanwhile; `sequential`: foreign keys to reference tables are made in the same
# transaction as shards, which Citus refuses to do over several connections.
_LIMITS: Final = text(
    "SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '60s', true),"
    " set_config('citus.multi_shard_modify_mode', 'sequential', true)"
)
_HAS_CITUS: Final = text("SELECT to_regproc('citus_version') IS NOT NULL")
_VERSION: Final = text("SELECT citus_version()")
_PLACED: Final = text("SELECT c.relname FROM pg_dist_partition p JOIN pg_class c ON c.oid = p.logicalrelid")
_EXISTING: Final = text("SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE to_regclass(name) IS NOT NULL")
_FOREIGN_KEYS: Final = text(
    "SELECT quote_ident(c.relname) AS name, quote_ident(k.conname) AS key, pg_get_constraintdef(k.oid) AS definition"
    " FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class d ON d.oid = k.confrelid"
    " WHERE k.contype = 'f' AND k.conparentid = 0 AND c.relnamespace = current_schema()::regnamespace"
    " AND (c.relname = ANY(:names) OR d.relname = ANY(:names)) ORDER BY c.relname, k.conname"
)
_REFER: Final = text("SELECT create_reference_table(CAST(:name AS regclass))")
_SPREAD: Final = text("SELECT create_distributed_table(CAST(:name AS regclass), :column, colocate_with => :beside)")
# The rows that were copied away still stand, unseen, in the coordinator's own table.
_EMPTY: Final = text("SELECT truncate_local_data_after_distributing_table(CAST(:name AS regclass))")


def is_distributed(connection: Connection) -> bool:
    """Return whether the tables of this database stand on several machines."""
    return bool(connection.execute(_HAS_CITUS).scalar_one()) and DISTRIBUTED[0] in _placed(connection)


def distribute(connection: Connection) -> list[str]:
    """Place every table that is not placed yet, rows included; return their names. All of it or nothing.

    Nobody can write meanwhile. Raise DatabaseUnfit without Citus, or with one that is too old.
    """
    _check_citus(connection)
    connection.execute(_LOCK)
    connection.execute(_LIMITS)
    names = _missing(connection)
    # Citus would follow each key to tables whose turn has not come yet: without keys the order does not matter.
    keys = connection.execute(_FOREIGN_KEYS, {"names": names}).all()
    for key in keys:
        connection.exec_driver_sql(f"ALTER TABLE {key.name} DROP CONSTRAINT {key.key}")
    for name in names:
        _place(connection, name)
    for key in keys:
        connection.exec_driver_sql(f"ALTER TABLE {key.name} ADD CONSTRAINT {key.key} {key.definition}")
    return names


def _check_citus(connection: Connection) -> None:
    if not connection.execute(_HAS_CITUS).scalar_one():
        raise DatabaseUnfit(
            "this database has no Citus: install it on every machine, run CREATE EXTENSION citus in this database, and"
            " migrate again; without it leave --distributed out"
        )
    version = str(connection.execute(_VERSION).scalar_one())
    found = re.search(r"\d+", version)
    if found is None or int(found[0]) < MIN_CITUS:
        raise DatabaseUnfit(f"this database has {version.partition(' on ')[0]}: use Citus {MIN_CITUS} or later")


def _missing(connection: Connection) -> list[str]:
    wanted: Sequence[str] = (*REFERENCE, *DISTRIBUTED)
    existing = set(connection.execute(_EXISTING, {"names": list(wanted)}).scalars())
    placed = _placed(connection)
    return [name for name in wanted if name in existing and name not in placed]


def _placed(connection: Connection) -> set[str]:
    return set(connection.execute(_PLACED).scalars())


def _place(connection: Connection, name: str) -> None:
    had_rows = connection.exec_driver_sql(f"SELECT EXISTS (SELECT FROM {name})").scalar_one()  # noqa: S608  a name of this file
    if name in REFERENCE:
        connection.execute(_REFER, {"name": name})
    else:
        beside = "none" if name == DISTRIBUTED[0] else DISTRIBUTED[0]
        connection.execute(_SPREAD, {"name": name, "column": COLUMN, "beside": beside})
    if had_rows:
        connection.execute(_EMPTY, {"name": name})
