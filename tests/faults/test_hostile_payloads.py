"""Bad input at the collector: 4xx and never 500, `/metrics` stays valid, the rows of others stay as they are."""

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from collector import admin
from collector.api import deadlines
from isochrone.batch import MAX_BODY_BYTES
from isochrone.wire import encode_batch
from tests.collecting import Collector, batch_of, inference_result, running_collector

pytestmark = pytest.mark.anyio

FIRST_ROW = "SELECT v_result::text FROM v_result WHERE reason = 'first'"


@pytest.fixture
async def collector(database_url: str) -> AsyncIterator[Collector]:
    async with running_collector(database_url) as running:
        assert (await running.send(batch_of([inference_result(0, reason="first")]))).status_code == 200
        before = running.rows(FIRST_ROW)
        assert len(before) == 1
        yield running
        families = text_string_to_metric_families((await running.fetch("/metrics")).text)
        assert sum(len(family.samples) for family in families) > 100
        assert running.rows(FIRST_ROW) == before


def body(**more: object) -> bytes:
    return encode_batch(batch_of([inference_result(1, **more)]))


@pytest.mark.parametrize(
    ("content", "encoding", "status"),
    [
        (gzip.compress(b"\0" * 200_000_000), "gzip", 413),
        (gzip.compress(gzip.compress(b"\0" * 1_000_000)), "gzip", 422),
        (gzip.compress(body())[:-9], "gzip", 400),
        (gzip.compress(body()) + b"junk", "gzip", 400),
        (gzip.compress(body())[:-8] + bytes(8), "gzip", 400),
        (gzip.compress(gzip.compress(body())), "gzip, gzip", 415),
        (body(), "br", 415),
        (body(), "zstd", 415),
    ],
    ids=["bomb", "nested", "cut", "junk", "crc", "twice", "br", "zstd"],
)
async def test_f76_bad_compression_is_refused_within_bounded_memory(
    collector: Collector, *, content: bytes, encoding: str, status: int
) -> None:
    tracemalloc.start()
    try:
        answer = await collector.post(content, {"Content-Encoding": encoding})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.status_code == status
    assert peak < 30 * 2**20


async def raw(collector: Collector, *lines: str, content: bytes = b"", end: bool = False) -> bytes:
    """Send a request word by word; return the first line of the answer, nothing when the connection is closed."""
    url = collector.client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = ["POST /v1/batches HTTP/1.1", "Host: x", f"Authorization: Bearer {collector.token}",
            "Content-Type: application/json", *lines, "", ""]  # fmt: skip
    first = b""
    with suppress(ConnectionError):
        writer.write("\r\n".join(head).encode() + content)
        if end:
            writer.write_eof()
        first = await asyncio.wait_for(reader.readline(), 30)
    writer.close()
    return first


@pytest.mark.parametrize("chunked", [False, True])
async def test_f77_a_body_of_one_byte_too_many_is_refused(collector: Collector, *, chunked: bool) -> None:
    if chunked:
        content = b"%x\r\n%b\r\n0\r\n\r\n" % (MAX_BODY_BYTES + 1, b" " * (MAX_BODY_BYTES + 1))
        assert b" 413 " in await raw(collector, "Transfer-Encoding: chunked", content=content)
    else:
        assert b" 413 " in await raw(collector, f"Content-Length: {MAX_BODY_BYTES + 1}")


async def test_f77_a_length_that_lies_stores_nothing(collector: Collector) -> None:
    whole = body()
    assert b" 4" in await raw(collector, f"Content-Length: {len(whole) - 5}", content=whole)
    assert b" 200 " not in await raw(collector, f"Content-Length: {len(whole) + 5}", content=whole, end=True)
    assert len(collector.rows()) == 1


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 5"),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: -5",),
        ("Content-Length: 5x",),
    ],
)
async def test_f77_a_length_said_twice_is_refused(collector: Collector, lines: tuple[str, ...]) -> None:
    assert b" 400 " in await raw(collector, *lines, content=b"0\r\n\r\n")


@pytest.mark.parametrize(
    "hostile",
    [
        b"[" * 100_000,
        b'{"version":1,"results":' + b"[" * 100_000,
        b"{" + b",".join(b'"%d":1' % n for n in range(40_000)) + b"}",
        b'{"version":1,"version":1}',
        b'{"version":' + b"9" * 100 + b"}",
        b'{"version":NaN}',
        b'{"version":Infinity}',
        b'{"\\ud800":1}',
        b'{"version":"\\u0000"}',
        b"\xef\xbb\xbf{}",
        '{"version":1}'.encode("utf-16"),
        b'{"version":"' + b"x" * 500_000 + b'"}',
    ],
)
async def test_f78_hostile_json_is_refused(collector: Collector, hostile: bytes) -> None:
    answer = await collector.post(hostile)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


