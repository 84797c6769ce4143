"""`isochrone-collector up`, whole: what a newcomer starts, sees, stops, and starts again."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep

import pytest
from prometheus_client.parser import text_string_to_metric_families

from collector.config import Listen
from collector.up.session import ECHO_SECONDS
from tests.system.household import Household, command, household, is_measured

pytestmark = pytest.mark.timeout(240)

ENDPOINTS = {"near", "far", "overseas"}


@pytest.fixture
def root() -> Iterator[Path]:
    """Give a folder that Postgres' own user can reach."""
    with TemporaryDirectory(prefix="isochrone-home-") as folder:
        yield Path(folder)


def refused(root: Path, *arguments: str, **environment: str) -> tuple[int, list[str]]:
    """Run `up` with wrong arguments; return its exit code and what it said on stderr."""
    done = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=root,
        env=os.environ | environment,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def test_one_command_measures_three_endpoints_stops_cleanly_and_goes_on(root: Path) -> None:
    data = root / "data"
    with household(data) as home:
        check_measures(home)
        check_metrics(home)
        check_is_alone(home)
        assert any("postgres: checkpointer" in words for words in home.processes().values())
        probes = {name: row["probes"] for name, row in home.rows().items()}
        assert home.end() == 0
        home.until_nobody_is_left()
        check_farewell(home.said())
    assert (data / "agent.credential").stat().st_mode & 0o777 == 0o600
    token = (data / "agent.credential").read_text()
    with household(data, "--json") as home:
        home.until(lambda: home.rows().keys() >= ENDPOINTS, what="the rows of before")
        assert all(home.rows()[name]["probes"] >= count for name, count in probes.items())
        home.until(lambda: home.stdout.read_text().count("\n") >= 3, what="results on stdout")
        assert (data / "agent.credential").read_text() == token
        check_lines(home)
        assert home.end(signal.SIGKILL) == -signal.SIGKILL
        home.until_nobody_is_left()


def check_measures(home: Household) -> None:
    home.until(lambda: sum(map(is_measured, home.rows().values())) >= 3, what="three endpoints measured", seconds=90)
    rows = home.rows()
    assert rows.keys() == ENDPOINTS
    assert all(row["simulated"] and row["agent_region"] == "local" for row in rows.values())
    near, far, overseas = (rows[name]["rtt_seconds"]["p50"] for name in ("near", "far", "overseas"))
    assert 0.007 < near < far < overseas
    assert overseas > 0.2
    assert rows["near"]["tokens_per_second"]["p50"] > rows["overseas"]["tokens_per_second"]["p50"]


def check_metrics(home: Household) -> None:
    body = home.get("/metrics")
    assert body is not None
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    counted = {
        sample.labels["endpoint"]: sample.value
        for sample in families["isochrone_ttft_seconds"].samples
        if sample.name.endswith("_count")
    }
    assert counted.keys() == ENDPOINTS
    assert all(count >= 1 for count in counted.values())


def check_is_alone(home: Household) -> None:
    """Hold that a second `up` on the same data is refused, and disturbs nothing."""
    code, said = refused(home.data.parent, "--data", str(home.data), "--listen", "127.0.0.1:0")
    assert code == 75
    (line,) = said
    assert line.startswith(f"isochrone-collector up: {home.data}: another `isochrone-collector up` ")
    assert line.endswith(f"(process {home.process.pid}) works here: stop it, or choose another folder with --data")
    assert home.get("/readyz") is not None


def check_farewell(said: str) -> None:
    for words in ("agent stopped", "endpoint near stopped", "collector stopped", "postgres stopped"):
        assert words in said
    assert said.index("agent stopped") < said.index("collector stopped") < said.index("postgres stopped")
    assert "killed" not in said.partition("stopping (")[2].replace("Ctrl-C again kills", "")
    assert "Traceback" not in said


def check_lines(home: Household) -> None:
    lines = [json.loads(line) for line in home.stdout.read_text().splitlines()]
    assert all(line["endpoint"] in ENDPOINTS and "boot_id" in line for line in lines)
    assert "agent local in region local" in home.stderr.read_text()


def test_told_to_stop_while_it_starts_it_leaves_nothing(root: Path) -> None:
    with household(root / "data") as home:
        home.until(lambda: "Postgres 18" in home.said(), what="Postgres")
        assert home.end(signal.SIGTERM) == 0
        home.until_nobody_is_left()


