"""How the fleet stands: which agent is well, which is late or silent, what it lost, how much of its work came. Pure.

A state is decided by what is known for sure, the worst first:

| state   | when                                                                                      |
|---------|-------------------------------------------------------------------------------------------|
| revoked | an operator revoked it, or it had credentials and has none any more                       |
| clone   | two processes used its credential at once within the last hour                            |
| silent  | no report yet, or the last one is older than three flushes and fifteen seconds            |
| late    | the last report is older than two flushes and five seconds, or results wait for too long  |
| ok      | else                                                                                      |
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from collector.clones import FORGET
from collector.registry import Planned, Registry
from collector.store.fleet import AgentFacts

LATE_FLUSHES: Final = 2
LATE_MARGIN_SECONDS: Final = 5.0
SILENT_FLUSHES: Final = 3
SILENT_MARGIN_SECONDS: Final = 15.0
"""An agent reports at each flush, results or not; the margins let it be started anew and a slow link repeat."""
CLOCK_WARNING_SECONDS: Final = 1.0
"""A wall clock farther off is told; its results are taken and dated all the same."""
DEFAULT_WINDOW_SECONDS: Final = 3_600.0


class AgentState(StrEnum):
    """How an agent is."""

    OK = "ok"
    LATE = "late"
    SILENT = "silent"
    REVOKED = "revoked"
    CLONE = "clone"


class AgentWarning(StrEnum):
    """What to look after though reports come."""

    CLOCK = "clock"
    """Its wall clock is off by more than a second, and not by the error of the measurement alone."""
    LOST = "lost"
    """Results of it are gone, and it does not say why."""
    REVISION = "revision"
    """It does not run the configuration that it is given."""


class FleetRow(msgspec.Struct, frozen=True, kw_only=True):
    """One agent. None: it never said so."""

    agent: str
    agent_region: str
    state: AgentState
    warnings: tuple[AgentWarning, ...]
    labels: dict[str, str]
    created_at: datetime
    last_report_at: datetime | None
    version: str | None
    credentials: int
    revoked_at: datetime | None
    revoke_reason: str | None
    clone_seen_at: datetime | None
    config_revision: int | None
    """What it runs."""
    assigned_revision: int
    """What it is given; 0 before the first target file."""
    received_revision: int | None
    """The newest configuration that came to it."""
    failed_revision: int | None
    """That one, when the agent gave it up."""
    failed_reason: str | None
    queued_results: int | None
    oldest_queued_seconds: float | None
    lost_results: dict[str, int]
    unexplained_lost_results: int | None
    missed_probes: int | None
    clock_offset_seconds: float | None
    clock_error_seconds: float | None
    expected_results: int
    """What its targets called for in the window."""
    received_results: int
    coverage: float | None
    """Received over expected, at most 1; None when nothing was called for."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """From where the fleet is looked at."""

    now: datetime
    window_seconds: float = DEFAULT_WINDOW_SECONDS
    """Over which coverage is reckoned, up to now."""
    late_seconds: float
    """Results that wait for longer, or books that do not balance for longer, are told."""
    flush_seconds: float
    """Of agents that were never told."""

    @property
    def since(self) -> datetime:
        """Return when the window begins."""
        return self.now - timedelta(seconds=self.window_seconds)


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One agent's share of the work in the window, and what came of it."""

    revision: int = 0
    """Of the configuration that it is given."""
    expected: float = 0.0
    received: int = 0


def overview(
    facts: Iterable[AgentFacts], registry: Registry, received: Mapping[int, int], *, view: View
) -> list[FleetRow]:
    """Return a row for each agent, in order; `received` counts the results of the window by agent id."""
    expected = expected_by_agent(registry.planned(since=view.since, until=view.now))
    rows = []
    for one in facts:
        revision = registry.share(one.id).config.revision if one.id in registry.agents else registry.revision
        share = Share(revision=revision, expected=expected.get(one.id, 0.0), received=received.get(one.id, 0))
        rows.append(row_of(one, share, view))
    return rows


def expected_by_agent(planned: Iterable[Planned]) -> dict[int, float]:
    """Return how many probes the targets called for, by agent id."""
    expected: dict[int, float] = {}
    for plan in planned:
        one = plan.assigned
        expected[one.agent.id] = expected.get(one.agent.id, 0.0) + plan.seconds / one.assignment.options.interval
    return expected


def unexplained(facts: AgentFacts, view: View) -> int | None:
    """Return the results that are missing without a word for longer than a late one takes; None: it does not tell."""
    if facts.unaccounted is None:
        return None
    since = facts.unaccounted_since
    if since is None or (view.now - since).total_seconds() < view.late_seconds:
        return 0
    return max(0, facts.unaccounted)


def state_of(facts: AgentFacts, view: View) -> AgentState:
    """Return the state, as the table above says."""
    if facts.revoked:
        return AgentState.REVOKED
    if facts.clone_seen_at is not None and facts.clone_seen_at > view.now - FORGET:
        return AgentState.CLONE
    if facts.last_report_at is None:
        return AgentState.SILENT
    age = (view.now - facts.last_report_at).total_seconds()
    flush = view.flush_seconds if facts.flush_seconds is None else facts.flush_seconds
    if age > SILENT_FLUSHES * flush + SILENT_MARGIN_SECONDS:
        return AgentState.SILENT
    waits = (facts.oldest_queued_seconds or 0.0) > view.late_seconds
    if waits or age > LATE_FLUSHES * flush + LATE_MARGIN_SECONDS:
        return AgentState.LATE
    return AgentState.OK


def _warnings(facts: AgentFacts, share: Share, view: View) -> tuple[AgentWarning, ...]:
    offset, error = facts.clock_offset_seconds, facts.clock_error_seconds
    off = offset is not None and abs(offset) - (error or 0.0) > CLOCK_WARNING_SECONDS
    behind = facts.config_revision is not None and facts.config_revision != share.revision
    told = (
        (AgentWarning.CLOCK, off),
        (AgentWarning.LOST, bool(unexplained(facts, view))),
        (AgentWarning.REVISION, behind),
    )
    return tuple(warning for warning, holds in told if holds)


def row_of(facts: AgentFacts, share: Share, view: View) -> FleetRow:
    """Return how one agent stands."""
    return FleetRow(
        agent=facts.agent,
        agent_region=facts.agent_region,
        state=state_of(facts, view),
        warnings=_warnings(facts, share, view),
        labels=facts.labels,
        created_at=facts.created_at,
        last_report_at=facts.last_report_at,
        version=facts.version,
        credentials=facts.credentials,
        revoked_at=facts.revoked_at,
        revoke_reason=facts.revoke_reason,
        clone_seen_at=facts.clone_seen_at,
        config_revision=facts.config_revision,
        assigned_revision=share.revision,
        received_revision=facts.received_revision,
        failed_revision=facts.failed_revision,
        failed_reason=facts.failed_reason,
        queued_results=facts.queued_results,
        oldest_queued_seconds=facts.oldest_queued_seconds,
        lost_results=facts.lost_results,
        unexplained_lost_results=unexplained(facts, view),
        missed_probes=facts.missed_probes,
        clock_offset_seconds=facts.clock_offset_seconds,
        clock_error_seconds=facts.clock_error_seconds,
        expected_results=int(share.expected),
        received_results=share.received,
        coverage=_coverage(share),
    )


def _coverage(share: Share) -> float | None:
    return None if share.expected < 1 else min(1.0, round(share.received / share.expected, 4))
