"""What a scrape of 50,000 series costs: beside the client library, the event loop, and the batches that come in.

All series change between two scrapes, which is the worst case. Scrapes ask for OpenMetrics and gzip, as Prometheus.
"""

import asyncio
import gc
import http.client
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, disable_created_metrics
from prometheus_client.openmetrics.exposition import generate_latest

from collector import admin
from collector.api.metrics import write
from collector.metrics.families import families_of
from isochrone.config import Targets
from tests.bench import ingest
from tests.bench.expectation import Expectation
from tests.bench.sending import send_round
from tests.collecting import TARGETS, inference_result
from tests.exposed import Exposed, rows_of
from tests.postgres import running_postgres

SERIES: Final = 50_000
ENDPOINTS: Final = 80
"""With three modules each, in one region: a little more than so many series."""
ROUNDS: Final = 9
SHARE_OF_CLIENT: Final = 1 / 20
HELD_SECONDS: Final = 0.020
TICK_SECONDS: Final = 0.001
SCRAPE_SECONDS: Final = 2.0
INGEST_ROUNDS: Final = 7
"""Of each kind, in turns, after one to warm up."""
BATCHES_PER_CLIENT: Final = 30
"""So that a round holds several scrapes."""
KEPT_SPEED: Final = 0.95
HEADERS: Final = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}


def run() -> list[Expectation]:
    """Measure and return what came out."""
    exposed = asyncio.run(_filled())
    ours, theirs = _alternate(exposed)
    held = asyncio.run(_held(exposed))
    quiet, scraped = _ingest_rates()
    print(f"held by a scrape, ms: {_list([1000 * one for one in held])}")
    print(f"results/s alone: {_list(quiet)}; while scraped: {_list(scraped)}")
    lines = _lines(exposed)
    return [
        Expectation(
            bench="exposition",
            what=f"/metrics with {lines:,} series, all of them changed",
            measured=1000 * statistics.median(ours),
            unit="ms",
            against="client library, same series",
            reference=1000 * statistics.median(theirs),
            at_most=SHARE_OF_CLIENT,
        ),
        Expectation(
            bench="exposition",
            what=f"event loop held by a scrape of {lines:,} series, gzipped",
            measured=1000 * statistics.median(held),
            unit="ms",
            against="limit",
            reference=1000 * HELD_SECONDS,
            at_most=1.0,
        ),
        Expectation(
            bench="exposition",
            what=f"results through POST /v1/batches, scraped every {SCRAPE_SECONDS:g} s",
            measured=statistics.median(scraped),
            unit="/s",
            against="not scraped",
            reference=statistics.median(quiet),
            at_least=KEPT_SPEED,
        ),
    ]


def _targets() -> Targets:
    (near,) = TARGETS.endpoints
    more = (msgspec.structs.replace(near, name=f"endpoint-{n}") for n in range(ENDPOINTS))
    return msgspec.structs.replace(TARGETS, endpoints=(near, *more))


async def _filled() -> Exposed:
    exposed = Exposed()
    await exposed.know(rows_of(_targets()))
    if _lines(exposed) < SERIES:
        raise RuntimeError(f"{_lines(exposed)} series are too few")
    return exposed


def _lines(exposed: Exposed) -> int:
    return sum(family.lines_count for family in families_of(*exposed.metrics.groups))


def _change(exposed: Exposed) -> None:
    """Let every target bring something."""
    names = [endpoint.name for endpoint in _targets().endpoints]
    exposed.count(
        *(inference_result(seq, endpoint=name, ttft_seconds=0.2 + seq / 50) for seq, name in enumerate(names))
    )


