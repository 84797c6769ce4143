"""The registry: which agent gets which target, and how long the snapshot lives."""

import asyncio
from datetime import UTC, datetime

import msgspec
import pytest

from collector.errors import DatabaseUnavailable
from collector.registry import (
    AgentRow,
    EndpointRow,
    RegionRow,
    Registry,
    RegistryCache,
    RevisionRow,
    Rows,
    TargetRow,
    selects,
)
from isochrone.config import ApiKey, Selector, Targets, encode_config
from tests.collecting import TARGETS

THEN = datetime(2026, 1, 1, tzinfo=UTC)
AGENT = AgentRow(
    id=1, name="berlin-1", region=RegionRow(id=1, name="eu-central"), labels={"isp": "x", "v": "6"}, created_at=THEN
)


def rows(*documents: Targets) -> Rows:
    """Return what the database would say after these files were applied, the newest first."""
    revisions = tuple(
        RevisionRow(revision=len(documents) - n, document=encode_config(document).decode())
        for n, document in enumerate(documents)
    )
    endpoint = EndpointRow(
        id=1, name="near", url="", provider="openai", model="model-1", endpoint_region=None, latitude=None,
        longitude=None, simulated=False,
    )  # fmt: skip
    targets = tuple(
        TargetRow(id=n, endpoint="near", module=module, model="model-1", connection=None, created_at=THEN)
        for n, module in enumerate(("rtt", "chat", "warm"), start=1)
    )
    return Rows(agents=(AGENT,), regions=(AGENT.region,), endpoints=(endpoint,), targets=targets, revisions=revisions)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (Selector(), True),
        (Selector(names=("berlin-1",)), True),
        (Selector(names=("paris-*", "berlin-?")), True),
        (Selector(names=("berlin",)), False),
        (Selector(names=()), False),
        (Selector(regions=("eu-*",)), True),
        (Selector(regions=("ap-*", "us-*")), False),
        (Selector(labels={"isp": "x"}), True),
        (Selector(labels={"isp": "x", "v": "4"}), False),
        (Selector(labels={"other": "x"}), False),
        (Selector(names=("berlin-1",), regions=("ap-*",)), False),
        (Selector(names=("berlin-1",), regions=("eu-*",), labels={"v": "6"}), True),
    ],
)
def test_every_condition_that_is_given_must_hold(selector: Selector, expected: bool) -> None:  # noqa: FBT001  a table
    assert selects(selector, AGENT) is expected


def test_the_key_of_an_endpoint_goes_to_inference_targets_alone() -> None:
    (endpoint,) = TARGETS.endpoints
    with_key = msgspec.structs.replace(endpoint, api_key=ApiKey(env="KEY"))
    share = Registry(rows(msgspec.structs.replace(TARGETS, endpoints=(with_key,)))).share(1).config
    keys = {one.module: one.api_key for one in share.targets if one.endpoint == "near"}
    assert keys == {"rtt": None, "chat": ApiKey(env="KEY"), "warm": ApiKey(env="KEY")}


def test_the_etag_changes_with_the_share_and_only_then() -> None:
    first, again = Registry(rows(TARGETS)), Registry(rows(TARGETS))
    other = Registry(rows(msgspec.structs.replace(TARGETS, sites=())))
    assert first.share(1).etag == again.share(1).etag != other.share(1).etag


def test_targets_of_earlier_revisions_are_known_and_not_assigned() -> None:
    (endpoint,) = TARGETS.endpoints
    newer = msgspec.structs.replace(TARGETS, endpoints=(msgspec.structs.replace(endpoint, modules=("chat",)),))
    registry = Registry(rows(newer, TARGETS))
    assert [one.target.module for one in registry.assigned()] == ["chat"]
    assert set(registry.known_targets(1)) == {("near", "rtt"), ("near", "chat"), ("near", "warm")}


class Source:
    """Rows that a test may change or take away, and a clock that it turns."""

    def __init__(self) -> None:
        self.rows: Rows | None = rows(TARGETS)
        self.now = 100.0
        self.loads = 0
        self.seen: list[Registry] = []
        self.cache = RegistryCache(self.load, monotonic=lambda: self.now, on_change=self.seen.append)

    async def load(self) -> Rows:
        self.loads += 1
        if self.rows is None:
            raise DatabaseUnavailable("gone")
        return self.rows


@pytest.mark.anyio
async def test_a_snapshot_is_renewed_by_age_and_kept_when_nothing_changed() -> None:
    source = Source()
    first = await source.cache.get()
    source.now += 19
    assert await source.cache.get() is first
    assert source.loads == 1
    source.now += 2
    assert await source.cache.get() is first
    assert (source.loads, len(source.seen)) == (2, 1)
    source.rows = rows(msgspec.structs.replace(TARGETS, sites=()), TARGETS)
    source.now += 21
    assert (await source.cache.get()).revision == 2
    assert len(source.seen) == 2


@pytest.mark.anyio
async def test_misses_renew_it_at_most_once_a_second() -> None:
    source = Source()
    await source.cache.get()
    source.now += 1
    await asyncio.gather(*(source.cache.after_miss() for _ in range(50)))
    assert source.loads == 2


@pytest.mark.anyio
async def test_the_last_snapshot_outlives_a_database_that_is_down() -> None:
    source = Source()
    first = await source.cache.get()
    source.rows = None
    source.now += 60
    assert await source.cache.get() is first
    assert source.loads == 2


@pytest.mark.anyio
async def test_without_any_snapshot_a_database_that_is_down_is_told() -> None:
    source = Source()
    source.rows = None
    with pytest.raises(DatabaseUnavailable):
        await source.cache.get()
