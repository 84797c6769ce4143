"""Stored results go out to a real receiver: once, after the commit, at their own time. Ingest never waits for it."""

import asyncio
import gzip
import logging
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from collector.app import create_app
from collector.config import Settings
from collector.errors import SettingsError
from collector.receivers import Headers, Receiver, Receivers, RemoteWrite
from collector.telemetry import exporter, exports
from isochrone.outcome import Flag
from tests.collecting import QUICK, Collector, batch_of, boottime, inference_result, rtt_result, running_collector
from tests.scripted_http import Reply, Request, serving
from tests.telemetry import attributes, metrics_in, points_in, series_in

pytestmark = pytest.mark.anyio

SECRET: Headers = (("Authorization", "Bearer hunter2"),)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "GATHER_SECONDS", 0.0)
    monkeypatch.setattr(exporter, "FIRST_WAIT_SECONDS", 0.05)


class Otel:
    """A receiver of OTLP that answers what `replies` say, then takes everything it can decode."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.requests: list[Request] = []
        self.taken: list[ExportMetricsServiceRequest] = []
        self.look: Callable[[], None] = lambda: None

    def __call__(self, request: Request) -> Reply:
        self.requests.append(request)
        self.look()
        if self.replies:
            return self.replies.pop(0)
        message = ExportMetricsServiceRequest()
        message.ParseFromString(gzip.decompress(request.body))
        self.taken.append(message)
        return Reply(body=b"", content_type="application/x-protobuf")

    @property
    def probes(self) -> list[tuple[str, int]]:
        """What names each result that came, and its time."""
        return [
            (str(attributes(point.exemplars[0].filtered_attributes)["isochrone.result_id"]), point.start_time_unix_nano)
            for message in self.taken
            for point in points_in(metrics_in(message)["isochrone.probes"])
        ]

    @property
    def numbers(self) -> list[int]:
        return sorted(int(name.rpartition(":")[2]) for name, _ in self.probes)


def settings_for(database_url: str, otlp: str | None = None, write: str | None = None, **more: object) -> Settings:
    receivers = Receivers(
        otlp=None if otlp is None else Receiver(url=otlp + "/v1/metrics", headers=SECRET),
        remote_write=None if write is None else RemoteWrite(receiver=Receiver(url=write + "/write", headers=SECRET)),
        **more,  # type: ignore[arg-type]
    )
    return Settings(database_url=database_url, batches_per_second=QUICK, receivers=receivers)


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not reached():  # noqa: ASYNC110  it is the exporter's own numbers that tell
            await asyncio.sleep(0.01)


async def counted(collector: Collector, name: str) -> float:
    """Return a series of /metrics; `name` holds its labels."""
    text = (await collector.fetch("/metrics")).text
    (found,) = re.findall(rf"^{re.escape(name)} (\S+)$", text, flags=re.MULTILINE)
    return float(found)


async def idle(collector: Collector) -> None:
    await until(lambda: all(one.waiting == 0 for one in collector.context.telemetry.exporters))


@asynccontextmanager
async def stalling() -> AsyncIterator[tuple[str, list[asyncio.StreamWriter]]]:
    """Give a receiver that reads and never answers."""
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while await reader.read(65_536):
            pass
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", writers
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await server.wait_closed()


async def test_what_is_stored_arrives_after_its_commit_at_its_own_time(database_url: str) -> None:
    otel, stored = Otel(), []

    def look() -> None:
        with psycopg.connect(database_url) as connection:
            stored.extend(connection.execute("SELECT seq FROM result").fetchall())

    otel.look = look
    async with (
        serving(otel) as address,
        running_collector(database_url, settings=settings_for(database_url, address)) as collector,
    ):
        old = inference_result(1, started_boottime_seconds=boottime() - 3_000)
        await collector.send(batch_of([inference_result(0), old, rtt_result(2)]))
        await idle(collector)
        rows = collector.rows("SELECT boot_id, seq, started_at FROM v_result ORDER BY seq")
        assert await counted(collector, 'isochrone_export_results_total{export="otlp"}') == 3
    assert {seq for (seq,) in stored} == {0, 1, 2}
    said = {name: datetime.fromtimestamp(ns / 1e9, tz=rows[0][2].tzinfo) for name, ns in otel.probes}  # type: ignore[attr-defined]
    for boot_id, seq, started_at in rows:
        assert abs((said[f"{boot_id}:{seq}"] - started_at).total_seconds()) < 1e-5  # type: ignore[operator]
    request = otel.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/metrics")
    assert request.headers["content-type"] == "application/x-protobuf"
    assert request.headers["content-encoding"] == "gzip"
    assert request.headers["authorization"] == "Bearer hunter2"


async def test_only_what_was_really_stored_and_is_not_spoiled_goes_out(database_url: str) -> None:
    otel = Otel()
    async with (
        serving(otel) as address,
        running_collector(database_url, settings=settings_for(database_url, address)) as collector,
    ):
        results = [
            inference_result(0),
            inference_result(1, endpoint="unknown"),
            inference_result(2, flags=(Flag.LATE_START,)),
            inference_result(3),
        ]
        await collector.send(batch_of(results))
        await idle(collector)
        name = 'isochrone_export_skipped_results_total{export="otlp",reason="spoiled"}'
        assert await counted(collector, name) == 1
    assert otel.numbers == [0, 3]


async def test_a_batch_that_comes_again_exports_nothing(database_url: str) -> None:
    otel = Otel()
    async with (
        serving(otel) as address,
        running_collector(database_url, settings=settings_for(database_url, address)) as collector,
    ):
        batch = batch_of([inference_result(0), rtt_result(1)])
        answers = await asyncio.gather(*(collector.send(batch) for _ in range(10)))
        assert {answer.status_code for answer in answers} == {200}
        await collector.send(batch)
        await collector.send(batch_of([inference_result(2)]))
        await until(lambda: 2 in otel.numbers)
        await idle(collector)
    assert otel.numbers == [0, 1, 2]


async def test_several_collectors_export_a_result_once(database_url: str) -> None:
    otel = Otel()
    async with serving(otel) as address:
        settings = settings_for(database_url, address)
        async with (
            running_collector(database_url, settings=settings) as first,
            running_collector(database_url, targets=None, settings=settings) as second,
        ):
            batches = [batch_of([inference_result(number)]) for number in range(20)]
            for batch in batches:
                await asyncio.gather(first.send(batch, token=second.token), second.send(batch))
            await asyncio.gather(idle(first), idle(second))
    assert otel.numbers == list(range(20))


async def test_a_receiver_that_stalls_holds_up_neither_ingest_nor_the_end(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "GRACE_SECONDS", 0.2)
    async with stalling() as (address, writers):
        settings = settings_for(database_url, address, address, queue_results=50)
        async with running_collector(database_url, settings=settings) as collector:
            await collector.send(batch_of([inference_result(0)]))
            await until(lambda: len(writers) == 2)
            for number in range(1, 101, 10):
                answer = await collector.send(batch_of([inference_result(number + n) for n in range(10)]))
                assert answer.json()["accepted"] == 10
            assert await counted(collector, 'isochrone_export_queued_results{export="otlp"}') == 51
            full = 'isochrone_export_dropped_results_total{export="remote_write",reason="queue_full"}'
            assert await counted(collector, full) == 50
            families = collector.context.metrics.exports
        assert families.dropped.series("otlp", "stopped").value == 51
        assert collector.rows("SELECT count(*) FROM result") == [(101,)]


async def test_a_receiver_that_refuses_is_told_once_and_no_secret_with_it(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    rude = Reply(status=400, body=b"what is this Bearer hunter2?")
    otel = Otel(rude, rude)
    with caplog.at_level(logging.INFO):
        async with (
            serving(otel) as address,
            running_collector(database_url, settings=settings_for(database_url, address)) as collector,
        ):
            for number in range(3):
                await collector.send(batch_of([inference_result(number)]))
                await idle(collector)
            refused = 'isochrone_export_dropped_results_total{export="otlp",reason="refused"}'
            assert await counted(collector, refused) == 2
    assert otel.numbers == [2]
    (line,) = [line for line in caplog.messages if line.startswith("export ")]
    assert line.endswith("HTTP 400: what is this ***?")
    assert "hunter2" not in caplog.text


async def test_a_receiver_that_was_away_gets_everything_when_it_is_back(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    busy = Reply(status=503, headers={"retry-after": "0"})
    otel = Otel(busy, Reply(status=200, cut=10), busy)
    with caplog.at_level(logging.INFO):
        async with (
            serving(otel) as address,
            running_collector(database_url, settings=settings_for(database_url, address)) as collector,
        ):
            await collector.send(batch_of([inference_result(0), inference_result(1)]))
            await idle(collector)
            assert await counted(collector, 'isochrone_export_retries_total{export="otlp"}') == 3
    assert otel.numbers == [0, 1]
    told = [line for line in caplog.messages if line.startswith("export ")]
    assert [line.split(": ")[-1] for line in told[:1]] == ["without a word"]
    assert told[-1].endswith("works again")
    assert len(told) == 2


async def test_a_receiver_that_nobody_runs_is_told_in_words(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(Otel()) as address:
        pass
    with caplog.at_level(logging.INFO):
        async with running_collector(database_url, settings=settings_for(database_url, address)) as collector:
            await collector.send(batch_of([inference_result(0)]))
            await until(lambda: any("connection refused" in line for line in caplog.messages))
    assert (
        f"export otlp to {address}/v1/metrics: tries again: connection refused: nothing listens there"
        in caplog.messages
    )


async def test_partial_success_is_counted(database_url: str) -> None:
    response = ExportMetricsServiceResponse()
    response.partial_success.rejected_data_points = 3
    otel = Otel(Reply(body=response.SerializeToString()))
    async with (
        serving(otel) as address,
        running_collector(database_url, settings=settings_for(database_url, address)) as collector,
    ):
        await collector.send(batch_of([inference_result(0)]))
        await idle(collector)
        assert await counted(collector, 'isochrone_export_rejected_points_total{export="otlp"}') == 3
        assert await counted(collector, 'isochrone_export_results_total{export="otlp"}') == 1


async def test_remote_write_goes_out_as_prometheus_wants_it(database_url: str) -> None:
    requests: list[Request] = []

    def answer(request: Request) -> Reply:
        requests.append(request)
        return Reply(status=204)

    async with serving(answer) as address:
        settings = settings_for(database_url, write=address)
        async with running_collector(database_url, settings=settings) as collector:
            await collector.send(batch_of([inference_result(0), rtt_result(1)]))
            await idle(collector)
    (request,) = requests
    assert request.headers["content-encoding"] == "snappy"
    assert request.headers["x-prometheus-remote-write-version"] == "0.1.0"
    assert request.headers["authorization"] == "Bearer hunter2"
    names = {dict(labels)["__name__"] for labels in series_in(request.body)}
    assert {"isochrone_result_ttft_seconds", "isochrone_result_rtt_seconds"} <= names


async def test_without_a_receiver_there_is_no_series_of_exports(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(0)]))
        assert "isochrone_export" not in (await collector.fetch("/metrics")).text


def test_a_collector_without_exports_loads_nothing_of_them() -> None:
    words = "import sys, collector.app; print(sorted({'google.protobuf', 'cramjam', 'httpx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_export_without_its_extra_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "collector.telemetry.building", None)
    with pytest.raises(SettingsError, match=r"pip install 'isochrone\[collector,telemetry\]'"):
        create_app(settings_for("postgresql://h/d", "http://h"))


def test_a_wrong_file_of_authorities_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "ca.pem"
    wrong.write_text("no certificate")
    with pytest.raises(SettingsError, match="ISOCHRONE_EXPORT_CA_FILE"):
        create_app(settings_for("postgresql://h/d", "https://h", ca_file=wrong))