def _alternate(exposed: Exposed) -> tuple[list[float], list[float]]:
    """Return the seconds of both ways, measured in turns: the machine's speed drifts."""
    ours: list[float] = []
    theirs: list[float] = []
    client = _as_client(exposed)
    for _ in range(ROUNDS):
        _change(exposed)
        ours.append(_seconds(lambda: write(exposed.metrics, openmetrics=True, gzipped=False)))
        theirs.append(_seconds(lambda: generate_latest(client)))
    return ours, theirs


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _as_client(exposed: Exposed) -> CollectorRegistry:
    """Return the client library's registry with series of the same names, labels and bounds."""
    disable_created_metrics()
    registry = CollectorRegistry()
    for family in families_of(*exposed.metrics.groups):
        arguments = (family.name, family.definition.help, family.labels)
        if family.kind == "histogram":
            series = Histogram(*arguments, buckets=family.definition.bounds, registry=registry)
        else:
            series = {"summary": Summary, "counter": Counter, "gauge": Gauge}[family.kind](
                *arguments, registry=registry
            )
        for labels in family.keys() if family.labels else ():
            one = series.labels(*labels)
            (one.observe if hasattr(one, "observe") else one.inc)(0.25)
    copied = sum(1 for metric in registry.collect() for _ in metric.samples)
    if abs(copied / _lines(exposed) - 1) > 0.01:  # what has no labels may have no series here
        raise RuntimeError(f"{copied} series are not as many")
    return registry


async def _held(exposed: Exposed) -> list[float]:
    """Return for each scrape how long the event loop did not come to its turn at worst.

    Less what it waits at worst when nobody scrapes: that is the machine's.
    """
    busy, idle = [], []
    for _ in range(ROUNDS):
        _change(exposed)
        begin = time.perf_counter()
        busy.append(await _worst_turn(asyncio.create_task(_scrape(exposed))))
        idle.append(await _worst_turn(asyncio.create_task(asyncio.sleep(time.perf_counter() - begin))))
    return [max(0.0, one - statistics.median(idle)) for one in busy]


async def _worst_turn(task: asyncio.Task[object]) -> float:
    worst = 0.0
    while not task.done():
        begin = time.perf_counter()
        await asyncio.sleep(TICK_SECONDS)
        worst = max(worst, time.perf_counter() - begin - TICK_SECONDS)
    await task
    return worst


async def _scrape(exposed: Exposed) -> object:
    """Do as the route does."""
    exposed.metrics.expire()
    return await asyncio.to_thread(write, exposed.metrics, openmetrics=True, gzipped=True)


def _ingest_rates() -> tuple[list[float], list[float]]:
    """Return results per second without and with scrapes, in turns."""
    quiet: list[float] = []
    scraped: list[float] = []
    with running_postgres() as server:
        stage = ingest.new_stage(server.new_database())
        admin.apply_targets(stage.url, _targets())
        with ingest.collecting(stage.url) as address:
            for number in range(2 * (INGEST_ROUNDS + 1)):
                ingest.checkpoint(stage.url)
                # a b b a a b …: what grows in the course of time falls to both alike
                with_scrapes = number % 4 in {1, 2}
                with _scraping(address) if with_scrapes else _nothing():
                    rate = send_round(address, stage.tokens, batches=BATCHES_PER_CLIENT, per_batch=ingest.PER_BATCH)
                if number > 1:
                    (scraped if with_scrapes else quiet).append(rate)
    return quiet, scraped


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _scraping(address: str) -> Iterator[None]:
    """Scrape every two seconds, and read what comes without looking at it."""
    ended = threading.Event()
    faults: list[BaseException] = []
    thread = threading.Thread(target=_scrape_until, args=(address, ended, faults))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if faults:
        raise faults[0]


def _scrape_until(address: str, ended: threading.Event, faults: list[BaseException]) -> None:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    try:
        while not ended.wait(SCRAPE_SECONDS):
            connection.request("GET", "/metrics", headers=HEADERS)
            answer = connection.getresponse()
            if len(answer.read()) < SERIES or answer.status != http.client.OK:  # a byte for each, gzipped
                raise RuntimeError(f"the scrape was answered {answer.status}")  # noqa: TRY301  told by the other thread
    except Exception as exc:  # noqa: BLE001  told by the other thread
        faults.append(exc)
    finally:
        connection.close()


def _list(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:,.1f}" for number in numbers)
