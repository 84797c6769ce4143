"""What the collector does not take: each refused with its status as problem+json, nothing stored, never a 500."""

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest

from collector.api import deadlines
from collector.api.context import MAX_BATCHES_AT_ONCE
from collector.api.problems import PROBLEMS
from isochrone.batch import MAX_BODY_BYTES, MAX_INFLATED_BYTES
from isochrone.wire import encode_batch
from tests.collecting import Collector, batch_of, inference_result, running_collector

pytestmark = pytest.mark.anyio

GZIP = {"Content-Encoding": "gzip"}


@pytest.fixture
async def collector(database_url: str) -> AsyncIterator[Collector]:
    async with running_collector(database_url) as running:
        yield running


def body() -> bytes:
    return encode_batch(batch_of([inference_result(0)]))


@pytest.mark.parametrize(
    "token",
    [
        "isoa_0123456789abcdef_" + "x" * 43,
        "isoa_short",
        "not-a-token",
        "isoa_0123456789abcdef_" + "x" * 5_000,
    ],
)
async def test_a_wrong_credential_is_refused_and_never_repeated(collector: Collector, token: str) -> None:
    answer = await collector.post(body(), token=token)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert token not in answer.text


async def test_the_right_key_with_a_wrong_secret_is_refused_like_an_unknown_key(collector: Collector) -> None:
    wrong = collector.token[:-4] + ("AAAA" if not collector.token.endswith("AAAA") else "BBBB")
    unknown = "isoa_" + "0" * 16 + collector.token[21:]
    first, second = await collector.post(body(), token=wrong), await collector.post(body(), token=unknown)
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert first.status_code == 401


async def test_without_a_credential_nothing_of_the_body_counts(collector: Collector) -> None:
    answer = await collector.client.post("/v1/batches", content=b"x" * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 401


async def test_a_revoked_credential_is_told_so(collector: Collector) -> None:
    collector.rows("UPDATE credential SET revoked_at = now() RETURNING key_id")
    await collector.context.registry.newer_than(0)
    answer = await collector.post(body())
    assert answer.status_code == 403
    assert answer.json()["type"] == "urn:isochrone:problem:revoked"


async def test_an_agent_that_was_just_added_is_known_at_once(collector: Collector) -> None:
    from collector import admin  # noqa: PLC0415  beside its only use

    await collector.context.registry.get()
    token = admin.add_agent(collector.database_url, name="newcomer", region="ap-south")
    collector.context.registry._loaded_at -= 1.5  # noqa: SLF001  as if the last look was longer ago
    answer = await collector.post(encode_batch(batch_of([])), token=token)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Encoding": "br"}, 415),
        ({"Content-Encoding": "zstd"}, 415),
        ({"Content-Encoding": "gzip, gzip"}, 415),
        ({"Content-Encoding": "deflate"}, 415),
    ],
)
async def test_other_types_and_encodings_are_refused(
    collector: Collector, headers: dict[str, str], status: int
) -> None:
    assert (await collector.post(body(), headers)).status_code == status


async def test_the_media_type_may_have_parameters(collector: Collector) -> None:
    answer = await collector.post(body(), {"Content-Type": "application/vnd.isochrone.batch+json;v=1"})
    assert answer.status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused(collector: Collector, *, chunked: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 1024 + 2):
            yield b" " * 1024

    headers = {"Authorization": f"Bearer {collector.token}", "Content-Type": "application/json"}
    content = pieces() if chunked else b" " * (MAX_BODY_BYTES + 1)
    answer = await collector.client.post("/v1/batches", content=content, headers=headers)
    assert answer.status_code == 413


