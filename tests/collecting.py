"""A real collector for tests: uvicorn on loopback, the test's own Postgres, an agent with a credential, batches."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import psycopg
import uvicorn

from collector import admin
from collector.api.context import Context
from collector.api.deadlines import BoundedProtocol
from collector.app import create_app
from collector.config import Settings
from collector.rollup import work_off
from isochrone.batch import MEDIA_TYPE, WIRE_VERSION, AgentStatus, Batch
from isochrone.config import (
    Duration,
    Endpoint,
    InferenceOptions,
    Location,
    Module,
    Provider,
    Region,
    RttOptions,
    Site,
    Targets,
    TokenPrice,
)
from isochrone.marks import Marks, components
from isochrone.outcome import Connection, Outcome, Prober, RttMethod, RttSource, TokenSource
from isochrone.result import Pings, Result, Tokens
from isochrone.wire import encode_batch

REGION = "eu-central"
AGENT = "agent-1"
QUICK = 10_000.0
"""Batches per second: tests send as fast as they can."""

TARGETS = Targets(
    modules={
        "rtt": Module(prober=Prober.RTT, interval=Duration(30), timeout=Duration(5), rtt=RttOptions()),
        "chat": Module(prober=Prober.INFERENCE, interval=Duration(60), timeout=Duration(60)),
        "warm": Module(
            prober=Prober.INFERENCE,
            interval=Duration(60),
            timeout=Duration(60),
            inference=InferenceOptions(connection=Connection.WARM),
        ),
    },
    endpoints=(
        Endpoint(
            name="near",
            url="http://127.0.0.1:9/v1",
            provider=Provider.OPENAI,
            model="model-1",
            location=Location(region="us-east", latitude=38.95, longitude=-77.45),
            price=TokenPrice(input_per_million=1.0, output_per_million=2.0),
            modules=("rtt", "chat", "warm"),
            simulated=True,
        ),
    ),
    sites=(Site(name="site-1", url="http://127.0.0.1:9/", modules=("rtt",)),),
    regions=(Region(name=REGION, latitude=50.1, longitude=8.7, country="DE", weight=0.3),),
)


@dataclass(frozen=True, kw_only=True)
class Collector:
    """A running collector, and a client that knocks at it."""

    context: Context
    client: httpx.AsyncClient
    database_url: str
    token: str

    async def send(self, batch: Batch, *, token: str | None = None) -> httpx.Response:
        """Send a batch as an agent does."""
        return await self.post(gzip.compress(encode_batch(batch)), {"Content-Encoding": "gzip"}, token=token)

    async def post(
        self, body: bytes, headers: Mapping[str, str] | None = None, *, token: str | None = None
    ) -> httpx.Response:
        """Send any body; `headers` come on top of type and credential."""
        base = {"Authorization": f"Bearer {token or self.token}", "Content-Type": MEDIA_TYPE}
        return await self.client.post("/v1/batches", content=body, headers={**base, **(headers or {})})

    async def fetch(self, path: str) -> httpx.Response:
        """Get as the agent."""
        return await self.client.get(path, headers={"Authorization": f"Bearer {self.token}"})

    async def roll_up(self) -> None:
        """Roll up all that came in, minutes and hours, and let the next summary be a new one."""
        now = self.context.utc_now()
        for moment in (now, now + timedelta(minutes=10)):  # marks on hours wait for more of the same
            for _ in range(600):
                if (await work_off(self.context.engine, moment)).waiting.minutes == 0:
                    break
                await asyncio.sleep(0.05)
        self.context.summaries.forget()

    def rows(self, query: str = "SELECT * FROM v_result ORDER BY boot_id, seq") -> list[tuple[object, ...]]:
        """Ask the database."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(query.encode()).fetchall()

    def alter(self, statement: str) -> None:
        """Change the database behind the collector's back."""
        with psycopg.connect(self.database_url) as connection:
            connection.execute(statement.encode())


