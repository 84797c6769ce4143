"""Real processes for the system tests: Postgres, collectors, simulator and agent, and a cable that can be cut."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from pathlib import Path
from time import monotonic, sleep

import httpx
import msgspec
import psycopg

from collector import admin, embedded
from collector.config import Listen
from collector.processes import Child, Program
from collector.up import ask, programs
from collector.up.data import open_data, write_secret
from collector.up.demo import Simulated
from isochrone.config import Duration, Endpoint, InferenceOptions, Module, Provider, RttOptions, Targets
from isochrone.outcome import Prober, RttMethod
from tests import front
from tests.oracle import Key, Ledger, Printed, Window, read_printed
from tests.system import mutants
from tests.system.cable import LOOPBACK, Cable

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 90
"""For a new result in Postgres after a fault: the agent's backoff, and a machine with other things to do."""
LINES = "printed.jsonl"
DATABASE = "database"
"""The folder above that of Postgres, which a test may put on a disk of its own."""
ENDPOINTS = tuple(f"load-{number}" for number in range(4))
FAST = Simulated(name="load", rtt="2ms", ttft="20ms", tpot="5ms", region="here", latitude=0.0, longitude=0.0)
MODULES = {
    "rtt": Module(
        prober=Prober.RTT,
        interval=Duration(1),
        timeout=Duration(0.5),
        rtt=RttOptions(method=RttMethod.HTTP, count=2, spacing=Duration(0.05)),
    ),
    "chat": Module(
        prober=Prober.INFERENCE,
        interval=Duration(1),
        timeout=Duration(0.9),
        inference=InferenceOptions(max_output_tokens=4, first_token_timeout=Duration(0.5), stall_timeout=Duration(0.5)),
    ),
}
IN_FLIGHT = len(ENDPOINTS) * len(MODULES)
"""Results that may be recorded and not yet printed when a kill comes: one for each target."""


async def until(condition: Callable[[], bool], *, what: str, seconds: float) -> None:
    """Wait until `condition` holds; fail telling `what` after `seconds`."""
    deadline = monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        await asyncio.sleep(0.1)


