"""`/v1/export`: every result of a span once, as CSV and as Parquet, in bounded pieces that hold nothing for ever."""

import asyncio
import csv
import io
import socket
import time
from datetime import datetime, timedelta
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg import sql
from pyarrow import parquet

from collector.api import exports, readers
from collector.api.admission import Admission
from collector.api.asking import Span
from collector.errors import DatabaseUnavailable, StatementTooSlow
from collector.export import FORMATS
from collector.export import parquet as parquet_file
from collector.schema import RESULT_COLUMNS
from collector.store.engine import Connection
from collector.store.export import COLUMNS, Kind, Piece, Values, export_rows
from isochrone.outcome import Flag, Outcome
from tests.collecting import Collector, batch_of, boottime, inference_result, rtt_result, running_collector

pytestmark = pytest.mark.anyio

TYPES = {
    Kind.TEXT: {"text"}, Kind.FREE: {"text"}, Kind.WORDS: {"text[]"}, Kind.TIME: {"timestamp with time zone"},
    Kind.INTEGER: {"bigint", "integer", "smallint"}, Kind.REAL: {"real"}, Kind.DOUBLE: {"double precision"},
    Kind.BOOLEAN: {"boolean"}, Kind.UUID: {"uuid"},
}  # fmt: skip


async def fetch(collector: Collector, kind: str = "csv", **query: str) -> bytes:
    answer = await collector.client.get("/v1/export", params={"format": kind, **query})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == FORMATS[kind].media_type
    assert "content-length" not in answer.headers
    return answer.content


