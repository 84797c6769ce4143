"""Who may send and what is to be probed: a snapshot of the small tables, kept in memory.

Pure but for `RegistryCache`, which asks a function for rows and knows only a monotonic clock.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final

import msgspec

from collector.errors import CollectorError, DatabaseUnavailable, SchemaBehind
from collector.selection import Group, Groups, assignment_of, items_of, selects, share_of
from collector.tables import ALL_PERCENT, AgentRow, EndpointRow, RegionRow, RevisionRow, Rows, TargetRow
from isochrone.config import AgentConfig, Assignment, Targets, decode_targets, encode_config
from isochrone.outcome import Prober

__all__ = [
    "ALL_PERCENT",
    "KNOWN_REVISIONS",
    "AgentRow",
    "Assigned",
    "EndpointRow",
    "Known",
    "KnownTargets",
    "Planned",
    "RegionRow",
    "Registry",
    "RegistryCache",
    "RevisionRow",
    "Rows",
    "Share",
    "TargetRow",
    "canaries",
    "canary_place",
    "items_of",
    "selects",
    "share_of",
]

MAX_AGE_SECONDS: Final = 20.0
"""How old the snapshot may be when a request uses it: a revocation bites within 30 s."""
MIN_AGE_SECONDS: Final = 1.0
"""A miss renews a snapshot that is older than this; bounds what a flood of unknown keys costs."""
KNOWN_REVISIONS: Final = 5
"""Results of targets of so many revisions are taken: what waited in a spool outlives a change."""

_log = logging.getLogger(__name__)


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One agent's configuration: the value, its JSON, and the strong ETag with its quotes."""

    config: AgentConfig
    body: bytes
    etag: str


class Assigned(msgspec.Struct, frozen=True, kw_only=True):
    """One target of one agent, now."""

    agent: AgentRow
    target: TargetRow
    endpoint: EndpointRow
    assignment: Assignment


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """One target of one agent, or of all agents of a region, and for how long it was theirs in a stretch of time."""

    assigned: Assigned
    """Of several agents: one of them."""
    seconds: float
    """Of several agents: the sum."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A target whose results an agent may send, and what its module measures with."""

    target: TargetRow
    prober: Prober


KnownTargets = dict[tuple[str, str, int | None], Known]
"""By (endpoint, module, revision of the configuration); under None what the newest revision makes of the pair."""


