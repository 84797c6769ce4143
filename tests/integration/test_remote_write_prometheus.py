"""A real Prometheus takes the samples, and gives them back at the time of their results."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from collector.config import Settings
from collector.receivers import Receiver, Receivers, RemoteWrite
from collector.telemetry import exporter
from isochrone.result import Result
from tests.collecting import QUICK, Collector, batch_of, boottime, inference_result, running_collector
from tests.programs import need

pytestmark = pytest.mark.anyio

TTFT = "isochrone_result_ttft_seconds"
WINDOW = "storage:\n  tsdb:\n    out_of_order_time_window: 2h\n"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "GATHER_SECONDS", 0.0)


@asynccontextmanager
async def prometheus(folder: Path, config: str = "") -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of a Prometheus that takes remote write; its data are in `folder`."""
    need("prometheus", package="prometheus")
    (folder / "prometheus.yml").write_text(config)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            "--web.enable-remote-write-receiver",
            stdout=log,
            stderr=log,
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client:
            await _ready(client, process, folder / "log")
            yield client
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _ready(client: httpx.AsyncClient, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(60):
        while True:
            if process.returncode is not None:
                raise RuntimeError(await asyncio.to_thread(log.read_text))
            try:
                if (await client.get("/-/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


@asynccontextmanager
async def writing(database_url: str, client: httpx.AsyncClient, **more: float) -> AsyncIterator[Collector]:
    """Give a collector that writes to that Prometheus."""
    receiver = Receiver(url=f"{client.base_url}/api/v1/write")
    receivers = Receivers(remote_write=RemoteWrite(receiver=receiver, **more))
    settings = Settings(database_url=database_url, batches_per_second=QUICK, receivers=receivers)
    async with running_collector(database_url, settings=settings) as collector:
        yield collector


def aged(seq: int, seconds: float) -> Result:
    return inference_result(seq, started_boottime_seconds=boottime() - seconds, ttft_seconds=0.3 + seq)


async def send(collector: Collector, *results: Result) -> None:
    """Send a batch and wait until it is exported."""
    assert (await collector.send(batch_of(results))).json()["accepted"] == len(results)
    async with asyncio.timeout(60):
        while any(one.waiting for one in collector.context.telemetry.exporters):  # noqa: ASYNC110  it tells in numbers
            await asyncio.sleep(0.01)


async def samples(client: httpx.AsyncClient) -> list[tuple[int, float]]:
    """Ask for the raw samples of two hours: time in milliseconds, and value."""
    answer = (await client.get("/api/v1/query", params={"query": f"{TTFT}[2h]"})).json()
    assert answer["status"] == "success", answer
    (series,) = answer["data"]["result"]
    assert series["metric"]["agent_region"] == "eu-central"
    return [(round(moment * 1e3), float(value)) for moment, value in series["values"]]


def stored(collector: Collector) -> list[tuple[object, ...]]:
    query = "SELECT (extract(epoch FROM started_at) * 1000)::bigint, ttft_seconds FROM v_result ORDER BY started_at"
    return collector.rows(query)


def lost(collector: Collector) -> dict[str, float]:
    families = collector.context.metrics.exports
    reasons = {"refused": families.dropped, "out_of_order": families.skipped, "too_old": families.skipped}
    return {reason: family.series("remote_write", reason).value for reason, family in reasons.items()}


def nearly(found: list[tuple[int, float]], rows: list[tuple[object, ...]]) -> bool:
    """Tell whether both are the same: the database rounds a moment, a sample cuts it."""
    return len(found) == len(rows) and all(
        abs(moment - row[0]) <= 1 and value == row[1]  # type: ignore[operator]
        for (moment, value), row in zip(found, rows, strict=True)
    )


async def test_a_query_returns_each_result_at_its_own_time(database_url: str, tmp_path: Path) -> None:
    async with prometheus(tmp_path) as client, writing(database_url, client) as collector:
        await send(collector, aged(2, 5), aged(0, 2_400), aged(1, 1_200))
        await send(collector, aged(3, 1))
        assert nearly(await samples(client), stored(collector))
        assert not any(lost(collector).values())


async def test_what_prometheus_would_refuse_is_left_out_and_harms_nothing_else(
    database_url: str, tmp_path: Path
) -> None:
    async with prometheus(tmp_path) as client, writing(database_url, client) as collector:
        await send(collector, aged(1, 60))
        await send(collector, aged(0, 120), aged(2, 5), aged(3, 5_000))
        assert [value for _, value in await samples(client)] == [1.3, 2.3]
        assert lost(collector) == {"refused": 0, "out_of_order": 1, "too_old": 1}


async def test_a_refusal_by_prometheus_is_counted_and_the_next_results_go_out(
    database_url: str, tmp_path: Path
) -> None:
    async with prometheus(tmp_path) as client:
        async with writing(database_url, client) as collector:
            await send(collector, aged(1, 60))
        async with writing(database_url, client) as restarted:  # it does not know what was sent before
            await send(restarted, aged(0, 120))
            await send(restarted, aged(2, 5))
            assert [value for _, value in await samples(client)] == [1.3, 2.3]
            assert lost(restarted) == {"refused": 1, "out_of_order": 0, "too_old": 0}


async def test_with_a_window_late_results_find_their_place(database_url: str, tmp_path: Path) -> None:
    async with (
        prometheus(tmp_path, WINDOW) as client,
        writing(database_url, client, out_of_order_seconds=7_000, max_age_seconds=7_000) as collector,
    ):
        await send(collector, aged(2, 5))
        await send(collector, aged(1, 1_200), aged(0, 5_000))
        assert nearly(await samples(client), stored(collector))
        assert not any(lost(collector).values())
