"""Who is measured: our agent, what others would use in its place, and any command that speaks the lab's interface."""

import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.real.environments import Pip, environment

OURS: Final = "isochrone"
OUR_COMMAND: Final = (sys.executable, "-m", "agent.bench_adapter")
HTTPX: Final = "httpx"
PEERS: Final[Mapping[str, str]] = {HTTPX: "httpx_lines", "aiohttp": "aiohttp_lines", "openai": "openai_sdk"}
"""Name in the table, and the lab's adapter. The distribution has the name in the table."""
COMMAND_PREFIX: Final = "cmd:"


@dataclass(frozen=True, kw_only=True)
class Client:
    """A command that reads the lab's plan and prints what it measured."""

    name: str
    command: Sequence[str]
    judged: bool = False


def chosen(names: Sequence[str], *, lab: Path, judge: str | None) -> list[Client]:
    """Return the clients by name, ours first; `judge` is the command that stands in for ours."""
    ours = Client(name=OURS, command=shlex.split(judge) if judge else OUR_COMMAND, judged=True)
    others = [name for name in names if name != OURS]
    python = peers_python() if PEERS.keys() & set(others) else None
    found = [_other(name, lab=lab, python=python) for name in others]
    return [ours, *found] if OURS in names else found


def _other(name: str, *, lab: Path, python: Path | None) -> Client:
    if name.startswith(COMMAND_PREFIX):
        command = shlex.split(name.removeprefix(COMMAND_PREFIX))
        return Client(name=Path(command[-1]).stem, command=command)
    return Client(name=name, command=[str(python), str(lab / "adapters" / f"{PEERS[name]}.py")])


def peers_python() -> Path:
    """Return an interpreter that has the peers, whatever releases were the newest when it was built."""
    return environment("peers", recipe=tuple(sorted(PEERS)), install=_install)


def peer_versions() -> str:
    """Return the releases in words."""
    code = (
        "import sys; from importlib.metadata import version as v; print(', '.join(f'{n} {v(n)}' for n in sys.argv[1:]))"
    )
    return subprocess.check_output([str(peers_python()), "-I", "-c", code, *PEERS], text=True).strip()


def _install(pip: Pip) -> None:
    pip.install(*sorted(PEERS))
