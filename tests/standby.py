"""A streaming replica of a test's Postgres, with the settings that are shipped in deploy/scale-out."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

import psycopg

from collector.embedded import ROOT_USER
from tests.front import DEPLOY
from tests.postgres import Postgres

START_SECONDS = 60


class Standby:
    """The replica; `stop` ends it for good."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self._process = process
        self._folder = folder

    def url(self, database: str) -> str:
        return f"postgresql://postgres:@/{database}?host={self._folder}"

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(3)  # SIGQUIT: at once
        self._process.wait(30)

    def is_ready(self) -> bool:
        assert self._process.poll() is None, "the standby does not start"
        with suppress(psycopg.OperationalError), psycopg.connect(self.url("postgres"), connect_timeout=2):
            return True
        return False


@contextmanager
def standby_of(server: Postgres) -> Iterator[Standby]:
    """Give a replica that has caught up to its own start."""
    user = pwd.getpwnam(ROOT_USER).pw_uid if os.geteuid() == 0 else None
    with TemporaryDirectory(prefix="isochrone-standby-") as name:
        folder = Path(name)
        if user is not None:
            os.chown(folder, user, -1)
        data = folder / "data"
        _copy(server, data, user)
        command = [server.programs / "postgres", "-D", data, "-c", "listen_addresses=", "-k", folder]
        standby = Standby(_start(command, user), folder)
        try:
            deadline = monotonic() + START_SECONDS
            while not standby.is_ready():
                assert monotonic() < deadline, "the standby is not ready in time"
                sleep(0.1)
            yield standby
        finally:
            standby.stop()


def ship(server: Postgres, name: str, folder: Path) -> None:
    """Let the configuration in `folder` include a file of deploy/scale-out, as the how-to says."""
    shutil.copy(DEPLOY / name, server.folder.parent / name)
    (server.folder.parent / name).chmod(0o644)
    with (folder / "postgresql.conf").open("a") as file:
        file.write(f"\ninclude '{server.folder.parent / name}'\n")


def _copy(server: Postgres, data: Path, user: int | None) -> None:
    subprocess.run(
        [
            *(server.programs / "pg_basebackup", "-h", server.folder, "-U", "postgres", "-D", data),
            *("--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"),
        ],
        check=True,
        user=user,
        cwd="/",
        timeout=START_SECONDS,
    )
    ship(server, "replica.conf", data)


def _start(command: list[object], user: int | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen([str(word) for word in command], user=user, cwd="/", stderr=subprocess.DEVNULL)