async def test_a_gzip_bomb_costs_no_more_than_the_limit(collector: Collector) -> None:
    bomb = gzip.compress(b"\0" * 400_000_000)
    assert len(bomb) < MAX_BODY_BYTES
    tracemalloc.start()
    try:
        answer = await collector.post(bomb, GZIP)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.status_code == 413
    assert peak < 4 * MAX_INFLATED_BYTES


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data + b"junk",
        lambda data: data + gzip.compress(b"{}"),
        lambda data: data[:-9],
        lambda data: data[:-8] + bytes(8),
        lambda _data: b"",
        lambda _data: b"{}",
    ],
    ids=["trailing junk", "second member", "cut", "wrong checksum", "empty", "no gzip"],
)
async def test_a_damaged_gzip_body_is_refused(collector: Collector, damage: object) -> None:
    assert callable(damage)
    answer = await collector.post(damage(gzip.compress(body())), GZIP)
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:isochrone:problem:malformed"


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"version":1,"results":' + b"[" * 100_000,
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
        b'{"version":1e999}',
        b'{"version":' + b"9" * 400_000 + b"}",
        b'{"version":NaN}',
        b'{"version":2}',
        b"\x00" * 1000,
        b'{"version":1,"version":1}',
        b'{"\\ud800":1}',
    ],
)
async def test_a_hostile_envelope_is_refused_and_never_a_fault(collector: Collector, hostile: bytes) -> None:
    answer = await collector.post(hostile)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await collector.fetch("/metrics")).status_code == 200


@pytest.mark.parametrize(
    "deep",
    ["[" * 5_000 + "]" * 5_000, '{"a":' * 5_000 + "1" + "}" * 5_000, "9" * 5_000, '"' + "x" * 1_000_00 + '"', "1e-320"],
)
async def test_unknown_fields_of_any_shape_are_ignored_or_refused(collector: Collector, deep: str) -> None:
    plain = json.loads(body())
    text = json.dumps(plain)
    for place in ('"results": [{', '"status": {', "{"):
        answer = await collector.post(text.replace(place, f'{place}"from_the_future": {deep}, ', 1).encode())
        assert answer.status_code in {200, 422}, answer.text


async def test_an_address_that_is_none_and_a_wrong_method_are_problems(collector: Collector) -> None:
    missing, wrong = await collector.fetch("/v1/nothing"), await collector.fetch("/v1/batches")
    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert missing.headers["content-type"] == wrong.headers["content-type"] == "application/problem+json"


async def test_more_batches_at_once_than_there_are_slots_are_told_to_come_back(collector: Collector) -> None:
    collector.context.batches._free = 0  # noqa: SLF001  as if all were taken
    answer = await collector.post(body())
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


async def test_bodies_that_do_not_come_hold_up_their_own_agent_alone(collector: Collector) -> None:
    from collector import admin  # noqa: PLC0415  beside its only use

    hostile = admin.add_agent(collector.database_url, name="hostile", region="ap-south")
    await collector.context.registry.newer_than(0)
    collector.context.turns._wait_seconds = 0.2  # noqa: SLF001  so that the test need not wait so long
    open_ends = [await _start_batch(collector, hostile) for _ in range(MAX_BATCHES_AT_ONCE + 1)]
    answer = await _until(collector, hostile, 503)
    assert int(answer.headers["retry-after"]) > 0
    assert (await collector.post(body())).status_code == 200
    for writer in open_ends:
        writer.close()
    await _until(collector, hostile, 200)


@pytest.mark.parametrize(
    "refusal", [(b"", b"401"), (b"Content-Type: text/plain", b"415"), (b"Content-Length: 900000", b"413")]
)
async def test_a_body_that_trickles_behind_a_refusal_does_not_keep_the_connection(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, refusal: tuple[bytes, bytes]
) -> None:
    monkeypatch.setattr(deadlines, "BODY_SECONDS", 0.3)
    headers, status = refusal
    lines = [b"POST /v1/batches HTTP/1.1", b"Host: x", headers or b"X: y"]
    lines += [] if status == b"401" else [f"Authorization: Bearer {collector.token}".encode()]
    lines += [] if b"Type" in headers else [b"Content-Type: application/json"]
    lines += [] if b"Length" in headers else [b"Content-Length: 400000"]
    reader, writer = await _connect(collector)
    writer.write(b"\r\n".join([*lines, b"", b""]))
    assert (await reader.readline()).split()[1] == status
    async with asyncio.timeout(20):
        with suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
                while b"\n" in reader._buffer:  # type: ignore[attr-defined]  # noqa: SLF001  the rest of the answer
                    await reader.readline()
    writer.close()


