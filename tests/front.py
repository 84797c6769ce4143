"""What stands around collectors that are several: PgBouncer and HAProxy, with the very files of deploy/scale-out."""

import os
import shutil
from pathlib import Path

import pytest

from collector.config import Listen
from collector.processes import Program
from collector.up import ask, programs
from tests.programs import IN_CI

DEPLOY = Path(__file__).parents[1] / "deploy" / "scale-out"
PLACES = (os.environ.get("PATH", os.defpath), "/usr/sbin")
"""Debian keeps servers off an ordinary user's path."""


def found(name: str) -> str:
    """Return the path of a program; skip the test, with the reason, where it is not installed."""
    path = shutil.which(name, path=os.pathsep.join(PLACES))
    if path is None:
        reason = f"{name} is not installed (apt-get install {name})"
        if os.environ.get(IN_CI):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def pgbouncer(folder: Path, listen: Listen, *, database: Path, user: int | None, more: str = "") -> Program:
    """Return a PgBouncer before the Postgres whose socket stands in `database`; `more` are further settings.

    Its files go into `folder`, which `user` (None: our own) can search: PgBouncer refuses to be root.
    """
    command = found("pgbouncer")
    shutil.copy(DEPLOY / "pgbouncer.ini", folder / "shipped.ini")
    own = folder / "pgbouncer.ini"
    own.write_text(
        f"[databases]\n* = host={database} user=postgres\n"
        f"[pgbouncer]\n%include {folder / 'shipped.ini'}\n"
        f"listen_addr = {listen.host}\nlisten_port = {listen.port}\n"
        f"unix_socket_dir =\nauth_type = any\n{more}\n",
        encoding="ascii",
    )
    for path in (own, folder / "shipped.ini"):
        path.chmod(0o644)

    async def ready(_pid: int) -> bool:
        return await ask.listens(listen)

    return Program(
        name="pgbouncer",
        command=(command, str(own)),
        environment=programs.bare(os.environ),
        log=folder / "pgbouncer.log",
        ready=ready,
        user=user,
        group=user,
    )


def pooled_url(listen: Listen, database: str = "postgres") -> str:
    """Return the URL of a database behind PgBouncer."""
    return f"postgresql://postgres@{listen}/{database}"


def haproxy(folder: Path, listen: Listen, collectors: list[Listen]) -> Program:
    """Return a HAProxy before two collectors."""
    command = found("haproxy")
    addresses = {f"ISOCHRONE_COLLECTOR_{number}": str(one) for number, one in enumerate(collectors, start=1)}

    async def ready(_pid: int) -> bool:
        return await ask.listens(listen)

    return Program(
        name="haproxy",
        command=(command, "-db", "-f", str(DEPLOY / "haproxy.cfg")),
        environment=programs.bare(os.environ) | addresses | {"ISOCHRONE_FRONT": str(listen)},
        log=folder / "haproxy.log",
        ready=ready,
    )
