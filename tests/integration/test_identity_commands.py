"""Commands that let in and send out, and what their tokens open. Against a real Postgres and a real collector."""

import json
import stat
from pathlib import Path

import httpx
import psycopg
import pytest

from collector import admin
from collector.cli import main
from collector.store import migration
from tests.collecting import AGENT, running_collector
from tests.joining import join, join_token, one


@pytest.fixture(autouse=True)
def _database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOCHRONE_DATABASE_URL", database_url)


def test_a_join_token_is_printed_alone_or_goes_into_a_file_that_only_its_owner_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["agents", "join-token", "--region", "eu"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("isoe_")
    assert len(printed.splitlines()) == 1
    path = tmp_path / "token"
    assert main(["agents", "join-token", "--region", "eu", "--out", str(path)]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = path.read_text(encoding="ascii")
    assert token.strip().split("_", 2)[2] not in capsys.readouterr().out
    assert main(["agents", "join-token", "--out", str(path)]) == 2
    assert path.read_text(encoding="ascii") == token, "it is not overwritten"
    assert main(["agents", "join-tokens"]) == 0
    assert "open" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--region", "EU"), "--region"),
        (("--name", "a b"), "--name"),
        (("--uses", "0"), "--uses"),
        (("--uses", "2", "--name", "a"), "one use"),
        (("--ttl", "1s"), "--ttl"),
        (("--ttl", "soon"), "--ttl"),
        (("--ttl", "31d"), "--ttl"),
        (("--cidr", "10.0.0.1/8"), "--cidr"),
        (("--cidr", ""), "--cidr"),
        (("--label", "x"), "--label"),
    ],
)
def test_wrong_terms_are_told_in_one_line_and_make_no_token(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, words: tuple[str, ...], told: str
) -> None:
    path = tmp_path / "token"
    assert main(["agents", "join-token", "--out", str(path), *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1
    assert not path.exists()
    assert one(database_url, "SELECT count(*) FROM join_token") == 0


@pytest.mark.parametrize(
    "words",
    [
        ("agents", "rotate", "nobody"),
        ("agents", "revoke", "nobody"),
        ("agents", "remove", "nobody"),
        ("agents", "revoke-join-token", "0" * 16),
        ("tokens", "revoke", "nobody"),
    ],
)
def test_who_is_not_there_is_told_in_one_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_agent_is_revoked_before_it_is_removed_and_then_its_name_is_free(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    admin.add_agent(database_url, name="a", region="eu")
    assert main(["agents", "remove", "a"]) == 2
    assert main(["agents", "revoke", "a", "--reason", "sold\nto somebody"]) == 0
    assert main(["agents", "rotate", "a"]) == 2, "who is revoked is asked for nothing"
    capsys.readouterr()
    assert main(["agents", "list", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["revoke_reason"], entry["revoked_at"] is None) == ("sold to somebody", False)
    assert main(["agents", "remove", "a"]) == 0
    capsys.readouterr()
    assert main(["agents", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    admin.add_agent(database_url, name="a", region="eu")


def test_a_downgrade_lets_nobody_back_in(database_url: str) -> None:
    admin.add_agent(database_url, name="a", region="eu")
    assert main(["agents", "revoke", "a"]) == 0
    migration.downgrade(database_url, "20261126_bounds")
    assert one(database_url, "SELECT count(*) FROM credential WHERE revoked_at IS NULL") == 0


def token(capsys: pytest.CaptureFixture[str], name: str, scope: str) -> str:
    capsys.readouterr()
    assert main(["tokens", "create", name, "--scope", scope]) == 0
    return capsys.readouterr().out.strip()


async def statuses(client: httpx.AsyncClient, bearer: str | None) -> tuple[int, int, int]:
    """Return what reading, scraping and administration answer."""
    headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
    calls = (("GET", "/v1/agents"), ("GET", "/metrics"), ("POST", "/-/reload"))
    read, scrape, reload = [(await client.request(*call, headers=headers)).status_code for call in calls]
    return read, scrape, reload


@pytest.mark.anyio
async def test_tokens_open_what_they_are_for_and_close_it_for_all_others(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # 409: let through, and no target file to read again
    async with running_collector(database_url) as collector:
        assert await statuses(collector.client, None) == (200, 200, 409)
        reader = token(capsys, "grafana", "read")
        await collector.context.registry.newer_than(0)
        assert await statuses(collector.client, None) == (401, 401, 401)
        assert await statuses(collector.client, reader) == (200, 200, 409)
        operator = token(capsys, "deploy", "admin")
        await collector.context.registry.newer_than(0)
        assert await statuses(collector.client, reader) == (200, 200, 403)
        assert await statuses(collector.client, operator) == (200, 200, 409)
        assert await statuses(collector.client, collector.token) == (401, 401, 401), "an agent reads nothing"
        assert main(["tokens", "revoke", "grafana"]) == 0
        assert main(["tokens", "revoke", "deploy"]) == 0
        await collector.context.registry.newer_than(0)
        for bearer in (reader, operator, None):
            assert await statuses(collector.client, bearer) == (401, 401, 401)
    assert main(["tokens", "create", "grafana", "--scope", "read"]) == 1, "a name is one token for ever"
    capsys.readouterr()
    assert main(["tokens", "list", "--json"]) == 0
    listed = capsys.readouterr().out
    assert [entry["name"] for entry in json.loads(listed)] == ["deploy", "grafana"]
    assert reader.split("_", 2)[2] not in listed


@pytest.mark.anyio
async def test_a_readers_token_lets_no_agent_in_and_posts_nothing(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = token(capsys, "deploy", "admin")
    async with running_collector(database_url) as collector:
        assert (await collector.post(b"{}", token=operator)).status_code == 401
        assert (await join(collector, operator, name="a")).status_code == 401
        assert (await join(collector, join_token(database_url), name=AGENT)).status_code == 409
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT name FROM agent").fetchall() == [(AGENT,)]