class Registry:
    """A snapshot. Shares are worked out when they are first asked for, or taken over from the snapshot before."""

    def __init__(self, rows: Rows, before: "Registry | None" = None) -> None:
        self.rows = rows
        self.agents = {agent.id: agent for agent in rows.agents}
        self.credentials = {credential.key_id: credential for credential in rows.credentials}
        self.endpoints = {endpoint.name: endpoint for endpoint in rows.endpoints}
        self.regions = {region.name: region for region in rows.regions}
        self.released = next((row for row in rows.revisions if row.released), None)
        """What every agent gets that is in no canary."""
        self.revision = 0 if self.released is None else self.released.revision
        self.canary = _open_canary(rows.revisions)
        self.canaries = frozenset() if self.canary is None else canaries(self.canary, _not_revoked(rows))
        """The agents, by id, that get the newest revision before the others."""
        self._targets = {(t.endpoint, t.module, t.model): t for t in rows.targets}
        self._shares: dict[int, Share] = {}
        self._known: dict[int, KnownTargets] = {}
        if before is not None and before.rows.revisions == rows.revisions:
            self._take_over(before)

    def shows_as(self, other: "Registry") -> bool:
        """Tell whether both are the same but for who may come in."""
        mine, others = (msgspec.structs.replace(one.rows, credentials=(), access_tokens=()) for one in (self, other))
        return mine == others and self.canaries == other.canaries

    def share(self, agent_id: int) -> Share:
        """Return what this agent shall probe."""
        share = self._shares.get(agent_id)
        if share is None:
            share = self._shares[agent_id] = self._make_share(self.agents[agent_id])
        return share

    def known_targets(self, agent_id: int) -> KnownTargets:
        """Return the targets whose results this agent may send."""
        known = self._known.get(agent_id)
        if known is None:
            known = self._known[agent_id] = self._make_known(self.agents[agent_id])
        return known

    def assigned(self) -> Iterator[Assigned]:
        """Yield every target of every agent."""
        for agent in self.rows.agents:
            yield from self._resolve(agent, self.share(agent.id).config.targets)

    def places(self) -> Iterator[Assigned]:
        """Yield every target of every region once, with one of its agents: of 1,000 agents no share is worked out."""
        seen: set[tuple[int, int]] = set()
        others = (agent for agent in self.rows.agents if agent.id not in self.canaries)
        chosen = (agent for agent in self.rows.agents if agent.id in self.canaries)
        for revision, agents in ((self.released, others), (self.canary, chosen)):
            for group, one in () if revision is None else self._grouped(revision, Groups(agents)):
                place = (group.agents[0].region.id, one.target.id)
                if place not in seen:
                    seen.add(place)
                    yield one

    def planned(self, *, since: datetime, until: datetime) -> Iterator[Planned]:
        """Yield what was called for between two moments: a target counts while a target file named it.

        The oldest of the known files is taken to have stood since its targets exist. A canary's agents are counted by
        what the others have.
        """
        for revision, begin, end in self._stretches(since, until):
            for one in self._assigned_by(revision):
                yield Planned(assigned=one, seconds=_seconds_of(one.agent, max(begin, one.target.created_at), end=end))

    def planned_by_region(self, *, since: datetime, until: datetime) -> Iterator[Planned]:
        """Yield what `planned` yields, added up over the agents of each region: a thousandth of the work."""
        groups = Groups(self.rows.agents)
        for revision, begin, end in self._stretches(since, until):
            for group, one in self._grouped(revision, groups):
                yield Planned(assigned=one, seconds=_seconds_of_all(group, max(begin, one.target.created_at), end=end))

    def _stretches(self, since: datetime, until: datetime) -> Iterator[tuple[RevisionRow, datetime, datetime]]:
        """Yield from when to when each target file stood that everybody got, the newest first."""
        end = until
        released = [row for row in self.rows.revisions if row.released]
        for place, revision in enumerate(released):
            begin = since if place == KNOWN_REVISIONS - 1 else max(since, revision.applied_at)
            if begin < end:
                yield revision, begin, end
            end = min(end, revision.applied_at)

    def _grouped(self, revision: RevisionRow, groups: Groups) -> Iterator[tuple[Group, Assigned]]:
        """Yield each target of a file with the agents of each region that it falls to."""
        document = _document(revision)
        for item in items_of(document):
            names = [name for name in item.modules if name in document.modules]
            assignments = [assignment_of(item, name, module=document.modules[name]) for name in names]
            for group in groups.of(item.agents).values():
                for one in self._resolve(group.agents[0], assignments):
                    yield group, one

    def _assigned_by(self, revision: RevisionRow) -> Iterator[Assigned]:
        for agent in self.rows.agents:
            if revision is self.released and agent.id not in self.canaries:
                yield from self._resolve(agent, self.share(agent.id).config.targets)
            else:
                yield from self._resolve(agent, share_of(_document(revision), agent))

    def _take_over(self, before: "Registry") -> None:
        """Keep what is the same: of 10,000 agents all shares take seconds, and one that joins changes none."""
        moved = self.canaries ^ before.canaries
        same = {id_ for id_, agent in self.agents.items() if agent == before.agents.get(id_) and id_ not in moved}
        self._shares = {id_: share for id_, share in before._shares.items() if id_ in same}  # noqa: SLF001  its own
        if before.rows.targets == self.rows.targets:
            self._known = {id_: known for id_, known in before._known.items() if id_ in same}  # noqa: SLF001  its own

    def _revision_of(self, agent: AgentRow) -> RevisionRow | None:
        return self.canary if agent.id in self.canaries else self.released

    def _resolve(self, agent: AgentRow, assignments: Iterable[Assignment]) -> Iterator[Assigned]:
        for assignment in assignments:
            target = self._targets.get((assignment.endpoint, assignment.module, assignment.model))
            endpoint = self.endpoints.get(assignment.endpoint)
            if target is not None and endpoint is not None:
                yield Assigned(agent=agent, target=target, endpoint=endpoint, assignment=assignment)

    def _make_share(self, agent: AgentRow) -> Share:
        row = self._revision_of(agent)
        number, targets = (0, ()) if row is None else (row.revision, share_of(_document(row), agent))
        config = AgentConfig(revision=number, agent=agent.name, agent_region=agent.region.name, targets=targets)
        body = encode_config(config)
        return Share(config=config, body=body, etag=f'"{number}-{sha256(body).hexdigest()[:16]}"')

    def _make_known(self, agent: AgentRow) -> KnownTargets:
        known: KnownTargets = {}
        mine = self._revision_of(agent)
        for revision in (*(() if mine is None else (mine,)), *(row for row in self.rows.revisions if row is not mine)):
            for assignment in share_of(_document(revision), agent):
                pair = (assignment.endpoint, assignment.module)
                target = self._targets.get((*pair, assignment.model))
                if target is not None:
                    one = known[*pair, revision.revision] = Known(target=target, prober=assignment.options.prober)
                    known.setdefault((*pair, None), one)
        return known


