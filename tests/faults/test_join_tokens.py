"""F65-F67: join tokens under a race, a lost answer, and in hands or at times that they are not for."""

import asyncio
from pathlib import Path

import psycopg
import pytest

from agent.config.tokens import new_token
from agent.errors import ConfigError, DeliveryError
from agent.push import enrolment
from agent.push.credentials import CredentialFiles
from agent.push.enrolment import NotLetIn, enroll
from collector import identity
from tests.collecting import running_collector
from tests.joining import Losing, agents_client, another, join, join_token, one, status_with, token_in

pytestmark = pytest.mark.anyio

USES_LEFT = "SELECT uses_left FROM join_token"
AGENTS = "SELECT count(*) FROM agent WHERE name LIKE 'new-%'"


@pytest.mark.parametrize("uses", [1, 3])
async def test_f65_of_20_clients_with_one_token_as_many_come_in_as_it_has_uses(database_url: str, uses: int) -> None:
    token = join_token(database_url, uses=uses)
    async with running_collector(database_url) as collector:
        answers = await asyncio.gather(*(join(collector, token, name=f"new-{number}") for number in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * uses + [401] * (20 - uses)
    assert (one(database_url, USES_LEFT), one(database_url, AGENTS)) == (0, uses)


async def test_f65_the_same_agent_that_asks_20_times_at_once_takes_one_use(database_url: str) -> None:
    token, own = join_token(database_url, uses=5), new_token()
    async with running_collector(database_url) as collector:
        answers = await asyncio.gather(*(join(collector, token, name="new-1", own=own) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert (one(database_url, USES_LEFT), one(database_url, AGENTS)) == (4, 1)


async def test_f66_an_answer_that_was_lost_is_asked_for_again_and_takes_no_second_use(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolment, "PAUSES_SECONDS", (0.0, 0.0, 0.0))
    files, lost = CredentialFiles(tmp_path / "credential"), iter([True, True, False])
    token = join_token(database_url, uses=2)
    async with running_collector(database_url) as collector, agents_client(collector) as client:
        losing = Losing(client, lambda _method: next(lost))
        known = await enroll(losing, files, join_token=token, name="new-1")
        assert await status_with(collector.client, token_in(files.path).token) == 200
    assert losing.done == ["POST 200"] * 3
    assert (known.agent, known.agent_region) == ("new-1", "eu-central")
    assert (one(database_url, USES_LEFT), one(database_url, AGENTS)) == (1, 1)
    assert not files.next_path.exists()


async def test_f66_a_disk_that_fails_after_the_answer_is_told_and_the_same_command_goes_on(
    database_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    files, token = CredentialFiles(folder / "credential"), join_token(database_url)

    def away(_method: str) -> bool:
        folder.rename(tmp_path / "away")
        return False

    async with running_collector(database_url) as collector, agents_client(collector) as client:
        with pytest.raises(ConfigError, match=r"joined, but the credential stands in .*credential\.next"):
            await enroll(Losing(client, away), files, join_token=token, name="new-1")
        (tmp_path / "away").rename(folder)
        assert (await enroll(client, files, join_token=token, name="new-1")).agent == "new-1"
    assert (one(database_url, USES_LEFT), files.path.exists()) == (0, True)


async def test_f66_a_command_that_got_no_answer_goes_on_with_the_same_key_when_it_is_given_again(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolment, "PAUSES_SECONDS", (0.0,))
    files, token = CredentialFiles(tmp_path / "credential"), join_token(database_url)
    async with running_collector(database_url) as collector, agents_client(collector) as client:
        with pytest.raises(DeliveryError):
            await enroll(Losing(client, lambda _method: True), files, join_token=token, name="new-1")
        assert not files.path.exists()
        own = token_in(files.next_path)
        # Another name would be another agent: it is told which one this key is.
        with pytest.raises(NotLetIn, match="enrolled as new-1"):
            await enroll(client, files, join_token=token, name="new-2")
        identity.revoke_join_token(database_url, token.split("_")[1])
        await enroll(client, files, join_token=token, name="new-1")
    assert token_in(files.path) == own
    assert one(database_url, AGENTS) == 1


async def test_f67_a_token_that_does_not_fit_is_refused_with_one_answer_whatever_the_cause(database_url: str) -> None:
    tokens = {
        "expired": join_token(database_url),
        "revoked": join_token(database_url),
        "network": join_token(database_url, cidr="10.0.0.0/8,2001:db8::/32"),
        "name": join_token(database_url, name="somebody"),
        "used": join_token(database_url),
        "unknown": "isoe_" + "0" * 16 + "_" + "x" * 43,
    }
    tokens["secret"] = tokens["expired"][:-6] + "xxxxxx"
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE join_token SET expires_at = now() WHERE id = %s", (tokens["expired"].split("_")[1],))
        connection.execute("UPDATE join_token SET uses_left = 0 WHERE id = %s", (tokens["used"].split("_")[1],))
    identity.revoke_join_token(database_url, tokens["revoked"].split("_")[1])
    async with running_collector(database_url) as collector:
        answers = {why: await join(collector, token, name="new-1") for why, token in tokens.items()}
        assert {why: answer.status_code for why, answer in answers.items()} == dict.fromkeys(tokens, 401)
        assert len({answer.content for answer in answers.values()}) == 1
        credential = await join(collector, collector.token, name="new-1")
        assert credential.status_code == 401, "a credential is no join token"
        fits = join_token(database_url, cidr="127.0.0.0/8", name="new-1", labels={"site": "office"})
        assert (await join(collector, fits, name="new-1")).status_code == 200
    assert one(database_url, "SELECT labels->>'site' FROM agent WHERE name = 'new-1'") == "office"


async def test_f67_a_name_that_is_taken_is_not_taken_over_and_costs_no_use(database_url: str) -> None:
    token = join_token(database_url)
    async with running_collector(database_url) as collector:
        answer = await join(collector, token, name="agent-1")
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:isochrone:problem:name_taken")
        assert (await collector.fetch("/v1/agent/config")).status_code == 200
        identity.revoke_agent(database_url, "agent-1", "stolen")
        assert (await join(collector, token, name="agent-1")).status_code == 409, "a ban outlives a new enrolment"
        assert (await join(collector, token, name="new-1")).status_code == 200


async def test_f67_a_key_id_of_somebody_else_is_refused(database_url: str) -> None:
    first, second = join_token(database_url), join_token(database_url)
    own = new_token()
    async with running_collector(database_url) as collector:
        assert (await join(collector, first, name="new-1", own=own)).status_code == 200
        assert (await join(collector, second, name="new-2", own=own)).status_code == 409
        assert await status_with(collector.client, own.token) == 200
    assert one(database_url, AGENTS) == 1


@pytest.mark.slow_fault
async def test_f67_what_comes_in_here_is_known_to_another_collector_a_second_later(database_url: str) -> None:
    own, token = new_token(), join_token(database_url)
    async with running_collector(database_url) as collector, another(database_url) as other:
        assert (await join(collector, token, name="new-1", own=own)).status_code == 200
        assert await status_with(collector.client, own.token) == 200
        await asyncio.sleep(1.1)  # MIN_AGE_SECONDS of a snapshot
        assert await status_with(other, own.token) == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{}", 422),
        (b"[" * 4_000, 422),
        (b"x" * 5_000, 413),
        (b'{"name":"UPPER","key_id":"0123456789abcdef","secret_sha256":"' + b"0" * 64 + b'"}', 422),
        (b'{"name":"a\\u0000","key_id":"0123456789abcdef","secret_sha256":"' + b"0" * 64 + b'"}', 422),
        (b'{"name":"a","key_id":"xyz","secret_sha256":"' + b"0" * 64 + b'"}', 422),
    ],
)
async def test_f67_a_body_that_breaks_the_contract_costs_no_use(database_url: str, body: bytes, status: int) -> None:
    token = join_token(database_url)
    async with running_collector(database_url) as collector:
        answer = await collector.client.post(
            "/v1/agents/enroll", content=body, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
    assert one(database_url, USES_LEFT) == 1


async def test_f79_bodies_that_do_not_come_keep_no_agent_from_joining(database_url: str) -> None:
    head = (
        "POST /v1/agents/enroll HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer isoe_" + "0" * 16 + "_" + "x" * 43
        + "\r\nContent-Length: 100\r\n\r\n{"
    ).encode()  # fmt: skip
    token = join_token(database_url)
    async with running_collector(database_url) as collector:
        url = collector.client.base_url
        slow = [await asyncio.open_connection(url.host, url.port) for _ in range(20)]
        for _, writer in slow:
            writer.write(head)
        await collector.client.get("/healthz")
        own = new_token()
        body = {"name": "new-1", "key_id": own.key_id, "secret_sha256": own.secret_sha256}
        answer = await collector.client.post(
            "/v1/agents/enroll", json=body, headers={"Authorization": f"Bearer {token}"}
        )
        for _, writer in slow:
            writer.close()
    assert answer.status_code == 200