async def test_a_fault_of_the_collector_is_logged_with_one_traceback(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(collector.context.metrics, "render", lambda: 1 / 0)
    answer = await collector.fetch("/metrics")
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:isochrone:problem:internal"
    assert "GET /metrics failed" in caplog.text
    assert len([record for record in caplog.records if record.exc_info]) == 1


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"], ids=["idle", "line", "headers"]
)
async def test_a_connection_whose_headers_do_not_come_is_closed(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(deadlines, "HEADER_SECONDS", 0.2)
    reader, writer = await _connect(collector)
    writer.write(sent)
    assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()


async def test_headers_without_end_close_the_connection(collector: Collector) -> None:
    reader, writer = await _connect(collector)
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    with suppress(ConnectionError):
        for number in range(4_000):
            writer.write(b"x-header-%d: value\r\n" % number)
            await writer.drain()
        said = await asyncio.wait_for(reader.read(), 5)  # to its end: the connection is closed
        assert said == b"" or said.startswith(b"HTTP/1.1 400")
    writer.close()


async def test_a_second_request_on_a_connection_is_served_as_the_first(collector: Collector) -> None:
    reader, writer = await _connect(collector)
    for _ in range(3):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await asyncio.wait_for(reader.readuntil(b"}"), 20)
        assert answer.startswith(b"HTTP/1.1 200")
    writer.close()


async def _until(collector: Collector, token: str, status: int) -> httpx.Response:
    """Send a batch again and again until it is answered with a status."""
    for _ in range(200):
        answer = await collector.post(body(), token=token)
        if answer.status_code == status:
            return answer
        await asyncio.sleep(0.05)
    pytest.fail(f"never answered with {status}")


async def _start_batch(collector: Collector, token: str) -> asyncio.StreamWriter:
    """Send the headers of a batch and nothing of its body."""
    _, writer = await _connect(collector)
    lines = ("POST /v1/batches HTTP/1.1", "Host: x", f"Authorization: Bearer {token}",
             "Content-Type: application/json", "Content-Length: 400000", "", "")  # fmt: skip
    writer.write("\r\n".join(lines).encode())
    await writer.drain()
    return writer


async def _connect(collector: Collector) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(collector.client.base_url.host, collector.client.base_url.port)


async def test_requests_that_are_refused_are_counted_by_their_problem(collector: Collector) -> None:
    async def count(reason: str) -> float:
        text = (await collector.fetch("/metrics")).text
        return float(text.split(f'isochrone_refused_requests_total{{reason="{reason}"}} ')[1].split("\n")[0])

    assert [await count(reason) for reason in PROBLEMS] == [0] * len(PROBLEMS)
    collector.context.health.full = True
    await collector.send(batch_of([]))
    collector.context.health.full = False
    await collector.post(b"{}", {"Content-Type": "text/plain"})
    await collector.post(b"{}", token="nobody")
    await collector.client.get("/nowhere")
    await collector.client.get("/v1/summary", params={"window": "x"})
    reasons = ("full", "unsupported", "unauthorized", "not_found", "invalid", "internal")
    assert [await count(reason) for reason in reasons] == [1, 1, 1, 1, 1, 0]


async def test_a_row_that_a_constraint_refuses_holds_up_no_other(collector: Collector) -> None:
    collector.alter("ALTER TABLE result ADD CONSTRAINT no_teapot CHECK (http_status <> 418)")
    batch = batch_of([inference_result(n, http_status=418 if n in {1, 4} else 200) for n in range(6)])
    ack = (await collector.send(batch)).json()
    assert {one["seq"]: one["reason"] for one in ack["rejected"]} == {1: "unstorable", 4: "unstorable"}
    assert ack["accepted"] == 4
    assert (await collector.send(batch)).json()["duplicate"] == 4


@pytest.mark.parametrize("table", ["batch", "agent_run", "agent_report"])
async def test_what_a_constraint_refuses_beside_the_results_is_503_and_nothing_is_stored(
    collector: Collector, table: str
) -> None:
    collector.alter(f"ALTER TABLE {table} ADD CONSTRAINT never CHECK (agent_id < 0)")
    answer = await collector.send(batch_of([inference_result(0)]))
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:isochrone:problem:unavailable")
    assert collector.rows() == []
    collector.alter(f"ALTER TABLE {table} DROP CONSTRAINT never")
    assert (await collector.send(batch_of([inference_result(0)]))).json()["accepted"] == 1