@asynccontextmanager
async def running_collector(
    database_url: str, *, targets: Targets | None = TARGETS, settings: Settings | None = None
) -> AsyncIterator[Collector]:
    """Give a collector that serves an agent of region eu-central; the database may know the agent already."""
    if targets is not None:
        admin.apply_targets(database_url, targets)
    token = admin.add_agent(database_url, name=AGENT, region=REGION, replace_credential=True)
    app = create_app(settings or Settings(database_url=database_url, batches_per_second=QUICK))
    async with serving(app) as address, httpx.AsyncClient(base_url=address, trust_env=False, timeout=30) as client:
        yield Collector(context=app.state.context, client=client, database_url=database_url, token=token)


@asynccontextmanager
async def serving(app: object) -> AsyncIterator[str]:
    """Give the address of a real server that runs in this event loop."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_config=None, access_log=False, lifespan="on", http=BoundedProtocol
    )  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        if task.done():
            await task
            raise RuntimeError("the server did not start")
        await asyncio.sleep(0.01)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


def settle(collector: Collector) -> None:
    """Let half a minute pass on the collector's clock: what came in before is ready for those who follow."""
    now = collector.context.utc_now
    collector.context.utc_now = lambda: now() + timedelta(seconds=30)


def boottime() -> float:
    """Return the clock that results tell their age by."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def inference_result(seq: int = 0, **more: object) -> Result:
    """Return a success: round trip 10 ms, TTFT 300 ms, 20 ms per token, 1 s in all."""
    marks = Marks(dns=0.001, tcp=0.011, tls=0.03, request_started=0.03, request_sent=0.0301, headers=0.2,
                  first_event=0.33, first_token=0.33, first_answer=0.33, last_token=0.95, end=1.0)  # fmt: skip
    fields: dict[str, object] = {
        "seq": seq,
        "endpoint": "near",
        "module": "chat",
        "prober": Prober.INFERENCE,
        "started_at": datetime.now(UTC),
        "started_boottime_seconds": boottime(),
        "outcome": Outcome.OK,
        "http_status": 200,
        "address": "127.0.0.1",
        "ip_version": 4,
        "connection": Connection.COLD,
        "marks": marks,
        "duration_seconds": 1.0,
        "setup_seconds": 0.03,
        "rtt_seconds": 0.01,
        "rtt_source": RttSource.TCP_INFO,
        "ttft_seconds": 0.3,
        "answer_ttft_seconds": 0.3,
        "tpot_seconds": 0.02,
        "tokens_per_second": 50.0,
        "stall_seconds": 0.03,
        "components": components(marks, rtt_seconds=0.01),
        "tokens": Tokens(source=TokenSource.USAGE, output=32, input=20, arrivals=32),
    }
    return Result(**{**fields, **more})  # type: ignore[arg-type]


def rtt_result(seq: int = 0, **more: object) -> Result:
    """Return a success of the `rtt` prober: five samples around 100 ms."""
    pings = Pings(method=RttMethod.TCP, sent=5, lost=1, min_seconds=0.099, median_seconds=0.1, mean_seconds=0.101,
                  max_seconds=0.11, jitter_seconds=0.001)  # fmt: skip
    fields: dict[str, object] = {
        "seq": seq,
        "endpoint": "near",
        "module": "rtt",
        "prober": Prober.RTT,
        "started_at": datetime.now(UTC),
        "started_boottime_seconds": boottime(),
        "outcome": Outcome.OK,
        "connection": Connection.COLD,
        "rtt_seconds": 0.1,
        "rtt_source": RttSource.HANDSHAKE,
        "duration_seconds": 1.0,
        "pings": pings,
    }
    return Result(**{**fields, **more})  # type: ignore[arg-type]


def batch_of(results: Sequence[Result], **more: object) -> Batch:
    """Return a batch that is sent now."""
    fields: dict[str, object] = {
        "version": WIRE_VERSION,
        "batch_id": uuid4(),
        "boot_id": UUID(int=1),
        "sent_at": datetime.now(UTC),
        "sent_boottime_seconds": boottime(),
        "status": AgentStatus(version="0.1.0", queued_results=3),
        "results": tuple(results),
    }
    return Batch(**{**fields, **more})  # type: ignore[arg-type]
