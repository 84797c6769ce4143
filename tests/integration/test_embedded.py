"""The embedded Postgres: a real server, started as root or not, found again after every way to die."""

import asyncio
import os
import signal
import stat
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import psycopg
import pytest

from collector import embedded
from collector.embedded import EmbeddedError, FolderBusy, hold_folder, prepare
from collector.processes import Child
from collector.up import programs

pytestmark = pytest.mark.anyio


@pytest.fixture
def data() -> "AsyncIterator[Path]":
    """Give a folder that another user can reach: pytest's own is closed to all but its owner."""
    with TemporaryDirectory(prefix="isochrone-up-") as folder:
        yield Path(folder)


def started(*command: str, user: int | None = None, group: int | None = None) -> subprocess.Popen[bytes]:
    """Start a process that nobody supervises."""
    return subprocess.Popen(command, user=user, group=group, cwd="/", stderr=subprocess.DEVNULL, start_new_session=True)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@asynccontextmanager
async def running(data: Path) -> AsyncIterator[tuple[embedded.Postgres, Child]]:
    server = await asyncio.to_thread(prepare, data / "postgres")
    child = Child(program=programs.postgres(server, data))
    await child.start()
    try:
        yield server, child
    finally:
        await child.stop()
        server.forget()


def ask(server: embedded.Postgres, statement: str) -> object:
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchone()[0] if cursor.description is not None else None


async def test_a_first_start_makes_a_server_and_a_second_finds_its_data(data: Path) -> None:
    async with running(data) as (server, _):
        assert server.created
        ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        assert str(ask(server, "SHOW listen_addresses")) == ""
        assert str(ask(server, "SHOW server_version")).startswith(f"{server.version}.")
    async with running(data) as (server, _):
        assert not server.created
        assert ask(server, "SELECT answer FROM kept") == 42


async def test_only_its_user_may_open_the_socket(data: Path) -> None:
    async with running(data) as (server, _):
        assert mode_of(server.socket_folder / embedded.SOCKET_NAME) == 0o700
        assert ask(server, "SELECT current_user") == "postgres"


async def test_a_server_that_was_killed_comes_back_with_what_it_had_committed(data: Path) -> None:
    async with running(data) as (server, child):
        ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        deadline = monotonic() + 60
        while child.restarts == 0 or child.pid is None or not server.is_ready(child.pid):
            assert monotonic() < deadline
            await asyncio.sleep(0.05)
        assert ask(server, "SELECT answer FROM kept") == 42


async def test_a_stale_pid_file_does_not_stop_the_start_even_if_its_number_lives_on(data: Path) -> None:
    async with running(data):
        pid_file = (data / "postgres" / "postmaster.pid").read_text()
    stranger = started("sleep", "600")
    try:
        stale = "\n".join([str(stranger.pid), *pid_file.split("\n")[1:]])
        (data / "postgres" / "postmaster.pid").write_text(stale)
        async with running(data) as (server, _):
            assert ask(server, "SELECT 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_a_server_that_outlived_its_parent_is_ended_before_the_next_start(data: Path) -> None:
    server = await asyncio.to_thread(prepare, data / "postgres")
    orphan = started(*server.command, user=server.user, group=server.group)
    deadline = monotonic() + 60
    while not server.is_ready(orphan.pid):
        assert monotonic() < deadline
        await asyncio.sleep(0.05)
    waiter = asyncio.create_task(asyncio.to_thread(orphan.wait))  # reaps it: a zombie has no working folder to compare
    async with running(data) as (again, child):
        assert child.pid != orphan.pid
        assert ask(again, "SELECT 1") == 1
    assert await waiter == 0


async def test_a_path_too_long_for_a_socket_gets_one_elsewhere(data: Path) -> None:
    deep = data / ("x" * 100)
    deep.mkdir()
    async with running(deep) as (server, _):
        assert server.socket_folder != server.folder
        assert ask(server, "SELECT 1") == 1
    assert not server.socket_folder.exists()


async def test_data_of_another_major_version_are_refused_and_left_alone(data: Path) -> None:
    folder = data / "postgres"
    folder.mkdir()
    (folder / "PG_VERSION").write_text("15\n")
    with pytest.raises(
        EmbeddedError, match=r"written by Postgres 15, this release brings Postgres \d+: choose another"
    ):
        prepare(folder)
    assert [path.name for path in folder.iterdir()] == ["PG_VERSION"]


async def test_a_folder_with_other_files_is_refused_and_left_alone(data: Path) -> None:
    folder = data / "postgres"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(EmbeddedError, match="is not empty and holds no Postgres data"):
        prepare(folder)
    assert (folder / "thesis.txt").read_text() == "mine"


async def test_a_first_start_that_was_cut_short_is_made_anew(data: Path) -> None:
    half = data / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    async with running(data) as (server, _):
        assert ask(server, "SELECT 1") == 1
    assert not half.exists()


def test_the_programs_that_make_a_data_folder_see_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_PROVIDER_KEY", "s3cret")
    (tmp_path / "initdb").write_text(f"#!/bin/sh\nenv > {tmp_path}/seen\n")
    (tmp_path / "initdb").chmod(0o755)
    embedded._run_initdb(tmp_path / "fresh", tmp_path, None)  # noqa: SLF001  the wheel's own program tells nothing
    seen = (tmp_path / "seen").read_text()
    assert "PATH=" in seen
    assert "SOME_PROVIDER_KEY" not in seen


def test_one_folder_serves_one_up_at_a_time(tmp_path: Path) -> None:
    with hold_folder(tmp_path), pytest.raises(FolderBusy, match=rf"another .* \(process {os.getpid()}\) works here"):
        hold_folder(tmp_path)
    hold_folder(tmp_path).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
async def test_as_root_the_server_runs_as_another_user_who_can_reach_it(data: Path) -> None:
    assert mode_of(data) == 0o700
    async with running(data) as (server, _):
        assert server.user not in {None, 0}
        assert ask(server, "SELECT 1") == 1
        assert any("o+x" in note for note in server.notes)
        assert mode_of(data) == 0o701