def lines(text: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.decode(), newline="")))


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let seven results be a piece, and ten a row group."""
    monkeypatch.setattr(exports, "PIECE_ROWS", 7)
    monkeypatch.setattr(parquet_file, "GROUP_ROWS", 10)


async def test_the_columns_are_those_of_the_view_in_its_order(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = 'v_result'::regclass AND attnum > 0 ORDER BY attnum"
        ).fetchall()
    assert [name for name, _ in found] == list(COLUMNS)
    assert [(name, kind) for name, kind in found if kind not in TYPES[COLUMNS[name]]] == []


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("together", [True, False])
async def test_every_result_of_the_span_stands_in_the_file_once(database_url: str, *, together: bool) -> None:
    """Whether they started at one moment or over an hour: pieces end within a moment, too."""
    async with running_collector(database_url) as collector:
        now = boottime()
        starts = [now - (10 if together else n * 70) for n in range(40)]
        results = [inference_result(n, started_boottime_seconds=start) for n, start in enumerate(starts)]
        for first in range(0, 40, 20):
            await collector.send(batch_of(results[first : first + 20]))
        await collector.send(batch_of([inference_result(99, started_boottime_seconds=now - 4_000)]))
        text, table = await fetch(collector), parquet.read_table(io.BytesIO(await fetch(collector, "parquet")))
        wider = lines(await fetch(collector, window="2h"))
    assert sorted(int(line["seq"]) for line in lines(text)) == list(range(40))
    assert [line["started_at"] for line in lines(text)] == sorted(line["started_at"] for line in lines(text))
    assert sorted(table.column("seq").to_pylist()) == list(range(40))
    assert len(wider) == 41


@pytest.mark.usefixtures("small_pieces")
async def test_both_files_say_what_the_results_say(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        spoiled = inference_result(1, flags=(Flag.LOOP_LAG, Flag.BUFFERED))
        failed = inference_result(2, outcome=Outcome.AUTH, reason='=1+1,"x"', connection=None)
        await collector.send(batch_of([inference_result(0), spoiled, failed, rtt_result(3)]))
        told = (await collector.client.get("/v1/results")).json()["results"]
        text = {int(line["seq"]): line for line in lines(await fetch(collector))}
        table = parquet.read_table(io.BytesIO(await fetch(collector, "parquet")))
    rows = {row["seq"]: row for row in table.to_pylist()}
    for result in told:
        line, row = text[result["seq"]], rows[result["seq"]]
        assert row["ttft_seconds"] == pytest.approx(result["ttft_seconds"])
        assert float(line["ttft_seconds"] or "nan") == pytest.approx(row["ttft_seconds"] or float("nan"), nan_ok=True)
        assert row["flags"] == result["flags"] == line["flags"].split()
        assert row["started_at"] == datetime.fromisoformat(result["started_at"])
        assert line["started_at"].removesuffix("Z") == result["started_at"].removesuffix("Z").removesuffix("+00:00")
        assert (line["simulated"], row["simulated"]) == ("true", True)
        assert row["batch_id"] == line["batch_id"] == result["batch_id"]
        assert row["marks_end"] == pytest.approx(result["marks"]["end"])
        assert row["pings_sent"] == (result["pings"] or {}).get("sent")
        assert UUID(row["boot_id"]) == UUID(int=1)
    assert (text[2]["reason"], rows[2]["reason"]) == ('\'=1+1,"x"', '=1+1,"x"')
    assert (text[2]["connection"], rows[2]["connection"], text[3]["ttft_seconds"]) == ("", None, "")


@pytest.mark.usefixtures("small_pieces")
async def test_row_groups_are_bounded(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(n) for n in range(50)]))
        file = parquet.ParquetFile(io.BytesIO(await fetch(collector, "parquet")))
    sizes = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
    assert sum(sizes) == 50
    assert max(sizes) <= 10 + 7


async def test_a_span_without_results_is_a_whole_file_without_rows(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        text, table = [await fetch(collector, kind, since="2020-01-01", until="2020-01-03") for kind in FORMATS]
    assert text.decode() == ",".join(COLUMNS) + "\r\n"
    read = parquet.read_table(io.BytesIO(table))
    assert (read.num_rows, read.column_names) == (0, list(COLUMNS))


async def test_filters_hold(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(0), rtt_result(1), rtt_result(2, endpoint="site-1")]))
        for query, expected in (({"prober": "rtt"}, ["1", "2"]), ({"endpoint": "near"}, ["0", "1"])):
            assert sorted(line["seq"] for line in lines(await fetch(collector, **query))) == expected


REFUSED = (
    ({}, "format"),
    ({"format": "xlsx"}, "'csv' or 'parquet'"),
    ({"format": "csv", "window": "32d"}, "31d"),
    ({"format": "csv", "since": "2026-01-01", "until": "2026-03-01"}, "at most 31d"),
    ({"format": "csv", "endpoint": "far"}, "there are near, site-1"),
)


async def test_what_is_wrong_is_told_before_a_file_begins(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        for query, said in REFUSED:
            answer = await collector.client.get("/v1/export", params=query)
            assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
            assert said in answer.json()["detail"]


async def test_a_reader_that_reads_nothing_holds_no_connection_and_is_let_go(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "TAKE_SECONDS", 1.0)
    async with running_collector(database_url) as collector:
        collector.context.exports = Admission(1, monotonic=time.monotonic)
        await collector.send(batch_of([inference_result(0, reason="x" * 190)]))
        multiply(database_url, 20_000)
        with socket.create_connection(("127.0.0.1", collector.client.base_url.port or 0)) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            slow.sendall(b"GET /v1/export?format=csv HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await asyncio.to_thread(slow.recv, 12) == b"HTTP/1.1 200"
            asked = {"format": "csv", "window": "1s"}
            second = await collector.client.get("/v1/export", params=asked)
            assert (second.status_code, second.json()["type"]) == (503, "urn:isochrone:problem:busy")
            held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
            assert collector.rows(held) == [(0,)]
            assert (await collector.client.get("/v1/results", params={"limit": 1})).status_code == 200
            for _ in range(600):
                if (await collector.client.get("/v1/export", params=asked)).status_code == 200:
                    break
                await asyncio.sleep(0.1)
            assert not (await asyncio.to_thread(read_to_end, slow)).endswith(b"0\r\n\r\n")


@pytest.mark.usefixtures("small_pieces")
async def test_a_file_that_was_begun_waits_for_its_turn(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "WAIT_SECONDS", 0.05)
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(n) for n in range(20)]))
        now = collector.context.utc_now()
        span = Span(since=now - timedelta(hours=1), until=now)
        pieces = exports.pieces_of(collector.context, {}, span)
        found = list(await anext(pieces))
        turns = collector.context.readers._turns  # noqa: SLF001  all taken, by nobody
        monkeypatch.setattr(collector.context.readers, "_turns", asyncio.Semaphore(0))
        waiting = asyncio.create_task(anext(pieces))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        monkeypatch.setattr(collector.context.readers, "_turns", turns)
        found += await waiting
        async for rows in pieces:
            found += rows
    assert len(found) == 20


@pytest.mark.usefixtures("small_pieces")
async def test_a_file_that_cannot_be_finished_ends_without_its_last_chunk(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = [False]

    def failing(connection: Connection, filters: dict[str, str], piece: Piece) -> list[Values]:
        if reached[0] or piece.place.seq >= 0:  # behind the first piece with results
            reached[0] = True
            raise DatabaseUnavailable("gone")
        return export_rows(connection, filters, piece)

    monkeypatch.setattr(exports, "PATIENCE_SECONDS", 0.0)
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(n) for n in range(40)]))
        monkeypatch.setattr(exports, "export_rows", failing)
        with pytest.raises(httpx.RemoteProtocolError):
            await collector.client.get("/v1/export", params={"format": "csv"})
        before = await collector.client.get("/v1/export", params={"format": "csv"})
        assert before.status_code == 503, "nothing was sent yet: told as a problem"


async def test_a_stretch_that_is_too_much_is_taken_in_shorter_ones(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stretches grew where there was little, and the next has more than the database finds in time."""

    def slow(connection: Connection, filters: dict[str, str], piece: Piece) -> list[Values]:
        if piece.until - piece.since > timedelta(seconds=40):
            raise StatementTooSlow("too long")
        return export_rows(connection, filters, piece)

    monkeypatch.setattr(exports, "export_rows", slow)
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(n) for n in range(20)]))
        found = lines(await fetch(collector, window="30m"))
    assert sorted(int(line["seq"]) for line in found) == list(range(20))


def multiply(database_url: str, count: int) -> None:
    """Store so many more results like the first."""
    names = sql.SQL(", ").join(map(sql.Identifier, RESULT_COLUMNS))
    values = sql.SQL(", ").join(
        sql.SQL("seq + n") if name == "seq" else sql.Identifier(name) for name in RESULT_COLUMNS
    )
    statement = sql.SQL("INSERT INTO result ({}) SELECT {} FROM result, generate_series(1, %s) n")
    with psycopg.connect(database_url) as connection:
        connection.execute(statement.format(names, values), [count])


def read_to_end(connection: socket.socket) -> bytes:
    """Return the last bytes until the other side closes."""
    tail = b""
    connection.settimeout(30)
    try:
        while data := connection.recv(65_536):
            tail = (tail + data)[-64:]
    except ConnectionResetError:
        pass
    return tail