class RegistryCache:
    """The newest snapshot. It outlives a database that is down: configuration is served from it."""

    def __init__(
        self,
        load: Callable[[], Awaitable[Rows]],
        *,
        monotonic: Callable[[], float],
        on_change: Callable[[Registry], Awaitable[None]],
    ) -> None:
        self._load = load
        self._monotonic = monotonic
        self._on_change = on_change
        self._lock = asyncio.Lock()
        self._registry: Registry | None = None
        self._loaded_at = 0.0
        self._fault: CollectorError | None = None
        """Why there is no snapshot yet."""
        self._failing = False
        """The last renewal failed."""
        self._expected: dict[str, float] = {}
        """Key ids stored by this process, and when: until a snapshot was read since."""
        self._unreadable: set[RevisionRow] = set()

    async def get(self) -> Registry:
        """Return a snapshot that is fresh, or the last one while the database is down.

        Raise DatabaseUnavailable, or SchemaBehind, when there was none yet.
        """
        if self._registry is not None and self._failing and self._lock.locked():
            # The database is known not to answer: one caller waits for it, and no request.
            return self._registry
        return await self.newer_than(MAX_AGE_SECONDS)

    async def after_miss(self) -> Registry:
        """Return a snapshot in which something that was just added is found."""
        return await self.newer_than(MIN_AGE_SECONDS)

    async def newer_than(self, age_seconds: float) -> Registry:
        """Return a snapshot at most so old, as `get` does."""
        fresh = self._fresh(age_seconds)
        if fresh is not None:  # nobody waits for a renewal that he does not need
            return fresh
        async with self._lock:
            fresh = self._fresh(age_seconds)
            if fresh is not None:
                return fresh
            age = self._monotonic() - self._loaded_at
            if self._registry is None and self._fault is not None and age < min(age_seconds, MIN_AGE_SECONDS):
                # Who waited for the lock meanwhile is told what the one before was told: nobody waits twice.
                raise self._fault.with_traceback(None)
            return await self._refresh()

    def expect(self, key_id: str) -> None:
        """Note a credential that was stored just now: who bears it need not wait for the next renewal."""
        self._expected[key_id] = self._monotonic()

    async def with_key(self, key_id: str) -> Registry:
        """Return a snapshot in which a credential is found if there is one, at once for one that is expected.

        One renewal serves all who joined before it began.
        """
        if key_id not in self._expected:
            return await self.after_miss()
        async with self._lock:
            tried = self._failing and self._fresh(MIN_AGE_SECONDS) is not None
            if self._registry is not None and (tried or key_id not in self._expected):
                return self._registry
            return await self._refresh()

    def _fresh(self, age_seconds: float) -> Registry | None:
        return self._registry if self._monotonic() - self._loaded_at < age_seconds else None

    async def _refresh(self) -> Registry:
        began = self._monotonic()
        try:
            rows = self._readable(await self._load())
        except (DatabaseUnavailable, SchemaBehind) as exc:
            self._fault = exc
            self._failing = True
            if self._registry is None:
                raise
            _log.warning("the registry could not be renewed and stays as it was: %s", exc)
            return self._registry
        finally:
            self._loaded_at = self._monotonic()
        self._failing = False
        self._expected = {key_id: at for key_id, at in self._expected.items() if at >= began}
        if self._registry is None or self._registry.rows != rows:
            registry = Registry(rows, self._registry)
            if self._registry is None or not registry.shows_as(self._registry):
                await self._on_change(registry)
            self._registry = registry
        return self._registry

    def _readable(self, rows: Rows) -> Rows:
        """Return the rows without the target files of another release; agents, keys and revocations stay fresh.

        When none can be read, those of the last snapshot stand. Raise SchemaBehind when there was none.
        """
        revisions = tuple(row for row in rows.revisions if self._can_read(row))
        if rows.revisions and not revisions:
            revisions = () if self._registry is None else self._registry.rows.revisions
            if not revisions:
                raise SchemaBehind("this release reads none of the target files in the database: upgrade the collector")
        return msgspec.structs.replace(rows, revisions=revisions)

    def _can_read(self, row: RevisionRow) -> bool:
        if row in self._unreadable:
            return False
        try:
            _document(row)
        except ValueError as exc:
            self._unreadable.add(row)
            _log.error("targets of revision %d are of another release and are left out here: %s", row.revision, exc)
            return False
        return True