def test_told_twice_it_kills_and_says_so(root: Path) -> None:
    with household(root / "data") as home:
        home.until(lambda: "agent local" in home.said(), what="the agent")
        os.kill(home.pid_of("agent.cli run"), signal.SIGSTOP)
        home.process.send_signal(signal.SIGINT)
        home.until(lambda: "stopping" in home.said(), what="its farewell")
        sleep(ECHO_SECONDS + 0.1)
        assert home.end(signal.SIGINT) == 130
        home.until_nobody_is_left()
        assert "told again: killing what still runs" in home.said()


def test_two_signals_at_once_as_make_hands_them_on_are_one(root: Path) -> None:
    with household(root / "data") as home:
        home.until(lambda: "agent local" in home.said(), what="the agent")
        home.process.send_signal(signal.SIGINT)
        assert home.end(signal.SIGTERM) == 0
        home.until_nobody_is_left()
        assert "told again" not in home.said()


def test_on_a_full_disk_it_runs_on_and_stops_in_order(root: Path) -> None:
    logs = root / "data" / "log"
    logs.mkdir(parents=True)
    (logs / "collector.log").symlink_to("/dev/full")
    with household(root / "data", full_disk=True) as home:
        home.until(lambda: any(row["probes"] for row in home.rows().values()), what="a probe")
        assert home.end() == 0
        home.until_nobody_is_left()
        assert home.said() == ""


def test_an_address_that_others_reach_is_told_to_be_open_for_reading(root: Path) -> None:
    (root / "data" / "postgres").mkdir(parents=True)
    (root / "data" / "postgres" / "thesis.txt").touch()  # it ends there, before anything listens
    arguments = ("--json", "--data", str(root / "data"), "--listen", "0.0.0.0:0")
    code, said = refused(root, *arguments)
    assert (code, len(said)) == (2, 2)
    assert said[0].startswith("everybody who reaches 0.0.0.0:")
    assert "ISOCHRONE_READ_TOKEN_FILE" in said[0]
    code, said = refused(root, *arguments, ISOCHRONE_READ_TOKEN_FILE=str(root / "token"))
    assert (code, len(said)) == (2, 1)


def test_a_port_in_use_is_one_line_and_exit_2(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = Listen("127.0.0.1", other.getsockname()[1])
        code, said = refused(root, "--data", str(root / "data"), "--listen", str(listen))
    assert code == 2
    (line,) = said
    assert line.startswith(f"isochrone-collector up: --listen {listen}: Address already in use: choose another ")


@pytest.mark.parametrize("listen", ["8420", "127.0.0.1:", "127.0.0.1:99999", "here:there"])
def test_a_wrong_address_is_one_line_and_exit_2(root: Path, listen: str) -> None:
    code, said = refused(root, "--data", str(root / "data"), "--listen", listen)
    assert (code, len(said)) == (2, 1)
    assert repr(listen) in said[0]
    assert "write host:port, as in 127.0.0.1:8420" in said[0]
    assert not (root / "data").exists()


def test_a_folder_that_cannot_be_made_is_one_line_and_exit_2(root: Path) -> None:
    (root / "file").touch()
    code, said = refused(root, "--data", str(root / "file" / "data"), "--listen", "127.0.0.1:0")
    assert code == 2
    assert said == [
        f"isochrone-collector up: --data {root}/file/data: Not a directory: choose a folder that you may write"
    ]


def test_every_problem_of_a_target_file_is_told_before_anything_starts(root: Path) -> None:
    file = root / "targets.yml"
    file.write_text(
        "modules:\n  rtt: {prober: rtt, interval: 1s, timeout: 5s}\n"
        "endpoints:\n  - {name: one, url: 'ftp://x', provider: nobody, model: m, modules: [rtt]}\n"
    )
    code, said = refused(root, "--data", str(root / "data"), "--targets", str(file))
    assert code == 2
    assert len(said) == 3
    assert all(line.startswith(f"isochrone-collector up: {file}:") for line in said)
    assert [words for words in ("timeout", "ftp://x", "nobody") if not any(words in line for line in said)] == []
    assert not (root / "data").exists()
