"""The command line: exit codes, tables and JSON, files of secrets, and a server that stops when it is told."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

GOOD = """
modules:
  rtt: {prober: rtt, interval: 30s, timeout: 5s}
sites:
  - {name: one, url: "http://127.0.0.1:9/", modules: [rtt]}
"""
BAD = GOOD.replace("interval: 30s", "interval: 1s").replace("prober: rtt", "prober: rtt, colour: red")


def collector(*arguments: str, url: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ISOCHRONE_DATABASE_URL": url} if url else dict(os.environ)
    command = [sys.executable, "-m", "collector.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "good.yml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "bad.yml").write_text(BAD, encoding="utf-8")
    return tmp_path


def test_a_right_file_is_printed_as_a_table_or_json(files: Path) -> None:
    table = collector("targets", "check", str(files / "good.yml"))
    assert table.returncode == 0, table.stderr
    assert "one" in table.stdout
    as_json = collector("targets", "check", str(files / "good.yml"), "--json")
    assert json.loads(as_json.stdout)["sites"][0]["name"] == "one"


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_wrong_file_is_told_by_line_and_ends_with_2(files: Path, more: tuple[str, ...]) -> None:
    checked = collector("targets", "check", str(files / "bad.yml"), *more)
    assert checked.returncode == 2
    assert f"{files / 'bad.yml'}:3" in checked.stderr
    if more:
        assert json.loads(checked.stdout)["problems"]


def test_a_file_that_does_not_exist_ends_with_2(files: Path) -> None:
    assert collector("targets", "check", str(files / "none.yml")).returncode == 2


def test_apply_keeps_the_old_targets_when_the_new_file_is_wrong(files: Path, database_url: str) -> None:
    applied = collector("targets", "apply", str(files / "good.yml"), "--json", url=database_url)
    assert applied.returncode == 0, applied.stderr
    assert json.loads(applied.stdout)["changed"] is True
    assert collector("targets", "apply", str(files / "bad.yml"), url=database_url).returncode == 2
    shown = json.loads(collector("targets", "show", "--json", url=database_url).stdout)
    assert (shown["revision"], shown["targets"]["sites"][0]["name"]) == (1, "one")
    again = collector("targets", "apply", str(files / "good.yml"), url=database_url)
    assert "unchanged" in again.stdout


def test_show_before_the_first_file_fails_and_says_what_to_do(database_url: str) -> None:
    shown = collector("targets", "show", url=database_url)
    assert shown.returncode == 1
    assert "targets apply" in shown.stderr


def test_an_agents_credential_goes_into_a_new_file_that_only_its_owner_reads(files: Path, database_url: str) -> None:
    path = files / "credential"
    words = ("agents", "add", "berlin-1", "--region", "eu-central", "--credential-file", str(path))
    added = collector(*words, "--label", "isp=x", url=database_url)
    assert added.returncode == 0, added.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = path.read_text(encoding="ascii")
    assert re.fullmatch(r"isoa_[0-9a-f]{16}_[A-Za-z0-9_-]{43}\n", token)
    assert token.strip() not in added.stdout + added.stderr
    assert collector(*words, url=database_url).returncode == 2, "the file is not overwritten"
    assert path.read_text(encoding="ascii") == token
    (entry,) = json.loads(collector("agents", "list", "--json", url=database_url).stdout)
    assert (entry["agent"], entry["agent_region"], entry["labels"]) == ("berlin-1", "eu-central", {"isp": "x"})
    assert "berlin-1" in collector("agents", "list", url=database_url).stdout


@pytest.mark.parametrize(("name", "code"), [("berlin-1", 1), ("BERLIN", 2)])
def test_a_name_that_is_taken_or_none_leaves_no_file(files: Path, database_url: str, *, name: str, code: int) -> None:
    first = ("agents", "add", "berlin-1", "--region", "r", "--credential-file", str(files / "first"))
    assert collector(*first, url=database_url).returncode == 0
    second = ("agents", "add", name, "--region", "r", "--credential-file", str(files / "second"))
    assert collector(*second, url=database_url).returncode == code
    assert not (files / "second").exists()


def test_without_a_database_url_it_says_which_setting_is_missing() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ISOCHRONE_")}
    run = subprocess.run(
        [sys.executable, "-m", "collector.cli", "migrate"], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "ISOCHRONE_DATABASE_URL" in run.stderr


def test_a_database_that_is_not_there_ends_with_1_and_one_line() -> None:
    run = collector("migrate", url="postgresql://nobody:hunter2@127.0.0.1:9/none")
    assert run.returncode == 1
    assert len(run.stderr.splitlines()) == 1
    assert "hunter2" not in run.stderr


def test_a_schema_of_a_newer_release_is_left_alone(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '29990101_newer'")
    run = collector("migrate", url=database_url)
    assert run.returncode == 0, run.stderr
    assert "29990101_newer" in run.stdout
    assert len(run.stderr.splitlines()) == 1
    assert "newer than this release" in run.stderr


def test_targets_of_another_release_are_told_in_one_line(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("""INSERT INTO config_revision (etag, document) VALUES ('x', '{"from_the_future": 1}')""")
    run = collector("targets", "show", url=database_url)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert "another release" in run.stderr


@pytest.mark.parametrize("words", [("agents", "list"), ("targets", "show"), ("migrate",)])
def test_a_user_without_rights_is_told_in_one_line(stranger_url: str, words: tuple[str, ...]) -> None:
    run = collector(*words, url=stranger_url)
    assert run.returncode == 1
    assert len(run.stderr.splitlines()) == 1
    assert "permission denied" in run.stderr


def test_an_unknown_option_in_the_url_is_named_and_its_value_is_not(database_url: str) -> None:
    run = collector("migrate", url=f"{database_url}&bogus=hunter2")
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert '"bogus"' in run.stderr
    assert "hunter2" not in run.stderr


@pytest.mark.parametrize("command", ["serve", "up"])
def test_a_host_that_is_none_is_told_in_one_line(database_url: str, command: str) -> None:
    run = collector(command, "--listen", "a..b:80", url=database_url)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert "a..b" in run.stderr


def test_a_database_that_cannot_hold_every_character_is_refused_before_anything_is_made(latin_url: str) -> None:
    run = collector("migrate", url=latin_url)
    assert run.returncode == 1
    assert len(run.stderr.splitlines()) == 1
    assert "UTF8" in run.stderr
    with psycopg.connect(latin_url) as connection:
        assert connection.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,)


def test_text_goes_to_the_database_in_utf_8_whatever_the_environment_says(
    files: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    words = ("agents", "add", "a", "--region", "r", "--credential-file", str(files / "c"), "--label", "city=Łódź")
    added = collector(*words, url=database_url)
    assert added.returncode == 0, added.stderr
    (entry,) = json.loads(collector("agents", "list", "--json", url=database_url).stdout)
    assert entry["labels"] == {"city": "Łódź"}


def test_the_table_of_targets_says_which_agents_probe(files: Path) -> None:
    chosen = "modules: [rtt], agents: {names: [berlin-*], labels: {isp: x}}}"
    (files / "good.yml").write_text(GOOD.replace("modules: [rtt]}", chosen), encoding="utf-8")
    checked = collector("targets", "check", str(files / "good.yml"))
    assert checked.returncode == 0, checked.stderr
    for expected in ("berlin-*", "isp=x"):
        assert expected in checked.stdout
    assert " all " not in checked.stdout


@contextmanager
def serving(url: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Give the process of `serve` and its address."""
    environment = {**os.environ, "ISOCHRONE_DATABASE_URL": url, "ISOCHRONE_LISTEN": "127.0.0.1:0"}
    command = [sys.executable, "-m", "collector.cli", "serve", *arguments]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = next(line for line in process.stderr if line.startswith("listening on "))
        yield process, line.removeprefix("listening on ").strip()
    finally:
        process.kill()
        process.communicate(timeout=30)