def _seconds_of(agent: AgentRow, begin: datetime, *, end: datetime) -> float:
    return max(0.0, (end - max(begin, agent.created_at)).total_seconds())


def _seconds_of_all(group: Group, begin: datetime, *, end: datetime) -> float:
    if group.newest <= begin:
        return len(group.agents) * max(0.0, (end - begin).total_seconds())
    return sum(_seconds_of(agent, begin, end=end) for agent in group.agents)


def canary_place(agent: str, revision: int) -> float:
    """Return where an agent stands in the order in which a revision goes out: from 0 to below 100, always the same."""
    digest = sha256(f"{revision}\n{agent}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 * ALL_PERCENT


def canaries(revision: RevisionRow, agents: Iterable[AgentRow]) -> frozenset[int]:
    """Return the ids of the agents within the share of `revision`; at least one: a canary of nobody tells nothing."""
    places = sorted((canary_place(agent.name, revision.revision), agent.id) for agent in agents)
    within = frozenset(agent_id for place, agent_id in places if place < revision.share_percent)
    return within or frozenset(agent_id for _, agent_id in places[:1])


def _not_revoked(rows: Rows) -> Iterator[AgentRow]:
    """Yield the agents that may still ask: one that may not tells nothing of a canary, or speaks against it unheard."""
    held = {credential.agent_id for credential in rows.credentials}
    good = {credential.agent_id for credential in rows.credentials if not credential.revoked}
    return (agent for agent in rows.agents if agent.id in good or agent.id not in held)


def _open_canary(revisions: tuple[RevisionRow, ...]) -> RevisionRow | None:
    newest = revisions[0] if revisions else None
    return None if newest is None or newest.halted or newest.released else newest


@lru_cache(maxsize=4 * KNOWN_REVISIONS)
def _document(row: RevisionRow) -> Targets:
    return decode_targets(row.document.encode())
