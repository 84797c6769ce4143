"""The schema can be distributed by agent: read from the catalog of a migrated database, by the rules that Citus has.

The rules: docs of Citus, "Creating and Modifying Distributed Objects" (unique constraints, foreign keys).
"""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from collector.store import distribution
from collector.store.distribution import COLUMN, DISTRIBUTED, REFERENCE

LOCAL = {
    "access_token",
    "alembic_version",
    "clock_mark",
    "config_revision",
    "dirty_hour",
    "join_token",
    "rollup_horizon",
    "rollup_hour",
    "rollup_minute",
}
"""Tables that stay with the coordinator. A new table must be in one of the three lists: think where it shall stand."""
STORE = Path(distribution.__file__).parent
Names = set[str]


@pytest.fixture
def catalog(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url) as connection:
        connection.execute("SELECT create_result_partition(current_date)")
        yield connection


def tables(catalog: psycopg.Connection) -> Names:
    """Return every table that is no partition of another."""
    rows = catalog.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition"
    ).fetchall()
    return {name for (name,) in rows}


def with_partitions(catalog: psycopg.Connection) -> Names:
    rows = catalog.execute(
        "SELECT c.relname FROM pg_class p, pg_partition_tree(p.oid) t JOIN pg_class c ON c.oid = t.relid"
        " WHERE p.relname = ANY(%s) AND p.relnamespace = 'public'::regnamespace AND p.relkind IN ('r', 'p')",
        [list(DISTRIBUTED)],
    ).fetchall()
    return {name for (name,) in rows} | set(DISTRIBUTED) & tables(catalog)


def foreign_keys(catalog: psycopg.Connection) -> list[tuple[str, str, list[str], str]]:
    """Return table, table that it refers to, its columns, and the key's name."""
    rows = catalog.execute(
        "SELECT k.conrelid::regclass::text, k.confrelid::regclass::text, (SELECT array_agg(a.attname::text)"
        " FROM pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = ANY(k.conkey)), k.conname"
        " FROM pg_constraint k WHERE k.contype = 'f' AND k.connamespace = 'public'::regnamespace"
    ).fetchall()
    return [(str(table), str(to), columns, str(name)) for table, to, columns, name in rows]


def test_every_table_has_its_place(catalog: psycopg.Connection) -> None:
    assert not {*DISTRIBUTED} & {*REFERENCE}
    assert tables(catalog) - {*DISTRIBUTED, *REFERENCE} <= LOCAL
    assert {"batch", "result", "agent", "target"} <= tables(catalog)


def test_every_unique_key_of_a_distributed_table_holds_the_distribution_column(catalog: psycopg.Connection) -> None:
    found = catalog.execute(
        "SELECT c.relname, i.indexrelid::regclass::text, (SELECT array_agg(a.attname::text) FROM pg_attribute a"
        " WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey))"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid"
        " WHERE (i.indisunique OR i.indisexclusion) AND c.relname = ANY(%s)",
        [list(with_partitions(catalog))],
    ).fetchall()
    assert found, "the ledger's key is not seen"
    assert [(table, index) for table, index, columns in found if COLUMN not in columns] == []


def test_the_distribution_column_is_there_and_never_null_and_alike_everywhere(catalog: psycopg.Connection) -> None:
    rows = catalog.execute(
        "SELECT c.relname, a.attnotnull, a.atttypid::regtype::text"
        " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " WHERE a.attname = %s AND c.relname = ANY(%s)",
        [COLUMN, list(with_partitions(catalog))],
    ).fetchall()
    assert {name for name, *_ in rows} == with_partitions(catalog)
    assert {(notnull, kind) for _, notnull, kind in rows} == {(True, "integer")}


def test_foreign_keys_lead_to_where_they_can_be_checked(catalog: psycopg.Connection) -> None:
    """A distributed table may refer to reference tables; to another distributed one only within an agent."""
    broken = [
        name
        for table, to, columns, name in foreign_keys(catalog)
        if (table in DISTRIBUTED and not (to in REFERENCE or (to in DISTRIBUTED and COLUMN in columns)))
        or (table in REFERENCE and to not in REFERENCE)
        or (table not in {*DISTRIBUTED, *REFERENCE} and to in {*DISTRIBUTED, *REFERENCE})
    ]
    assert broken == []


def test_nothing_of_a_distributed_table_is_numbered_across_machines(catalog: psycopg.Connection) -> None:
    """Identity columns and sequences would number rows on each machine by itself; triggers do not run there."""
    numbered = catalog.execute(
        "SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " WHERE c.relname = ANY(%s) AND (a.attidentity <> '' OR EXISTS (SELECT FROM pg_attrdef d"
        " WHERE d.adrelid = c.oid AND d.adnum = a.attnum AND pg_get_expr(d.adbin, d.adrelid) LIKE '%%nextval%%'))",
        [list(with_partitions(catalog))],
    ).fetchall()
    triggers = catalog.execute(
        "SELECT tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " WHERE NOT tgisinternal AND c.relname = ANY(%s)",
        [list(with_partitions(catalog))],
    ).fetchall()
    assert (numbered, triggers) == ([], [])


CHANGES_WITHIN = re.compile(r"\bAS\s+(?:MATERIALIZED\s+)?\(\s*(?:INSERT|UPDATE|DELETE)\b")


def test_no_statement_changes_rows_in_a_with_clause() -> None:
    """Citus plans none that does on distributed tables: "data-modifying statements are not supported in WITH"."""
    sources = {path.name: path.read_text(encoding="utf-8") for path in STORE.glob("*.py")}
    assert len(sources) > 10
    assert [name for name, source in sources.items() if CHANGES_WITHIN.search(source)] == []
    assert CHANGES_WITHIN.search("WITH old AS (DELETE FROM agent_run RETURNING *)")


BREACHES = {
    "CREATE UNIQUE INDEX ON batch (batch_id)": (
        test_every_unique_key_of_a_distributed_table_holds_the_distribution_column
    ),
    "CREATE UNIQUE INDEX ON result (started_at, seq)": (
        test_every_unique_key_of_a_distributed_table_holds_the_distribution_column
    ),
    "ALTER TABLE result ADD FOREIGN KEY (target_id) REFERENCES rule": (
        test_foreign_keys_lead_to_where_they_can_be_checked
    ),
    "ALTER TABLE rule ADD FOREIGN KEY (id) REFERENCES agent": test_foreign_keys_lead_to_where_they_can_be_checked,
    "ALTER TABLE agent_run ALTER agent_id TYPE bigint": (
        test_the_distribution_column_is_there_and_never_null_and_alike_everywhere
    ),
    "ALTER TABLE batch ADD number bigserial": test_nothing_of_a_distributed_table_is_numbered_across_machines,
    "CREATE TABLE homeless ()": test_every_table_has_its_place,
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_is_seen(catalog: psycopg.Connection, breach: str) -> None:
    if "rule" in breach:
        catalog.execute("CREATE TABLE rule (id integer PRIMARY KEY)")
    catalog.execute(breach.encode())
    with pytest.raises(AssertionError):
        BREACHES[breach](catalog)
