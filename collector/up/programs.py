"""The programs that `up` runs, as told to the supervisor: command, environment, readiness, way to stop."""

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Final

from collector.config import Listen
from collector.embedded import Postgres
from collector.processes import Program
from collector.up import ask
from collector.up.demo import Simulated

FLUSH_SECONDS: Final = 2
"""The agent sends often, so that the table lives."""
ALIVE_SECONDS: Final = 1.0
"""An agent that lived so long found its settings good."""
AGENT_STOP_SECONDS: Final = 15.0
"""It lets probes in flight end for 5 s and sends for 5 s."""
COLLECTOR_STOP_SECONDS: Final = 10.0
POSTGRES_STOP_SECONDS: Final = 30.0
LOOPBACK: Final = "127.0.0.1"
_BOUNDS: Final = frozenset({"ISOCHRONE_ALLOW_PRIVATE", "ISOCHRONE_POLICY_FILE"})
_FOR_ALL: Final = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH"})
_FOR_ALL_PREFIXES: Final = ("LC_", "XDG_", "PYTHON")
_ANY_ADDRESS: Final = {"0.0.0.0": LOOPBACK, "::": "::1"}

Environment = Mapping[str, str]


def reach(listen: Listen) -> Listen:
    """Return where this machine reaches a server that listens there."""
    return Listen(_ANY_ADDRESS.get(listen.host, listen.host), listen.port)


def postgres(server: Postgres, logs: Path) -> Program:
    """Return the database."""

    async def ready(pid: int) -> bool:
        return server.is_ready(pid)

    return Program(
        name="postgres",
        command=server.command,
        environment=bare(os.environ),
        log=logs / "postgres.log",
        ready=ready,
        ready_seconds=None,  # recovery after a crash takes what it takes; who kills it begins it anew
        long_start=f"  Postgres is not ready yet: after a crash it recovers its data, which can take minutes and needs "
        f"nobody (log: {logs / 'postgres.log'})",
        user=server.user,
        group=server.group,
        stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint (pg_ctl(1))
        stop_seconds=POSTGRES_STOP_SECONDS,
        orphan_signal=signal.SIGQUIT,  # "immediate": its own children end too, recovery follows at the next start
    )


def collector(database_url: str, listen: Listen, logs: Path) -> Program:
    """Return the server."""
    door = reach(listen)

    async def ready(_pid: int) -> bool:
        return await ask.get(door, "/readyz") is not None

    settings = {
        "ISOCHRONE_DATABASE_URL": database_url,
        "ISOCHRONE_LISTEN": str(listen),
        "ISOCHRONE_FLUSH_SECONDS": str(FLUSH_SECONDS),
    }
    return Program(
        name="collector",
        command=_python("collector.cli", "serve"),
        environment=bare(os.environ, own="ISOCHRONE_") | settings,
        log=logs / "collector.log",
        ready=ready,
        stop_seconds=COLLECTOR_STOP_SECONDS,
    )


def simulator(simulated: Simulated, port: int, logs: Path) -> Program:
    """Return one simulated endpoint."""
    listen = Listen(LOOPBACK, port)

    async def ready(_pid: int) -> bool:
        return await ask.listens(listen)

    return Program(
        name=f"endpoint {simulated.name}",
        command=_python("agent.cli", "simulate", "--listen", str(listen), *simulated.script),
        environment=bare(os.environ),
        log=logs / f"endpoint-{simulated.name}.log",
        ready=ready,
    )


def agent(settings: Environment, logs: Path, *, results_to: int | None = None) -> Program:
    """Return the agent; `results_to` is a file descriptor for its results as lines of JSON.

    It alone gets our whole environment: the target file may name any variable of it as an endpoint's key.
    """
    command = _python("agent.cli", "run")
    program = Program(
        name="agent",
        command=command if results_to is None else (*command, "--json"),
        environment=os.environ | dict(settings),
        log=logs / "agent.log",
        ready=_lives_on(),
        stop_seconds=AGENT_STOP_SECONDS,
    )
    return program if results_to is None else replace(program, stdout=results_to)


def agent_settings(collector_url: str, data: Path) -> dict[str, str]:
    """Return the environment of the agent whose files are in `data`.

    It may probe private addresses, unless the operator's own environment bounds it: who starts `up` writes the targets.
    """
    is_bounded = not _BOUNDS.isdisjoint(os.environ)
    return ({} if is_bounded else {"ISOCHRONE_ALLOW_PRIVATE": "0.0.0.0/0,::/0"}) | {
        "ISOCHRONE_COLLECTOR_URL": collector_url,
        "ISOCHRONE_CREDENTIAL_FILE": str(data / "agent.credential"),
        "ISOCHRONE_STATE_DIR": str(data / "agent"),
        "ISOCHRONE_FLUSH_INTERVAL": f"{FLUSH_SECONDS}s",
    }


def bare(environment: Environment, *, own: str | None = None) -> dict[str, str]:
    """Return what every program needs, and the variables that begin with `own`: keys of endpoints stay out."""
    prefixes = _FOR_ALL_PREFIXES if own is None else (*_FOR_ALL_PREFIXES, own)
    return {name: value for name, value in environment.items() if name in _FOR_ALL or name.startswith(prefixes)}


def _python(*words: str) -> tuple[str, ...]:
    # -P: else the folder in which `up` was started goes before our own packages.
    return (sys.executable, "-P", "-m", *words)


def _lives_on() -> Callable[[int], Awaitable[bool]]:
    """Return a check that says yes to a process that has lived for a moment: the agent has no door to knock at."""
    born: dict[int, float] = {}

    async def ready(pid: int) -> bool:
        return monotonic() - born.setdefault(pid, monotonic()) >= ALIVE_SECONDS

    return ready
