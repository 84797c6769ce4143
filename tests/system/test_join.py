"""A new agent joins with two commands, is seen, is revoked and refused. Real processes, the words of the how-to."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

WITHIN_SECONDS = 30.0
JOIN = ("agents", "join-token", "--region", "eu-central", "--label", "site=office")


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("ISOCHRONE_")} | more


def collector(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "collector.cli", *words]
    return subprocess.run(
        command, env=environment(ISOCHRONE_DATABASE_URL=url), capture_output=True, text=True, check=False, timeout=60
    )


def enroll(address: str, token: str, credential: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = ("enroll", "--collector", address, "--join-token-file", "-", "--credential-file", str(credential))
    command = [sys.executable, "-m", "agent.cli", *words, *more]
    return subprocess.run(
        command, env=environment(), input=token, capture_output=True, text=True, check=False, timeout=90
    )


@contextmanager
def serving(url: str) -> Iterator[str]:
    """Give the address of a collector in a process of its own."""
    command = [sys.executable, "-m", "collector.cli", "serve"]
    settings = environment(ISOCHRONE_DATABASE_URL=url, ISOCHRONE_LISTEN="127.0.0.1:0", ISOCHRONE_FLUSH_SECONDS="1")
    process = subprocess.Popen(command, env=settings, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = next(line for line in process.stderr if line.startswith("listening on "))
        yield line.removeprefix("listening on ").strip()
    finally:
        process.kill()
        process.communicate(timeout=30)


@contextmanager
def running_agent(address: str, credential: Path, log: Path) -> Iterator[subprocess.Popen[str]]:
    """Give an agent that was started with what `enroll` told to do next, and no other setting."""
    words = ("run", "--collector-url", address, "--credential-file", str(credential), "--log-level", "DEBUG")
    home = environment(XDG_STATE_HOME=str(credential.parent / "state"))
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen([sys.executable, "-m", "agent.cli", *words], env=home, stderr=file, text=True)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def within(condition: Callable[[], bool]) -> float:
    """Return after how many seconds the condition held; fail when that took over 30."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() < begun + WITHIN_SECONDS
        time.sleep(0.2)
    return time.monotonic() - begun


def listed(url: str, name: str) -> dict[str, object] | None:
    entries = json.loads(collector(url, "agents", "list", "--json").stdout)
    return next((entry for entry in entries if entry["agent"] == name), None)


@pytest.mark.slow_fault
def test_f68_a_new_agent_joins_with_two_commands_is_listed_revoked_and_refused_within_30_s(
    database_url: str, tmp_path: Path
) -> None:
    credential, log = tmp_path / "credential", tmp_path / "agent.log"
    (tmp_path / "targets.yml").write_text(
        "modules: {rtt: {prober: rtt, interval: 1s, timeout: 500ms, rtt: {method: tcp, count: 1}}}\n"
        "sites: [{name: one, url: 'http://127.0.0.1:9/', modules: [rtt]}]\n",
        encoding="utf-8",
    )
    assert collector(database_url, "targets", "apply", str(tmp_path / "targets.yml")).returncode == 0
    with serving(database_url) as address:
        token = collector(database_url, *JOIN).stdout
        joined = enroll(address, token, credential, "--name", "fra-1")
        assert joined.returncode == 0, joined.stderr
        assert f"next: isochrone-agent run --collector-url {address}" in joined.stdout
        first = credential.read_text(encoding="ascii")
        os.utime(credential, (0, 0))  # an old one: it is replaced at once
        with running_agent(address, credential, log):
            within(lambda: credential.read_text(encoding="ascii") != first)
            within(lambda: (listed(database_url, "fra-1") or {}).get("last_report_at") is not None)
            secret = credential.read_text(encoding="ascii").strip()
            assert collector(database_url, "agents", "revoke", "fra-1", "--reason", "sold").returncode == 0
            header = {"Authorization": f"Bearer {secret}"}
            within(lambda: httpx.get(f"{address}/v1/agent/config", headers=header, trust_env=False).status_code == 403)
    entry = listed(database_url, "fra-1")
    assert entry is not None
    assert (entry["agent_region"], entry["labels"], entry["revoke_reason"]) == (
        "eu-central",
        {"site": "office"},
        "sold",
    )
    told = log.read_text(encoding="utf-8") + joined.stdout + joined.stderr
    assert "credential: replaced" in told
    assert secret.split("_", 2)[2] not in told
    assert first.strip().split("_", 2)[2] not in told
    assert token.strip().split("_", 2)[2] not in told


def test_what_goes_wrong_at_joining_is_told_in_one_line(database_url: str, tmp_path: Path) -> None:
    credential, token = tmp_path / "credential", collector(database_url, *JOIN).stdout
    with serving(database_url) as address:
        wrong = enroll(address, token.replace("isoe_", "isoa_"), credential, "--name", "fra-1")
        assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
        assert "isoe_<id>_<secret>" in wrong.stderr
        assert enroll(address, token, credential, "--name", "FRA").returncode == 2
        assert enroll(address, token, credential, "--name", "fra-1", "--json").returncode == 0
        again = enroll(address, token, credential, "--name", "fra-1")
        assert (again.returncode, len(again.stderr.splitlines())) == (2, 1)
        assert "exists" in again.stderr
        used = enroll(address, token, tmp_path / "second", "--name", "fra-2")
        assert (used.returncode, len(used.stderr.splitlines())) == (1, 1)
        assert "used up" in used.stderr
    (row,) = json.loads(collector(database_url, "agents", "join-tokens", "--json").stdout)
    assert (row["state"], row["uses_left"]) == ("used", 0)
    assert token.strip().split("_", 2)[2] not in json.dumps(row)