@dataclass(kw_only=True)
class Cluster:
    """Everything that runs. A child that is killed is started again by its keeper, as under systemd."""

    data: Path
    server: embedded.Postgres
    cable: Cable
    planted: str | None = None
    children: dict[str, Child] = field(default_factory=dict)

    @property
    def lines(self) -> Path:
        return self.data / LINES

    async def start(self, program: Program) -> None:
        if self.planted is not None and mutants.concerns(self.planted, program):
            program = mutants.plant(self.planted, program)
        self.children[program.name.split()[0]] = child = Child(program=program)
        await child.start()

    async def stop(self) -> None:
        for child in reversed(self.children.values()):
            await child.stop()

    async def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End the named process and wait until another stands in its place."""
        child = self.children[name]
        restarts, pid = child.restarts, child.pid
        assert pid is not None
        os.kill(pid, number)
        await until(lambda: child.restarts > restarts and child.pid is not None, what=f"{name} again", seconds=30)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the named process, if it runs."""
        pid = self.children[name].pid
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def backends(self) -> list[int]:
        """Return the processes of Postgres that serve the collectors."""
        with psycopg.connect(self.server.url) as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'isochrone%'"
            ).fetchall()
        return [pid for (pid,) in rows]

    def printed(self, *, since: int = 0) -> Printed:
        """Return what the agents printed after so many bytes."""
        with self.lines.open("rb") as file:
            file.seek(since)
            return read_printed(file.read().decode())

    def ledger(self, windows: tuple[Window, ...] = ()) -> Ledger:
        """Return the account as it stands."""
        with psycopg.connect(self.server.url, row_factory=psycopg.rows.dict_row) as connection:
            stored = connection.execute("SELECT * FROM v_result").fetchall()
        return Ledger(
            printed=self.printed(),
            stored=stored,
            duplicates_told=self.cable.duplicates_told,
            declared=dict(+self.cable.lost),
            windows=windows,
            in_flight=IN_FLIGHT,
        )

    async def progresses(self, *, what: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until a result that the agent prints from now on stands in Postgres."""
        since = self.lines.stat().st_size

        def new_one_stored() -> bool:
            new = self.printed(since=since).keys()
            with suppress(psycopg.OperationalError):
                return bool(new) and self._stands(new)
            return False

        await until(new_one_stored, what=f"a new result in Postgres after {what}", seconds=seconds)

    async def drains(self) -> None:
        """Wait until the agent has next to nothing to send, then end it."""
        spool = self.data / "agent" / "spool"
        await until(lambda: len(list(spool.glob("*.seg"))) <= 1, what="the backlog sent", seconds=3 * PATIENCE_SECONDS)
        assert await self.children["agent"].stop(), "the agent did not drain in time"

    def _stands(self, keys: set[Key]) -> bool:
        boots, seqs = zip(*keys, strict=True)
        query = (
            "SELECT 1 FROM v_result JOIN unnest(%s::uuid[], %s::bigint[]) AS new (boot, number)"
            " ON boot_id = boot AND seq = number LIMIT 1"
        )
        with psycopg.connect(self.server.url, connect_timeout=5) as connection:
            return connection.execute(query, [list(boots), list(seqs)]).fetchone() is not None


@asynccontextmanager
async def running_cluster(
    data: Path, *, planted: str | None = None, collectors: int = 1, fronted: bool = False
) -> AsyncIterator[Cluster]:
    """Give a cluster under load: four endpoints, each with a round trip and a stream every second.

    `planted` is the bug that one of its programs has, of `mutants.MUTANTS`. `fronted`: the agent reaches the collectors
    through HAProxy, and they reach Postgres through PgBouncer.
    """
    with open_data(data), (data / LINES).open("ab") as lines:
        (data / DATABASE).mkdir(exist_ok=True)
        server = await asyncio.to_thread(embedded.prepare, data / DATABASE / "postgres")
        doors = [ask.reserve(Listen(LOOPBACK, 0)) for _ in range(collectors)]
        balancer = ask.reserve(Listen(LOOPBACK, 0)) if fronted else None
        cable = Cable(*doors) if balancer is None else Cable(balancer)
        cluster = Cluster(data=data, server=server, cable=cable, planted=planted)
        await cluster.cable.open()
        try:
            await _start(cluster, doors, balancer=balancer, results_to=lines.fileno())
            yield cluster
        finally:
            await cluster.stop()
            await cluster.cable.close()
            server.forget()


async def _start(cluster: Cluster, doors: list[Listen], *, balancer: Listen | None, results_to: int) -> None:
    data, logs = cluster.data, cluster.data / "log"
    port = ask.reserve(Listen(LOOPBACK, 0)).port
    await cluster.start(programs.postgres(cluster.server, logs))
    url = cluster.server.url if balancer is None else await _start_pooler(cluster)
    await asyncio.to_thread(admin.migrate, url)
    await asyncio.to_thread(admin.apply_targets, url, load_targets(port))
    token = await asyncio.to_thread(partial(admin.add_agent, url, name="tester", region="here"))
    write_secret(data / "agent.credential", token)
    names = ["collector" if number == 1 else f"collector-{number}" for number in range(1, len(doors) + 1)]
    collectors = [programs.collector(url, door, logs) for door in doors]
    both = zip(names, collectors, strict=True)
    await asyncio.gather(*(cluster.start(replace(one, name=name, log=logs / f"{name}.log")) for name, one in both))
    if balancer is not None:
        await cluster.start(front.haproxy(logs, balancer, doors))
    await cluster.start(programs.simulator(FAST, port, logs))
    await asyncio.to_thread(_keep_as_good, f"http://{doors[0]}", token, data / "agent" / "config.json")
    settings = programs.agent_settings(f"http://{cluster.cable.listen}", data)
    await cluster.start(programs.agent(settings, logs, results_to=results_to))


async def _start_pooler(cluster: Cluster) -> str:
    """Start PgBouncer and return the URL of the database behind it."""
    listen, server = ask.reserve(Listen(LOOPBACK, 0)), cluster.server
    folder = cluster.data / DATABASE
    await cluster.start(front.pgbouncer(folder, listen, database=server.socket_folder, user=server.user))
    return front.pooled_url(listen)


def _keep_as_good(collector_url: str, token: str, path: Path) -> None:
    """Let the configuration be one that stood its trial long ago: kills from outside do not speak against it."""
    deadline = monotonic() + PATIENCE_SECONDS
    while True:
        with suppress(httpx.TransportError):
            headers = {"authorization": f"Bearer {token}"}
            answer = httpx.get(f"{collector_url}/v1/agent/config", headers=headers, trust_env=False)
            if answer.status_code == HTTPStatus.OK:
                break
        assert monotonic() < deadline, "the collector gives no configuration"
        sleep(0.1)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(msgspec.json.encode({"etag": answer.headers["etag"], "config": msgspec.Raw(answer.content)}))


def load_targets(port: int) -> Targets:
    """Return the load: `ENDPOINTS`, all of them one simulator."""
    return Targets(
        modules=MODULES,
        endpoints=tuple(
            Endpoint(
                name=name,
                url=f"http://{LOOPBACK}:{port}/v1",
                provider=Provider.OPENAI,
                model="simulated",
                modules=tuple(MODULES),
                simulated=True,
            )
            for name in ENDPOINTS
        ),
    )
