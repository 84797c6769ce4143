"""Citus for the tests: a real one where `ISOCHRONE_TEST_CITUS_URL` names it, else a stand-in that takes notes.

The stand-in is a few functions in plain Postgres under the names of Citus. It proves what is asked for, in which order,
and that the rules hold on which Citus insists at that moment; it moves no row and plans no query over machines.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import psycopg
from psycopg import sql

URL = os.environ.get("ISOCHRONE_TEST_CITUS_URL")
WHY_NOT = "ISOCHRONE_TEST_CITUS_URL names no Postgres with Citus"
_numbers = count(1)

STAND_IN = """
CREATE SCHEMA stand_in;
CREATE TABLE stand_in.pg_dist_partition (logicalrelid regclass PRIMARY KEY, partmethod "char", beside text);
CREATE TABLE stand_in.call (id serial, name text, argument text);

CREATE FUNCTION stand_in.citus_version() RETURNS text LANGUAGE sql AS $$
    SELECT 'Citus {version} on a stand-in' $$;

-- Citus, too, refuses a key to a table whose turn has not come.
CREATE FUNCTION stand_in.check_keys(one regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_constraint k WHERE k.contype = 'f' AND (k.conrelid = one AND k.confrelid NOT IN
               (SELECT logicalrelid FROM stand_in.pg_dist_partition WHERE partmethod = 'n') OR k.confrelid = one)) THEN
        RAISE EXCEPTION 'cannot create foreign key constraint of %', one;
    END IF;
    IF EXISTS (SELECT FROM stand_in.pg_dist_partition WHERE logicalrelid = one) THEN
        RAISE EXCEPTION 'table % is already distributed', one;
    END IF;
END $$;

CREATE FUNCTION stand_in.create_reference_table(table_name regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM stand_in.check_keys(table_name);
    INSERT INTO stand_in.pg_dist_partition VALUES (table_name, 'n', NULL);
    INSERT INTO stand_in.call (name, argument) VALUES ('reference', table_name::text);
END $$;

CREATE FUNCTION stand_in.create_distributed_table(
    table_name regclass, distribution_column text, distribution_type text DEFAULT 'hash',
    colocate_with text DEFAULT 'default', shard_count int DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM stand_in.check_keys(table_name);
    IF EXISTS (SELECT FROM pg_index i WHERE i.indrelid = table_name AND i.indisunique AND NOT EXISTS (SELECT FROM
               pg_attribute a WHERE a.attrelid = table_name AND a.attname = distribution_column
               AND a.attnum = ANY(i.indkey))) THEN
        RAISE EXCEPTION 'cannot create constraint on "%": it must include the distribution column', table_name;
    END IF;
    IF current_setting('citus.multi_shard_modify_mode', true) IS DISTINCT FROM 'sequential' THEN
        RAISE EXCEPTION 'cannot create shards and foreign keys over several connections';
    END IF;
    INSERT INTO stand_in.pg_dist_partition VALUES (table_name, 'h', colocate_with);
    INSERT INTO stand_in.call (name, argument) VALUES
        ('distributed', format('%s by %s beside %s', table_name, distribution_column, colocate_with));
END $$;

CREATE FUNCTION stand_in.truncate_local_data_after_distributing_table(function_arg regclass) RETURNS void
LANGUAGE sql AS $$ INSERT INTO stand_in.call (name, argument) VALUES ('emptied', function_arg::text) $$;
"""


def install_stand_in(database_url: str, *, version: str = "12.1.6") -> None:
    """Make a database look as if it had Citus, to those who connect from now on."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(STAND_IN.replace("{version}", version).encode())
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET search_path = public, stand_in").format(
                sql.Identifier(connection.info.dbname)
            )
        )


@contextmanager
def real_database() -> Iterator[str]:
    """Give the URL of a fresh database with the extension; needs `URL`.

    Its shards stand on the server itself: Citus plans over shards as it does over machines.
    """
    assert URL is not None
    name = f"isochrone_test_{os.getpid()}_{next(_numbers)}"
    fresh = psycopg.conninfo.conninfo_to_dict(URL)
    with psycopg.connect(URL, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(name))
        )
        try:
            url = _url(fresh, name)
            with psycopg.connect(url, autocommit=True) as other:
                other.execute("CREATE EXTENSION citus")
            yield url
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _url(parts: dict[str, object], database: str) -> str:
    """Return the URL of another database of the server."""
    user, password = parts.get("user", "postgres"), parts.get("password")
    secret = "" if password is None else f":{password}"
    host, port = str(parts.get("host", "")), parts.get("port", 5432)
    if host.startswith("/") or not host:
        return f"postgresql://{user}{secret}@/{database}?host={host}&port={port}"
    return f"postgresql://{user}{secret}@{host}:{port}/{database}"
