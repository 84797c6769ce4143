"""F69, F70: a credential is replaced; a kill at any step, or a lost answer, never locks the agent out."""

import asyncio
import signal
import stat
import sys
from pathlib import Path

import pytest

from agent.config.tokens import new_token
from agent.errors import DeliveryError
from agent.push.credentials import MIN_AGE, RotationHints
from agent.spool.files import write_durably
from collector import identity
from collector.identity import MAX_CREDENTIALS
from collector.store.credentials import RETIRING_HOURS
from tests.collecting import AGENT, Collector, running_collector
from tests.joining import Losing, agents_client, another, old_credential, one, rotator, status_with, token_in

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
RETIRING = "SELECT count(*) FROM credential WHERE retires_at BETWEEN now() + '23 h' AND now() + '25 h'"
NEVER_USED = "SELECT count(*) FROM credential WHERE replaces IS NOT NULL AND first_used_at IS NULL"


async def killed_at(step: str, collector: Collector, path: Path) -> None:
    """Let an agent in a process of its own rotate, and be killed at that step."""
    command = (sys.executable, "-m", "tests.faults.rotating_agent", str(collector.client.base_url), str(path), step)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    assert await process.wait() == -signal.SIGKILL


@pytest.mark.slow_fault
@pytest.mark.parametrize("step", ["writing", "made", "told", "used", "moved"])
async def test_f69_killed_at_any_step_the_agent_still_comes_in_and_ends_the_rotation(
    database_url: str, tmp_path: Path, step: str
) -> None:
    async with running_collector(database_url) as collector, agents_client(collector) as client:
        files = old_credential(tmp_path, collector.token)
        await killed_at(step, collector, files.path)
        assert await status_with(collector.client, token_in(files.path).token) == 200
        await rotator(client, files).turn()
        now = token_in(files.path)
        assert now.token != collector.token
        assert await status_with(collector.client, now.token) == 200
    assert not files.next_path.exists()
    assert (one(database_url, RETIRING), one(database_url, NEVER_USED)) == (1, 0)
    assert one(database_url, "SELECT count(*) FROM credential") == 2, "no step made a key for nothing"


@pytest.mark.parametrize("lost", [("PUT",), ("GET",), ("PUT", "GET")], ids="+".join)
async def test_f70_a_lost_answer_leaves_both_credentials_good_and_the_next_attempt_goes_on(
    database_url: str, tmp_path: Path, lost: tuple[str, ...]
) -> None:
    async with running_collector(database_url) as collector, agents_client(collector) as client:
        files = old_credential(tmp_path, collector.token)
        to_lose = list(lost)
        losing = Losing(client, lambda method: method in to_lose and not to_lose.remove(method))
        rotating = rotator(losing, files)
        for _ in lost:
            with pytest.raises(DeliveryError):
                await rotating.turn()
            assert token_in(files.path).token == collector.token
            assert await status_with(collector.client, collector.token) == 200
        following = token_in(files.next_path)
        assert await rotating.turn()
        assert token_in(files.path) == following
        assert await status_with(collector.client, following.token) == 200
    assert one(database_url, "SELECT count(*) FROM credential") == 2


async def test_f70_the_old_credential_lives_a_day_from_the_first_use_of_the_new_one(
    database_url: str, tmp_path: Path
) -> None:
    assert RETIRING_HOURS == 24
    async with running_collector(database_url) as collector, agents_client(collector) as client:
        files = old_credential(tmp_path, collector.token)
        assert await rotator(client, files).turn()
        assert stat.S_IMODE(files.path.stat().st_mode) == 0o600
        assert await status_with(collector.client, collector.token) == 200
        collector.rows("UPDATE credential SET retires_at = now() WHERE retires_at IS NOT NULL RETURNING key_id")
        await collector.context.registry.newer_than(0)
        assert await status_with(collector.client, collector.token) == 401, "it is unknown, not revoked"
        assert await status_with(collector.client, token_in(files.path).token) == 200


async def test_f70_an_agent_that_slept_through_its_old_credential_comes_in_with_the_next_one(
    database_url: str, tmp_path: Path
) -> None:
    async with running_collector(database_url) as collector, agents_client(collector) as client:
        files = old_credential(tmp_path, collector.token)
        with pytest.raises(DeliveryError):
            await rotator(Losing(client, lambda method: method == "GET"), files).turn()
        collector.rows("DELETE FROM credential WHERE retires_at IS NOT NULL RETURNING key_id")
        await collector.context.registry.newer_than(0)
        assert await rotator(client, files).turn()
        assert await status_with(collector.client, token_in(files.path).token) == 200


async def test_f69_a_credential_is_replaced_when_it_is_old_and_not_before(database_url: str, tmp_path: Path) -> None:
    async with running_collector(database_url) as collector, agents_client(collector) as client:
        files = old_credential(tmp_path, collector.token)
        rotating = rotator(client, files)
        assert await rotating.turn()
        young = token_in(files.path)
        assert await rotating.turn()
        assert token_in(files.path) == young


async def test_f69_the_operator_asks_and_every_collector_passes_it_on_until_it_is_done(
    database_url: str, tmp_path: Path
) -> None:
    async with running_collector(database_url) as collector:
        header = {"Authorization": f"Bearer {collector.token}"}
        assert "isochrone-rotate" not in (await collector.fetch("/v1/agent/config")).headers
        identity.rotate_agent(database_url, AGENT)
        async with another(database_url) as other:
            assert (await other.get("/v1/agent/config", headers=header)).headers["isochrone-rotate"] == "1"
        async with agents_client(collector) as client:
            files = old_credential(tmp_path, collector.token)
            rotating = rotator(client, files)
            rotating._every_seconds = 1e9  # noqa: SLF001  so that age is no reason
            hinting = RotationHints(client, rotating.ask)
            assert await rotating.turn()
            assert token_in(files.path).token == collector.token, "nobody asked yet"
            await collector.context.registry.newer_than(0)
            await hinting.request("GET", "/v1/agent/config", headers=header, max_response_bytes=300_000)
            assert await rotating.turn()
            now = token_in(files.path).token
            assert now != collector.token
            answer = await collector.client.get("/v1/agent/config", headers={"Authorization": f"Bearer {now}"})
            assert "isochrone-rotate" not in answer.headers


async def test_f69_a_collector_that_always_asks_gets_no_more_than_one_a_minute(
    database_url: str, tmp_path: Path
) -> None:
    async with running_collector(database_url) as collector, agents_client(collector) as client:
        files = old_credential(tmp_path, collector.token)
        rotating = rotator(client, files)
        assert await rotating.turn()
        young = token_in(files.path)
        rotating.ask()
        assert await rotating.turn()
        assert token_in(files.path) == young
        assert MIN_AGE.total_seconds() >= 60


async def test_f69_broken_off_rotations_fill_no_table(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        statuses = []
        for _ in range(MAX_CREDENTIALS + 1):
            own = new_token()
            body = {"key_id": own.key_id, "secret_sha256": own.secret_sha256}
            header = {"Authorization": f"Bearer {collector.token}"}
            statuses.append((await collector.client.put("/v1/agent/credential", json=body, headers=header)).status_code)
    assert statuses == [200] * (MAX_CREDENTIALS - 1) + [409, 409]


async def test_f69_a_file_beside_that_holds_nothing_is_written_anew(database_url: str, tmp_path: Path) -> None:
    async with running_collector(database_url) as collector, agents_client(collector) as client:
        files = old_credential(tmp_path, collector.token)
        write_durably(files.next_path, b"half of a cred")
        assert await rotator(client, files).turn()
        assert await status_with(collector.client, token_in(files.path).token) == 200
