"""The parts of `up`, started in the order in which they need each other, and stopped in the reverse."""

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final, TypeVar
from urllib.parse import urlsplit

from collector import admin, embedded
from collector.config import Listen
from collector.errors import SettingsError
from collector.live import Screen
from collector.processes import Child, Program
from collector.registry import ALL_PERCENT
from collector.rollout import Rollout
from collector.up import ask, demo, programs
from collector.up.data import forget_agent_config, open_data, reading_is_closed, write_secret
from isochrone.config import Targets, decode_agent_config

T = TypeVar("T")

AGENT_NAME: Final = "local"
AGENT_NEEDS: Final = ("apscheduler", "httpx")
"""What the extra `agent` brings and `collector` does not."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    listen: Listen
    data: Path
    targets: Path | None = None
    confirmed: bool = False
    """Targets may take most of those of before away."""
    as_json: bool = False
    """The agent's results go to stdout, everything else to stderr."""


@dataclass(kw_only=True)
class Stack:
    """All that `up` runs. `start` once, then `stop` or `kill` whatever came of it."""

    options: Options
    screen: Screen
    children: list[Child] = field(default_factory=list)
    """In the order of their start."""
    listen: Listen = field(init=False)
    _lock: IO[str] | None = None
    _server: embedded.Postgres | None = None

    def __post_init__(self) -> None:
        self.listen = self.options.listen

    @property
    def door(self) -> Listen:
        """Return where this machine reaches the collector."""
        return programs.reach(self.listen)

    async def start(self) -> None:
        """Start everything; raise CollectorError at the first part that cannot."""
        _check_agent_is_installed()
        chosen = None if self.options.targets is None else admin.read_targets(self.options.targets)
        self._lock = open_data(self.options.data)
        self.listen = ask.reserve(self.options.listen)
        if not (reading_is_closed(os.environ) or ask.is_loopback(self.listen)):
            self.screen.warn(
                f"everybody who reaches {self.listen} may read what is measured: to close it, name a file that holds a "
                "token in ISOCHRONE_READ_TOKEN_FILE"
            )
        server = await self._start_postgres()
        with self.screen.step("bringing the schema up to date") as said:
            said.append(f"schema at {await _in_thread(partial(admin.migrate, server.url))}")
        ports = {} if chosen is not None else await _in_thread(partial(_ports, server.url))
        await self._take_targets(server, chosen or demo.demo_targets(ports))
        # Before the collector starts: it then knows the agent from its first request on.
        await self._register_agent(server)
        await self._start_collector(server)
        await self._start_simulators(ports)
        await self._start_agent()

    async def stop(self) -> None:
        """Stop the last started first: the agent hands over, the collector stores, then the database closes.

        What goes wrong with one, or with the screen, keeps nobody from stopping the others; it is raised at the end.
        """
        faults: list[Exception] = []
        while self.children:
            try:
                await self._stop(self.children[-1])
            except Exception as exc:  # noqa: BLE001  whatever it is: the database must still close in order
                faults.append(exc)
            self.children.pop()
        self._release()
        if faults:
            raise faults[0]

    async def _stop(self, child: Child) -> None:
        name = child.program.name
        with self.screen.step(f"stopping {name}") as said:
            polite = await child.stop()
            said.append(f"{name} stopped" if polite else f"{name} did not stop in time and was killed")

    async def kill(self) -> None:
        """End everything now. What the agent recorded is on its disk, what the collector answered is in Postgres."""
        await asyncio.gather(*(child.kill() for child in self.children))
        self.children.clear()
        self._release()

    def _release(self) -> None:
        if self._server is not None:
            self._server.forget()
        if self._lock is not None:
            self._lock.close()
        self._server = self._lock = None

    async def _start_postgres(self) -> embedded.Postgres:
        with self.screen.step("starting Postgres") as said:
            server = await _in_thread(partial(embedded.prepare, self.options.data / "postgres"))
            self._server = server
            await self._run(programs.postgres(server, self._logs))
            said.append(f"Postgres {server.version}, {'new data' if server.created else 'with the data of before'}")
        for note in server.notes:
            self.screen.warn(f"  {note}")
        return server

    async def _take_targets(self, server: embedded.Postgres, targets: Targets) -> None:
        with self.screen.step("taking the targets") as said:
            # The demo is what `up` was asked for when it was given no file: that is a word of confirmation.
            confirmed = self.options.confirmed or self.options.targets is None
            rollout = Rollout(share_percent=ALL_PERCENT, confirmed=confirmed)
            applied = await _in_thread(partial(admin.apply_targets, server.url, targets, rollout))
            source = "the demo" if self.options.targets is None else str(self.options.targets)
            said.append(f"targets of {source}, revision {applied.revision}")

    async def _start_collector(self, server: embedded.Postgres) -> None:
        with self.screen.step("starting the collector") as said:
            await self._run(programs.collector(server.url, self.listen, self._logs))
            said.append(f"collector on {self.listen}")

    async def _start_simulators(self, ports: dict[str, int]) -> None:
        if not ports:
            return
        with self.screen.step("starting the simulated endpoints") as said:
            starts = (self._run(programs.simulator(one, ports[one.name], self._logs)) for one in demo.ENDPOINTS)
            for failed in await asyncio.gather(*starts, return_exceptions=True):
                if failed is not None:
                    raise failed
            said.append("simulated endpoints " + ", ".join(f"{one.name} ({one.rtt})" for one in demo.ENDPOINTS))

    @property
    def _credential(self) -> Path:
        return self.options.data / "agent.credential"

    async def _register_agent(self, server: embedded.Postgres) -> None:
        if server.created or not self._credential.exists():
            write_secret(self._credential, await _in_thread(partial(_new_credential, server.url)))

    async def _start_agent(self) -> None:
        forget_agent_config(self.options.data)
        settings = programs.agent_settings(f"http://{self.door}", self.options.data)
        results_to = sys.stdout.fileno() if self.options.as_json else None
        with self.screen.step("starting the agent") as said:
            await self._run(programs.agent(settings, self._logs, results_to=results_to))
            said.append(f"agent {AGENT_NAME} in region {demo.AGENT_REGION}")
        if self.options.targets is not None:
            await self._tell_share(self._credential.read_text(encoding="ascii").strip())

    async def _tell_share(self, token: str) -> None:
        """Warn when the target file gives this agent nothing to do: an empty table would not say why."""
        body = await ask.get(self.door, "/v1/agent/config", token=token)
        if body is not None and not decode_agent_config(body).targets:
            self.screen.warn(
                f"  {self.options.targets}: no endpoint is for this agent (name {AGENT_NAME}, region "
                f"{demo.AGENT_REGION}): leave out `agents:`, or name it there"
            )

    async def _run(self, program: Program) -> None:
        child = Child(program=program, tell=self.screen.warn)
        self.children.append(child)
        await child.start()

    @property
    def _logs(self) -> Path:
        return self.options.data / "log"


def _check_agent_is_installed() -> None:
    missing = [name for name in AGENT_NEEDS if find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"the agent is not installed here ({', '.join(missing)} missing): "
            "pip install 'isochrone[agent,collector,embedded]'"
        )


def _new_credential(database_url: str) -> str:
    return admin.add_agent(database_url, name=AGENT_NAME, region=demo.AGENT_REGION, replace_credential=True)


def _ports(database_url: str) -> dict[str, int]:
    """Return a port for each simulated endpoint: that of before where it is free, so that the targets stay equal."""
    current = admin.current_targets(database_url)
    before = (
        {} if current is None else {one.name: urlsplit(one.url).port for one in current[1].endpoints if one.simulated}
    )
    return {one.name: _free_port(before.get(one.name) or 0) for one in demo.ENDPOINTS}


def _free_port(wanted: int) -> int:
    try:
        return ask.reserve(Listen(programs.LOOPBACK, wanted)).port
    except SettingsError:
        return ask.reserve(Listen(programs.LOOPBACK, 0)).port


async def _in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread and, when cancelled, wait until it is done: it uses what is stopped next."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
