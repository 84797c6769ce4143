"""Real processes for the system tests: Postgres, collector, simulator and agent, and a cable that can be cut.

The oracle: an agent prints a result after it recorded it. Each printed (boot_id, seq) is an obligation; `Ledger` holds
them against what stands in Postgres.
"""

import asyncio
import json
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg

from collector import admin, embedded
from collector.config import Listen
from collector.processes import Child, Program
from collector.up import ask, programs
from collector.up.data import open_data, write_secret
from collector.up.demo import Simulated
from isochrone.config import Duration, Endpoint, InferenceOptions, Module, Provider, RttOptions, Targets
from isochrone.outcome import Prober, RttMethod

Key = tuple[str, int]
"""(boot_id, seq): names a result of one agent for ever."""
LOOPBACK = "127.0.0.1"
LINES = "printed.jsonl"
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


async def until(condition: Callable[[], bool], *, what: str, seconds: float) -> None:
    """Wait until `condition` holds; fail telling `what` after `seconds`."""
    deadline = monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        await asyncio.sleep(0.1)


class Cable:
    """A TCP proxy before the collector. It can keep answers to batches to itself: committed, but never told."""

    def __init__(self, to: Listen) -> None:
        self._to = to
        self._server: asyncio.Server | None = None
        self._busy: set[asyncio.Task[None]] = set()
        self.listen = Listen(LOOPBACK, 0)
        self.cuts_wanted = 0
        self.cuts_made = 0
        self.duplicates_told = 0
        """Results that the collector's answers called duplicate."""

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        self.listen = Listen(LOOPBACK, self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            there = await asyncio.open_connection(self._to.host, self._to.port)
            asked = asyncio.create_task(self._pump(reader, there[1], self._asked))
            await self._pump(there[0], writer, self._answered)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            there[1].close()
        writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: Callable[[bytes], bool]
    ) -> None:
        with suppress(OSError):
            while (data := await reader.read(65_536)) and passes(data):
                writer.write(data)
                await writer.drain()

    def _asked(self, _data: bytes) -> bool:
        return True

    def _answered(self, data: bytes) -> bool:
        told = re.search(rb'"duplicate":(\d+)', data)
        if told is None:
            return True
        if self.cuts_made < self.cuts_wanted:
            self.cuts_made += 1
            return False
        self.duplicates_told += int(told[1])
        return True


@dataclass(kw_only=True)
class Ledger:
    """What the agent said that it recorded, against what stands in the database."""

    printed: dict[Key, dict[str, Any]]
    stored: list[dict[str, Any]]

    @property
    def counts(self) -> Counter[Key]:
        return Counter((str(row["boot_id"]), row["seq"]) for row in self.stored)

    def missing(self) -> set[Key]:
        return self.printed.keys() - self.counts.keys()

    def doubled(self) -> set[Key]:
        return {key for key, count in self.counts.items() if count > 1}

    def unprinted(self) -> set[Key]:
        """Return what is stored but was never printed: recorded in the instant before a kill, or invented."""
        return self.counts.keys() - self.printed.keys()

    def changed(self) -> set[Key]:
        """Return what is stored with another content than was printed."""
        facts = {(str(row["boot_id"]), row["seq"]): row for row in self.stored}
        return {key for key, line in self.printed.items() if key in facts and not _same(line, facts[key])}


def _same(line: dict[str, Any], row: dict[str, Any]) -> bool:
    seconds = ((line[name], row[name]) for name in ("rtt_seconds", "ttft_seconds", "duration_seconds"))
    close = all((a is None) == (b is None) and (a is None or abs(a - b) <= 1e-5 * max(a, 1e-3)) for a, b in seconds)
    return close and all(line[name] == row[name] for name in ("endpoint", "module", "outcome"))


@dataclass(kw_only=True)
class Cluster:
    """Everything that runs. A child that is killed is started again by its keeper, as under systemd."""

    data: Path
    server: embedded.Postgres
    cable: Cable
    children: dict[str, Child] = field(default_factory=dict)

    @property
    def lines(self) -> Path:
        return self.data / LINES

    async def start(self, program: Program) -> None:
        self.children[program.name.split()[0]] = child = Child(program=program)
        await child.start()

    async def stop(self) -> None:
        for child in reversed(self.children.values()):
            await child.stop()

    async def kill(self, name: str) -> None:
        """Kill -9 the named process and wait until another stands in its place."""
        child = self.children[name]
        restarts, pid = child.restarts, child.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: child.restarts > restarts and child.pid is not None, what=f"{name} again", seconds=30)

    def printed(self) -> dict[Key, dict[str, Any]]:
        """Return every whole line that the agents printed; a line that a kill cut short is no promise."""
        found = {}
        for text in self.lines.read_text().splitlines():
            with suppress(ValueError):
                line = json.loads(text)
                found[line["boot_id"], line["seq"]] = line
        return found

    def stored(self) -> list[dict[str, Any]]:
        """Return what Postgres has."""
        with psycopg.connect(self.server.url, row_factory=psycopg.rows.dict_row) as connection:
            return connection.execute("SELECT * FROM v_result").fetchall()

    def ledger(self) -> Ledger:
        return Ledger(printed=self.printed(), stored=self.stored())

    async def progresses(self, *, what: str, seconds: float = 60) -> None:
        """Wait until a result that the agent prints from now on stands in Postgres."""
        before = self.printed().keys()

        def new_one_stored() -> bool:
            with suppress(psycopg.OperationalError):
                return not (self.ledger().counts.keys() & self.printed().keys()) <= before
            return False

        await until(new_one_stored, what=f"a new result in Postgres after {what}", seconds=seconds)


@asynccontextmanager
async def running_cluster(data: Path) -> AsyncIterator[Cluster]:
    """Give a cluster under load: four endpoints, each with a round trip and a stream every second."""
    with open_data(data), (data / LINES).open("ab") as lines:
        server = await asyncio.to_thread(embedded.prepare, data / "postgres")
        collector = ask.reserve(Listen(LOOPBACK, 0))
        cluster = Cluster(data=data, server=server, cable=Cable(collector))
        await cluster.cable.open()
        try:
            await _start(cluster, collector, results_to=lines.fileno())
            yield cluster
        finally:
            await cluster.stop()
            await cluster.cable.close()
            server.forget()


async def _start(cluster: Cluster, collector: Listen, *, results_to: int) -> None:
    data, logs = cluster.data, cluster.data / "log"
    port = ask.reserve(Listen(LOOPBACK, 0)).port
    await cluster.start(programs.postgres(cluster.server, logs))
    url = cluster.server.url
    await asyncio.to_thread(admin.migrate, url)
    await asyncio.to_thread(admin.apply_targets, url, load_targets(port))
    token = await asyncio.to_thread(partial(admin.add_agent, url, name="tester", region="here"))
    write_secret(data / "agent.credential", token)
    await cluster.start(programs.collector(url, collector, logs))
    await cluster.start(programs.simulator(FAST, port, logs))
    settings = programs.agent_settings(f"http://{cluster.cable.listen}", data)
    await cluster.start(programs.agent(settings, logs, results_to=results_to))


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
