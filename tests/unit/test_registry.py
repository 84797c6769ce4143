"""The registry: which agent gets which target, and how long the snapshot lives."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.auth import Credential
from collector.errors import DatabaseUnavailable, SchemaBehind
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
from isochrone.config import ApiKey, Selector, Targets, decode_agent_config, encode_config
from tests.collecting import TARGETS

THEN = datetime(2026, 1, 1, tzinfo=UTC)
AGENT = AgentRow(
    id=1, name="berlin-1", region=RegionRow(id=1, name="eu-central"), labels={"isp": "x", "v": "6"}, created_at=THEN
)


def rows(*documents: Targets) -> Rows:
    """Return what the database would say after these files were applied, the newest first."""
    revisions = tuple(
        RevisionRow(revision=len(documents) - n, document=encode_config(document).decode(), applied_at=THEN)
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


def test_the_ip_version_of_an_endpoint_and_of_a_site_goes_to_all_their_targets() -> None:
    (endpoint,), (site,) = TARGETS.endpoints, TARGETS.sites
    bound = (msgspec.structs.replace(endpoint, ip_version=6),), (msgspec.structs.replace(site, ip_version=4),)
    registry = Registry(rows(msgspec.structs.replace(TARGETS, endpoints=bound[0], sites=bound[1])))
    share = decode_agent_config(encode_config(registry.share(1).config))
    versions = {(one.endpoint, one.module): one.ip_version for one in share.targets}
    assert versions == {("near", "rtt"): 6, ("near", "chat"): 6, ("near", "warm"): 6, ("site-1", "rtt"): 4}
    assert all(one.ip_version is None for one in Registry(rows(TARGETS)).share(1).config.targets)


def test_the_etag_changes_with_the_share_and_only_then() -> None:
    first, again = Registry(rows(TARGETS)), Registry(rows(TARGETS))
    other = Registry(rows(msgspec.structs.replace(TARGETS, sites=())))
    assert first.share(1).etag == again.share(1).etag != other.share(1).etag


def test_targets_of_earlier_revisions_are_known_and_not_assigned() -> None:
    (endpoint,) = TARGETS.endpoints
    newer = msgspec.structs.replace(TARGETS, endpoints=(msgspec.structs.replace(endpoint, modules=("chat",)),))
    registry = Registry(rows(newer, TARGETS))
    assert [one.target.module for one in registry.assigned()] == ["chat"]
    modules = ("rtt", "chat", "warm")
    assert set(registry.known_targets(1)) == {
        ("near", "chat", 2),
        *(("near", module, revision) for module in modules for revision in (None, 1)),
    }


MINUTES, DAYS = timedelta(minutes=1), timedelta(days=1)
NOW = THEN + 30 * DAYS


@pytest.mark.parametrize(
    ("history", "minutes"),
    [
        ([(10 * MINUTES, True)], 10),
        ([(9 * DAYS, True)], 60),
        ([(10 * MINUTES, True), (9 * DAYS, True)], 60),
        ([(10 * MINUTES, True), (5 * DAYS, False), (9 * DAYS, True)], 10),
        ([(10 * MINUTES, False), (9 * DAYS, True)], 50),
        ([(10 * MINUTES, True), (20 * MINUTES, False), (30 * MINUTES, True)], 20),
        ([(n * MINUTES, True) for n in range(1, 6)], 60),
        ([(n * MINUTES, True) for n in range(1, 5)], 4),
        ([], 0),
    ],
)
def test_a_target_is_planned_while_a_file_named_it(history: list[tuple[timedelta, bool]], minutes: int) -> None:
    (endpoint,) = TARGETS.endpoints
    without = msgspec.structs.replace(TARGETS, endpoints=(msgspec.structs.replace(endpoint, modules=("rtt",)),))
    snapshot = rows(*(TARGETS if named else without for _, named in history))
    revisions = tuple(
        msgspec.structs.replace(row, applied_at=NOW - age)
        for row, (age, _) in zip(snapshot.revisions, history, strict=True)
    )
    registry = Registry(msgspec.structs.replace(snapshot, revisions=revisions))
    planned = registry.planned(since=NOW - 60 * MINUTES, until=NOW)
    assert sum(one.seconds for one in planned if one.assigned.target.module == "chat") == 60 * minutes


def test_nothing_is_planned_before_the_target_exists() -> None:
    registry = Registry(rows(TARGETS))
    planned = list(registry.planned(since=THEN - DAYS, until=THEN + MINUTES))
    assert {one.seconds for one in planned} == {60}
    assert {one.seconds for one in registry.planned(since=THEN - DAYS, until=THEN - MINUTES)} <= {0}


@st.composite
def fleets(draw: st.DrawFn) -> Registry:
    """Give any registry: agents of three regions, endpoints by all kinds of selectors, files of several times."""
    regions = [RegionRow(id=n, name=name) for n, name in enumerate(("eu-central", "eu-west", "ap-south"))]
    agents = tuple(
        AgentRow(
            id=n,
            name=f"{draw(st.sampled_from(['berlin', 'paris']))}-{n}",
            region=draw(st.sampled_from(regions)),
            labels=draw(st.sampled_from([{}, {"isp": "x"}, {"isp": "y", "v": "4"}])),
            created_at=NOW - draw(st.integers(0, 90)) * MINUTES,
        )
        for n in range(draw(st.integers(0, 8)))
    )
    selectors = st.builds(
        Selector,
        names=st.sampled_from([None, ("berlin-*",), ("*-1", "*-2"), ()]),
        regions=st.sampled_from([None, ("eu-*",), ("ap-south", "nowhere"), ()]),
        labels=st.sampled_from([None, {"isp": "x"}, {"v": "4"}]),
    )
    (endpoint,) = TARGETS.endpoints
    modules = st.lists(st.sampled_from(["rtt", "chat", "warm"]), unique=True, min_size=1).map(tuple)
    documents = [
        msgspec.structs.replace(
            TARGETS, endpoints=(msgspec.structs.replace(endpoint, modules=draw(modules), agents=draw(selectors)),)
        )
        for _ in range(draw(st.integers(1, 3)))
    ]
    snapshot = rows(*documents)
    revisions = tuple(
        msgspec.structs.replace(row, applied_at=NOW - (20 * n + 10) * MINUTES)
        for n, row in enumerate(snapshot.revisions)
    )
    if draw(st.booleans()):
        revisions = (msgspec.structs.replace(revisions[0], share_percent=50), *revisions[1:])
    return Registry(msgspec.structs.replace(snapshot, agents=agents, regions=tuple(regions), revisions=revisions))


@given(fleets())
def test_places_are_what_is_assigned_to_any_agent_of_a_region(registry: Registry) -> None:
    places = [(one.agent.region.name, one.target.id) for one in registry.places()]
    assert len(places) == len(set(places))
    assert set(places) == {(one.agent.region.name, one.target.id) for one in registry.assigned()}


@given(fleets())
def test_what_is_planned_of_a_region_is_what_is_planned_of_its_agents(registry: Registry) -> None:
    sums = []
    for planned in (registry.planned, registry.planned_by_region):
        seconds: dict[tuple[str, int], float] = {}
        for one in planned(since=NOW - 60 * MINUTES, until=NOW):
            place = (one.assigned.agent.region.name, one.assigned.target.id)
            seconds[place] = seconds.get(place, 0.0) + one.seconds
        sums.append({place: found for place, found in seconds.items() if found})
    assert sums[0] == pytest.approx(sums[1])


class Source:
    """Rows that a test may change or take away, and a clock that it turns."""

    def __init__(self) -> None:
        self.rows: Rows | None = rows(TARGETS)
        self.now = 100.0
        self.loads = 0
        self.seen: list[Registry] = []
        self.cache = RegistryCache(self.load, monotonic=lambda: self.now, on_change=self.note)

    async def note(self, registry: Registry) -> None:
        self.seen.append(registry)

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


def of_another_release(revision: int) -> RevisionRow:
    """Return a target file that only a newer release can read."""
    document = encode_config(TARGETS).decode().replace("{", '{"from_the_future":1,', 1)
    return RevisionRow(revision=revision, document=document, applied_at=THEN)


@pytest.mark.anyio
async def test_targets_of_another_release_are_left_out_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    await source.cache.get()
    before = rows(TARGETS)
    newcomer = msgspec.structs.replace(AGENT, id=2, name="newcomer")
    source.rows = msgspec.structs.replace(
        before, agents=(AGENT, newcomer), revisions=(of_another_release(2), *before.revisions)
    )
    for _ in range(3):
        source.now += 21
        registry = await source.cache.get()
    assert registry.revision == 1
    assert [one.module for one in registry.share(2).config.targets] == ["rtt", "chat", "warm", "rtt"], "agents are new"
    assert [record.message for record in caplog.records if "another release" in record.message][1:] == []
    assert "from_the_future" in caplog.text


@pytest.mark.anyio
async def test_the_last_targets_that_could_be_read_outlive_any_number_of_others() -> None:
    source = Source()
    share = (await source.cache.get()).share(1)
    source.rows = msgspec.structs.replace(
        rows(TARGETS), credentials=(), revisions=tuple(of_another_release(n) for n in range(9, 4, -1))
    )
    source.now += 21
    assert (await source.cache.get()).share(1) == share


@pytest.mark.anyio
async def test_without_any_targets_that_can_be_read_no_agent_is_told_to_stop() -> None:
    source = Source()
    source.rows = msgspec.structs.replace(rows(TARGETS), revisions=(of_another_release(1),))
    with pytest.raises(SchemaBehind, match="upgrade"):
        await source.cache.get()


@pytest.mark.anyio
async def test_who_waited_for_a_first_try_that_failed_does_not_try_again() -> None:
    source = Source()
    source.rows = None
    answers = await asyncio.gather(*(source.cache.get() for _ in range(50)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {DatabaseUnavailable}
    assert source.loads == 1
    source.rows = rows(TARGETS)
    source.now += 1
    assert (await source.cache.get()).revision == 1


class Database:
    """Rows that come when the test says so, or never."""

    def __init__(self) -> None:
        self.rows = rows(TARGETS)
        self.reads = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.serves = True

    async def load(self) -> Rows:
        self.reads += 1
        read = self.rows
        await self.answers.wait()
        if not self.serves:
            raise DatabaseUnavailable("it is gone")
        return read


async def unheeded(registry: Registry) -> None:
    """Take note of no change."""


def cached(database: Database, now: list[float]) -> RegistryCache:
    return RegistryCache(database.load, monotonic=lambda: now[0], on_change=unheeded)


@pytest.mark.anyio
async def test_nobody_waits_for_a_renewal_while_what_is_there_is_fresh_enough() -> None:
    database, now = Database(), [100.0]
    cache = cached(database, now)
    first = await cache.get()
    now[0] += 10.0
    database.answers.clear()
    job = asyncio.create_task(cache.newer_than(5.0))
    await asyncio.sleep(0)
    assert await asyncio.wait_for(cache.get(), 5) is first
    database.answers.set()
    await job


@pytest.mark.anyio
async def test_once_the_database_failed_no_request_waits_for_the_next_try() -> None:
    database, now = Database(), [100.0]
    cache = cached(database, now)
    first = await cache.get()
    database.serves = False
    now[0] += 30.0
    assert await cache.get() is first
    database.answers.clear()
    now[0] += 30.0
    job = asyncio.create_task(cache.newer_than(5.0))
    await asyncio.sleep(0)
    assert await asyncio.wait_for(cache.get(), 5) is first
    database.serves = True
    database.answers.set()
    await job
    reads = database.reads
    now[0] += 30.0
    await cache.get()
    assert database.reads == reads + 1, "once it serves again, age counts again"


@pytest.mark.anyio
async def test_one_renewal_serves_all_who_joined_before_it_began_and_nobody_who_joined_later() -> None:
    database, now = Database(), [100.0]
    cache = cached(database, now)
    await cache.get()
    for key in ("a", "b", "c"):
        cache.expect(key)
    now[0] += 0.1
    database.answers.clear()
    asked = [asyncio.create_task(cache.with_key(key)) for key in ("a", "b", "c")]
    await asyncio.sleep(0)
    now[0] += 0.1
    cache.expect("later")
    database.answers.set()
    await asyncio.gather(*asked)
    assert database.reads == 2
    await cache.with_key("later")
    assert database.reads == 3
    await cache.with_key("unknown")
    assert database.reads == 3, "a flood of unknown keys has to wait"


def test_an_agent_that_was_revoked_is_in_no_canary() -> None:
    def held(agent_id: int, *, revoked: bool) -> Credential:
        return Credential(key_id=str(agent_id), agent_id=agent_id, secret_sha256="", revoked=revoked)

    fleet = tuple(msgspec.structs.replace(AGENT, id=n, name=f"a-{n}") for n in range(1, 41))
    plain = rows(TARGETS)
    canary = msgspec.structs.replace(plain.revisions[0], revision=2, share_percent=50)
    keys = (*(held(n, revoked=n % 2 == 0) for n in range(1, 41)), held(2, revoked=True))
    of_all = msgspec.structs.replace(plain, agents=fleet, revisions=(canary, *plain.revisions))
    everybody = Registry(of_all).canaries
    assert Registry(msgspec.structs.replace(of_all, credentials=keys)).canaries == {n for n in everybody if n % 2 == 1}
    assert any(n % 2 == 0 for n in everybody)


@pytest.mark.anyio
async def test_who_may_come_in_changes_no_share_and_no_series() -> None:
    database, now, changes = Database(), [100.0], list[Registry]()

    async def note(registry: Registry) -> None:
        changes.append(registry)

    cache = RegistryCache(database.load, monotonic=lambda: now[0], on_change=note)
    first = await cache.get()
    share, known = first.share(1), first.known_targets(1)
    key = Credential(key_id="k", agent_id=1, secret_sha256="", revoked=False)
    database.rows = msgspec.structs.replace(database.rows, credentials=(key,))
    second = await cache.newer_than(0)
    assert "k" in second.credentials
    assert second.share(1) is share
    assert second.known_targets(1) is known
    assert changes == [first]
    joined = msgspec.structs.replace(AGENT, id=2, name="berlin-2")
    database.rows = msgspec.structs.replace(database.rows, agents=(AGENT, joined))
    third = await cache.newer_than(0)
    assert third.share(1) is share
    assert third.share(2).config.agent == "berlin-2"
    assert changes == [first, third]


@pytest.mark.parametrize("changed", ["agent", "file", "targets", "canary"])
def test_what_changed_is_worked_out_anew(changed: str) -> None:
    (endpoint,) = TARGETS.endpoints
    plain = rows(TARGETS)
    other = rows(msgspec.structs.replace(TARGETS, endpoints=(msgspec.structs.replace(endpoint, modules=("chat",)),)))
    moved = msgspec.structs.replace(AGENT, region=RegionRow(id=2, name="elsewhere"))
    canary = msgspec.structs.replace(other.revisions[0], revision=2, share_percent=50)
    after = {
        "agent": msgspec.structs.replace(plain, agents=(moved,)),
        "file": other,
        "targets": msgspec.structs.replace(plain, targets=plain.targets[:1]),
        "canary": msgspec.structs.replace(plain, revisions=(canary, *plain.revisions)),
    }[changed]
    before = Registry(plain)
    before.share(1), before.known_targets(1)
    renewed, fresh = Registry(after, before), Registry(after)
    assert renewed.share(1) == fresh.share(1)
    assert renewed.known_targets(1) == fresh.known_targets(1)
    assert not renewed.shows_as(before)


def test_an_agent_whose_canary_was_left_for_another_gets_its_new_share() -> None:
    """A revocation moves an agent into a canary of one without any change of the revisions."""
    plain = rows(TARGETS)
    two = (AGENT, msgspec.structs.replace(AGENT, id=2, name="berlin-2"))
    canary = msgspec.structs.replace(plain.revisions[0], revision=2, share_percent=1)
    of_both = msgspec.structs.replace(plain, agents=two, revisions=(canary, *plain.revisions))
    before = Registry(of_both)
    (member,) = before.canaries
    assert before.share(3 - member).config.revision == 1
    gone = (Credential(key_id="k", agent_id=member, secret_sha256="", revoked=True),)
    after = Registry(msgspec.structs.replace(of_both, credentials=gone), before)
    assert after.share(3 - member).config.revision == 2
    assert after.share(member).config.revision == 1
    assert not after.shows_as(before)