async def test_f79_slow_connections_are_closed_and_others_served(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "HEADER_SECONDS", 0.5)
    monkeypatch.setattr(deadlines, "BODY_SECONDS", 0.5)
    url = collector.client.base_url
    starts = [b"", b"POST /v1/bat", b"POST /v1/batches HTTP/1.1\r\nHost: x\r\n",
              b"POST /v1/batches HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"]  # fmt: skip
    pairs = [await asyncio.open_connection(url.host, url.port) for _ in range(200)]
    for number, (_, writer) in enumerate(pairs):
        writer.write(starts[number % len(starts)])
    assert (await collector.client.get("/healthz")).status_code == 200
    async with asyncio.timeout(30):
        for reader, writer in pairs:
            with suppress(ConnectionError):
                await reader.read()
            writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nx: " + b"y" * 17_000 + b"\r\n\r\n",
    ],
    ids=["headers", "address", "one header"],
)
async def test_f80_headers_without_measure_are_refused(collector: Collector, head: bytes) -> None:
    url = collector.client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    answer = b""
    with suppress(ConnectionError):
        writer.write(head)
        answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    assert b" 200 " not in answer


async def series(collector: Collector) -> int:
    text = (await collector.fetch("/metrics")).text
    jobs = ("isochrone_job_", "isochrone_rollup_")  # theirs begin when a job first ends
    return sum(line.startswith("isochrone_") and not line.startswith(jobs) for line in text.splitlines())


async def test_f81_no_text_of_a_result_makes_a_series(collector: Collector) -> None:
    before = await series(collector)
    for start in range(0, 2_000, 500):
        results = [
            inference_result(n, endpoint=f"endpoint-{n}" if n % 2 else "near", reason=f"reason {n}",
                             served_region=f"region-{n}")
            for n in range(start + 1, start + 501)
        ]  # fmt: skip
        answer = await collector.send(batch_of(results, boot_id=uuid4()))
        assert answer.status_code == 200, answer.text
    assert await series(collector) == before


@pytest.mark.parametrize(
    "text",
    ["'; DROP TABLE result; --", 'x"} 1\ny{z="', "<script>alert(1)</script>", "a\nb", "\x1b[31mred", "%s %d {0}"],
)
async def test_f82_injected_text_is_kept_word_for_word_or_refused(
    collector: Collector, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("reason", "endpoint", "module", "address", "served_region"):
        sent = json.loads(body())
        sent["batch_id"] = str(uuid4())
        sent["results"][0][name] = text
        answer = await collector.post(json.dumps(sent).encode())
        assert answer.status_code in {200, 422}, answer.text
    kept = [row[0] for row in collector.rows("SELECT reason FROM v_result WHERE reason <> 'first'")]
    assert set(kept) <= {text}
    assert all("\n" not in record.getMessage() and "\x1b" not in record.getMessage() for record in caplog.records)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


async def test_f83_no_shape_of_a_batch_is_a_fault(collector: Collector) -> None:
    found: list[bytes] = []
    plain = json.loads(body())

    @settings(max_examples=400, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.sampled_from([*plain, *plain["results"][0]]), JSON)
    def collect(name: str, value: Any) -> None:  # noqa: ANN401  any JSON
        changed = json.loads(json.dumps(plain))
        place = changed if name in changed else changed["results"][0]
        place[name] = value
        found.append(json.dumps(changed).encode("utf-8", "surrogatepass"))

    collect()
    for one in found:
        assert (await collector.post(one)).status_code < 500, one


async def test_f72_an_agent_cannot_write_over_the_rows_of_another(collector: Collector) -> None:
    other = admin.add_agent(collector.database_url, name="other", region="ap-south")
    await collector.context.registry.newer_than(0)
    batch = batch_of([inference_result(1, reason="mine")])
    assert (await collector.send(batch)).json()["accepted"] == 1
    mine = collector.rows("SELECT v_result::text FROM v_result WHERE agent = 'agent-1' ORDER BY 1")
    stolen = (await collector.send(batch, token=other)).json()
    assert stolen["duplicate"] == 0, "a batch id belongs to its agent"
    assert collector.rows("SELECT v_result::text FROM v_result WHERE agent = 'agent-1' ORDER BY 1") == mine
