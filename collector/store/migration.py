"""The schema's revision: which one this release needs, which one the database has, and the way there."""

import logging
import sys
import sysconfig
from pathlib import Path

import alembic.command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from collector.errors import SettingsError
from collector.store import reading_role
from collector.store.engine import admin_transaction, check_encoding, parse_url, translated

_SOURCE_TREE = Path(__file__).resolve().parents[2] / "migrations"

_log = logging.getLogger(__name__)


def migrations_folder() -> Path:
    """Return the folder of the migrations: of the source tree, else of the installed wheel."""
    installed = (Path(root) / "share" / "isochrone" / "migrations" for root in (sysconfig.get_path("data"), sys.prefix))
    for folder in (_SOURCE_TREE, *installed):
        if (folder / "env.py").is_file():
            return folder
    raise SettingsError(f"the migrations are not in {sys.prefix}/share/isochrone/migrations: install isochrone anew")


def head_revision() -> str:
    """Return the revision that this release needs."""
    head = ScriptDirectory(str(migrations_folder())).get_current_head()
    if head is None:
        raise SettingsError(f"there are no migrations in {migrations_folder()}: install isochrone anew")
    return head


def known_revisions() -> frozenset[str]:
    """Return every revision that this release knows."""
    return frozenset(script.revision for script in ScriptDirectory(str(migrations_folder())).walk_revisions())


def current_revision(connection: Connection) -> str | None:
    """Return the database's revision; None when nothing was migrated yet."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(database_url: str) -> str:
    """Bring the database to the newest revision and return it; does nothing when it is there, or beyond.

    A revision that this release does not know is a newer release's: migrations run beside the one before.
    """
    with admin_transaction(database_url) as connection:
        check_encoding(connection)
        current = current_revision(connection)
    if current is not None and current not in known_revisions():
        _log.warning("the schema is at %s, newer than this release: nothing to do", current)
        return current
    with translated():
        alembic.command.upgrade(_config(database_url), "head")
    with admin_transaction(database_url) as connection:
        if (refused := reading_role.ensure(connection)) is not None:
            _log.warning("%s", refused)
        return current_revision(connection) or ""


def downgrade(database_url: str, revision: str) -> None:
    """Take the database back to `revision` (`base`: empty)."""
    with translated():
        alembic.command.downgrade(_config(database_url), revision)


def _config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["url"] = parse_url(database_url)
    return config
