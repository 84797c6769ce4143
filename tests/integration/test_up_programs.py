"""The programs of `up` as they are started: from whose code, with which secrets, and for how long they may start."""

import asyncio
import os
import subprocess
from io import StringIO
from pathlib import Path

import pytest

from collector.config import Listen
from collector.embedded import Postgres
from collector.live import Screen
from collector.processes import Child, Program
from collector.up import Options, demo, programs
from collector.up.stack import Stack

KEY = "SOME_PROVIDER_KEY"
LISTEN = Listen("127.0.0.1", 8420)


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Program]:
    """Give every program as `up` starts it in an environment that holds a key."""
    monkeypatch.setenv(KEY, "s3cret")
    monkeypatch.setenv("ISOCHRONE_LATE_SECONDS", "60")
    server = Postgres(
        command=("postgres",),
        folder=tmp_path,
        socket_folder=tmp_path,
        user=None,
        group=None,
        version=18,
        created=True,
        notes=(),
    )
    return {
        "postgres": programs.postgres(server, tmp_path),
        "collector": programs.collector("postgresql://x", LISTEN, tmp_path),
        "simulator": programs.simulator(demo.ENDPOINTS[0], 1001, tmp_path),
        "agent": programs.agent({"ISOCHRONE_STATE_DIR": "/state"}, tmp_path),
    }


@pytest.mark.parametrize("name", ["collector", "simulator", "agent"])
def test_code_in_the_folder_where_up_is_started_is_not_run(
    started: dict[str, Program], tmp_path: Path, name: str
) -> None:
    for package in ("agent", "collector"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('code of a stranger')")
    done = subprocess.run(
        (*started[name].command, "--help"), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_endpoints_key_reaches_the_agent_alone(started: dict[str, Program]) -> None:
    assert {name for name, program in started.items() if KEY in program.environment} == {"agent"}
    assert started["collector"].environment["ISOCHRONE_LATE_SECONDS"] == "60"
    for name in ("postgres", "simulator"):
        assert not [variable for variable in started[name].environment if variable.startswith("ISOCHRONE_")]
    assert all(program.environment["PATH"] == os.environ["PATH"] for program in started.values())


def test_a_database_may_recover_for_as_long_as_it_lives(started: dict[str, Program], tmp_path: Path) -> None:
    program = started["postgres"]
    assert program.ready_seconds is None
    assert str(tmp_path / "postgres.log") in (program.long_start or "")


class Unstoppable(Child):
    """A child that cannot be told to stop."""

    async def stop(self) -> bool:
        raise OSError("no space left")


@pytest.mark.anyio
async def test_a_part_that_cannot_be_stopped_keeps_no_other_from_it(tmp_path: Path) -> None:
    stack = Stack(options=Options(listen=LISTEN, data=tmp_path), screen=Screen(StringIO()))
    program = Program(name="one", command=("sleep", "600"), environment={}, log=tmp_path / "log")
    first = Child(program=program)
    stack.children = [first, Unstoppable(program=program)]
    await first.start()
    with pytest.raises(OSError, match="no space left"):
        await asyncio.wait_for(stack.stop(), 60)
    assert first.pid is None
    assert stack.children == []


def test_the_agent_of_up_may_probe_private_addresses_unless_its_operator_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ISOCHRONE_ALLOW_PRIVATE", "ISOCHRONE_POLICY_FILE"):
        monkeypatch.delenv(name, raising=False)
    given = programs.agent_settings("http://127.0.0.1:8420", tmp_path)
    assert given["ISOCHRONE_ALLOW_PRIVATE"] == "0.0.0.0/0,::/0"
    for name in ("ISOCHRONE_ALLOW_PRIVATE", "ISOCHRONE_POLICY_FILE"):
        with monkeypatch.context() as bounded:
            bounded.setenv(name, "x")
            assert "ISOCHRONE_ALLOW_PRIVATE" not in programs.agent_settings("http://127.0.0.1:8420", tmp_path)
