"""`docs/reference/schema.md` names every table, view, column, index and function of the database, and no other."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from collector.schema import SIGNALS
from collector.store import reading_role

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "schema.md"
TEXT = PAGE.read_text(encoding="utf-8")
RELATIONS = """
SELECT c.relname, c.relkind = 'v', a.attname, t.typname, NOT a.attnotnull
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
AND a.attnum > 0 AND NOT a.attisdropped
"""
INDEXES = """
SELECT indexname, tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'
AND NOT (SELECT relispartition FROM pg_class WHERE oid = (quote_ident(tablename))::regclass)
"""
FUNCTIONS = "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"

Columns = dict[str, tuple[str, bool]]
"""Type, and whether it may be null, by name."""


def sections() -> Iterator[tuple[str, str]]:
    """Yield every table and view with what stands under its heading."""
    for part in re.split(r"^### ", TEXT, flags=re.MULTILINE)[1:]:
        name, _, rest = part.partition("\n")
        yield name, re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(section: str) -> list[list[str]]:
    lines = re.findall(r"^\| `.*\|$", section, flags=re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def said(section: str) -> Columns:
    columns: Columns = {}
    for names, kind, *_ in rows(section):
        (word,) = re.findall(r"`([^`]+)`", kind)
        for name in re.findall(r"`([^`]+)`", names):
            for signal in SIGNALS if "<signal>" in name else ("",):
                column = name.replace("<signal>", signal)
                assert column not in columns, f"{column} is told twice"
                columns[column] = (word, kind.endswith(", null"))
    return columns


def short(kind: str) -> str:
    """Return a type as the page writes it."""
    return {"varchar": "text"}.get(kind, f"{kind[1:]}[]" if kind.startswith("_") else kind)


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url) as connection:
        yield connection


def test_every_table_and_view_stands_in_the_reference_with_its_columns_and_their_types(
    database: psycopg.Connection,
) -> None:
    found: dict[str, Columns] = {}
    for relation, is_view, column, kind, nullable in database.execute(RELATIONS):
        found.setdefault(relation, {})[column] = (short(kind), nullable and not is_view)
    assert {name: said(section) for name, section in sections()} == found


def test_every_index_stands_in_the_reference_with_its_table_and_its_columns(database: psycopg.Connection) -> None:
    section = TEXT.split("## Indexes\n", 1)[1].split("\n## ", 1)[0]
    told = {
        cells[0].strip("`"): (cells[1].strip("`"), cells[2], ", ".join(re.findall(r"`([^`]+)`", cells[3])))
        for cells in rows(section)
    }
    found = {}
    for name, table, definition in database.execute(INDEXES):
        match = re.search(r"CREATE (UNIQUE )?INDEX .* USING (\w+) \((.*)\)", definition)
        assert match is not None
        found[name] = (table, f"unique {match[2]}" if match[1] else match[2], match[3])
    assert told == found


def test_every_function_stands_in_the_reference(database: psycopg.Connection) -> None:
    section = TEXT.split("## Functions\n", 1)[1].split("\n## ", 1)[0]
    assert {cells[0].strip("`").partition("(")[0] for cells in rows(section)} == {
        name for (name,) in database.execute(FUNCTIONS)
    }


def test_the_role_and_the_signals_stand_in_the_reference() -> None:
    assert f"`{reading_role.ROLE}`" in TEXT
    minute = dict(sections())["v_minute"]
    assert set(SIGNALS) <= set(re.findall(r"`(\w+)`", minute))