def until(address: str, path: str, text: str) -> bool:
    """Ask until the answer holds `text`, for at most 30 s."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if text in httpx.get(f"{address}{path}", trust_env=False, timeout=10).text:
                return True
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    return False


def test_serve_migrates_when_asked_applies_its_file_reloads_on_sighup_and_ends_with_0(
    files: Path, empty_database_url: str
) -> None:
    with serving(empty_database_url, "--migrate", "--targets", str(files / "good.yml")) as (process, address):
        assert until(address, "/readyz", '"ready"')
        words = ("agents", "add", "a", "--region", "r", "--credential-file", str(files / "c"))
        assert collector(*words, url=empty_database_url).returncode == 0
        assert until(address, "/v1/endpoints", '"one"')
        (files / "good.yml").write_text(GOOD.replace("one", "two"), encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        assert until(address, "/v1/endpoints", '"two"')
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_serve_does_not_start_with_a_wrong_file(files: Path, database_url: str) -> None:
    run = collector("serve", "--targets", str(files / "bad.yml"), url=database_url)
    assert run.returncode == 2
    assert "bad.yml:3" in run.stderr


def test_serve_with_an_address_that_is_taken_says_so(database_url: str) -> None:
    with serving(database_url) as (_process, address):
        taken = collector("serve", "--listen", address.removeprefix("http://"), url=database_url)
    assert taken.returncode == 2
    assert "choose another address" in taken.stderr
