"""All series together: which exist (the registry decides), what feeds them, how they are written."""

import asyncio
import platform
from collections.abc import Callable, Iterable
from datetime import datetime
from importlib.metadata import version
from typing import Final, NamedTuple
from uuid import UUID

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from collector.fleet import AgentState, FleetRow
from collector.ingest import Ingested, RejectReason
from collector.metrics.families import (
    AgentFamilies,
    ExportFamilies,
    FleetFamilies,
    InfoFamilies,
    IngestFamilies,
    JobFamilies,
    families_of,
)
from collector.metrics.feeding import Feeds, Limits
from collector.metrics.layout import Layout, agent_labels, distance_meters, layout_of
from collector.metrics.series import Origin
from collector.registry import AgentRow, Registry
from isochrone.batch import Batch
from isochrone.physics import rtt_floor_seconds

__all__ = ["LiveMetrics", "Source", "distance_meters"]

FIRST_ERROR_SECONDS: Final = 30.0
"""What the offset of a first batch may be wrong by: a request takes no longer."""
TEXT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Source(NamedTuple):
    """Where a batch comes from, and when it came."""

    agent: AgentRow
    boot_id: UUID
    came_at: datetime


class LiveMetrics:
    """The metrics of one collector process."""

    def __init__(self, limits: Limits, *, monotonic: Callable[[], float]) -> None:
        self.info = InfoFamilies()
        self.agents = AgentFamilies()
        self.fleet = FleetFamilies()
        self.ingest = IngestFamilies()
        self.jobs = JobFamilies()
        self.exports = ExportFamilies()
        self._feeds = Feeds(limits, monotonic=monotonic, count_refused=self.ingest.refused_series.series().add)
        self.probes = self._feeds.families
        self._versions: dict[int, str] = {}
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)
        self.ingest.max_series.series().set(limits.max_series)
        self._start()

    @property
    def groups(self) -> tuple[object, ...]:
        """All families, in the order of the exposition."""
        return self.probes, self.info, self.agents, self.fleet, self.ingest, self.jobs, self.exports

    async def sync(self, registry: Registry) -> None:
        """Create at 0 the series of what is assigned now, and remove those of what is not.

        The event loop goes on meanwhile; when it ends half way, the next call does the rest.
        """
        layout = await asyncio.to_thread(layout_of, registry)
        await self._feeds.sync(layout.places)
        self._sync_places(layout)
        self._sync_agents(layout)
        self._sync_config(registry)

    def count_batch(self, done: Ingested, source: Source) -> None:
        """Count a batch after its commit: a repeat counts as duplicates alone."""
        self.ingest.duplicates.series().add(done.duplicate)
        if done.repeated:
            return
        for reason, count in done.plan.reasons.items():
            self.ingest.rejected.series(reason.value).add(count)
        self.ingest.results.series().add(done.accepted)
        self.ingest.late.series().add(done.late)
        lag = self.ingest.lag.series()
        boot_id, came, region_id = str(source.boot_id), source.came_at.timestamp(), source.agent.region.id
        for taken in done.plan.taken:
            age, result = taken.age_seconds, taken.result
            # A result may lie a little ahead of this clock: the sum must only grow all the same.
            lag.observe(age if age > 0 else 0.0)
            if not taken.late and not result.flags:
                origin = Origin(boot_id, result.seq, came - age)
                self._feeds.observe((region_id, taken.target_id), result, origin)

    def expect_refusals(self, kinds: Iterable[str]) -> None:
        """Let the series of every kind of refusal stand at 0."""
        for kind in kinds:
            self.ingest.refused.series(kind)

    def count_refusal(self, kind: str) -> None:
        """Count a request that was answered with a problem."""
        self.ingest.refused.series(kind).add()

    def report(self, agent: AgentRow, batch: Batch, *, received_at: datetime) -> None:
        """Take over what an agent says of itself."""
        labels, status = agent_labels(agent), batch.status
        self.agents.last_report.series(*labels).set(received_at.timestamp())
        self.agents.queued.series(*labels).set(status.queued_results)
        self.agents.dropped.series(*labels).set(sum(status.dropped_results.values()))
        offset, error = _clock(batch, received_at)
        self.agents.clock_offset.series(*labels).set(offset)
        self.agents.clock_error.series(*labels).set(error)
        self.agents.oldest.series(*labels).set(status.oldest_queued_seconds or 0.0)
        self.agents.expected.series(*labels).set(status.expected_results)
        self.agents.missed.series(*labels).set(status.missed_probes)
        self.agents.duplicate.series(*labels)
        self._take_version(agent, status.version)

    def show_fleet(self, rows: Iterable[FleetRow]) -> None:
        """Take over how every agent stands."""
        self.fleet.unexplained.begin()
        counts = dict.fromkeys(AgentState, 0)
        for row in rows:
            counts[row.state] += 1
            if row.state is AgentState.REVOKED:  # nobody waits for it: without the series, nothing says it is silent
                self.agents.last_report.discard(row.agent, row.agent_region)
            elif row.last_report_at is not None:
                self._take_over(row, reported=row.last_report_at.timestamp())
            if row.unexplained_lost_results is not None:
                self.fleet.unexplained.series(row.agent, row.agent_region).set(row.unexplained_lost_results)
        self.fleet.unexplained.sweep()
        for state, count in counts.items():
            self.fleet.states.series(state.value).set(count)

    def recall(self, agent: AgentRow, *, last_report_at: datetime, version: str | None) -> None:
        """Take over what a process before this one knew of an agent."""
        self.agents.last_report.series(*agent_labels(agent)).set(last_report_at.timestamp())
        self._take_version(agent, version or "")

    def set_duplicate(self, agent: AgentRow, *, duplicate: bool) -> None:
        """Note whether two processes use the agent's credential."""
        self.agents.duplicate.series(*agent_labels(agent)).set(1 if duplicate else 0)

    def set_database_up(self, *, up: bool) -> None:
        """Note how the last use of the database went."""
        self.ingest.db_up.series().set(1 if up else 0)

    def set_database_size(self, size: int, *, bound: int) -> None:
        """Note how large the database is, and how large it may be."""
        self.ingest.db_size.series().set(size)
        self.ingest.db_max.series().set(bound)

    def set_read_database(self, serves: bool, lag_seconds: float | None) -> None:  # noqa: FBT001  told as an event
        """Note whether readers are served by the reading database, and how far it is behind; None: unknown."""
        self.ingest.read_db_up.series().set(1 if serves else 0)
        if lag_seconds is None:
            self.ingest.read_db_lag.discard()
        else:
            self.ingest.read_db_lag.series().set(lag_seconds)

    def expire(self) -> None:
        """Remove the series that nothing fed for their time; to be called before `render`, on the event loop."""
        self._feeds.expire()
        self.ingest.series.series().set(self._feeds.lines_count)

    def render(self, *, openmetrics: bool = False) -> bytes:
        """Return the whole exposition. Safe to call in a thread."""
        parts = [family.text(openmetrics=openmetrics).encode() for family in families_of(*self.groups)]
        parts.append((generate_openmetrics if openmetrics else generate_latest)(self._process))
        return b"".join(parts)

    def _start(self) -> None:
        for family in (self.ingest.results, self.ingest.duplicates, self.ingest.late, self.ingest.db_up):
            family.series()
        self.ingest.lag.series()
        for reason in RejectReason:
            self.ingest.rejected.series(reason.value)
        self.ingest.build.series(version("isochrone"), platform.python_version()).set(1)

    def _sync_places(self, layout: Layout) -> None:
        families = (self.info.floor, self.info.distance, self.info.endpoint, self.info.region)
        for family in families:
            family.begin()
        for pair, distance in layout.distances.items():
            self.info.distance.series(*pair).set(distance)
            self.info.floor.series(*pair).set(rtt_floor_seconds(distance))
        for labels in layout.endpoints:
            self.info.endpoint.series(*labels).set(1)
        for labels in layout.regions:
            self.info.region.series(*labels).set(1)
        for family in families:
            family.sweep()

    def _sync_agents(self, layout: Layout) -> None:
        self._versions = {id_: word for id_, word in self._versions.items() if id_ in layout.agents}
        known = {(*labels, self._versions.get(id_, "")) for id_, labels in layout.agents.items()}
        self.info.agent.retain(known)
        for labels in known - self.info.agent.keys():
            self.info.agent.series(*labels).set(1)
        for family in families_of(self.agents):
            family.retain(layout.agents.values())

    def _sync_config(self, registry: Registry) -> None:
        newest = registry.rows.revisions[0] if registry.rows.revisions else None
        self.info.config_revision.series().set(registry.revision)
        self.info.config_canary.series().set(1 if registry.canary is None else registry.canary.share_percent / 100)
        self.info.config_halted.series().set(newest is not None and newest.halted)

    def _take_over(self, row: FleetRow, *, reported: float) -> None:
        """Take over what an agent said later to another collector: what it said here may be long untrue."""
        labels = (row.agent, row.agent_region)
        last_report = self.agents.last_report.series(*labels)
        if reported <= last_report.value:
            return
        last_report.set(reported)
        self.agents.queued.series(*labels).set(row.queued_results or 0)
        self.agents.oldest.series(*labels).set(row.oldest_queued_seconds or 0.0)
        if row.clock_offset_seconds is not None:
            self.agents.clock_offset.series(*labels).set(row.clock_offset_seconds)
            self.agents.clock_error.series(*labels).set(row.clock_error_seconds or 0.0)

    def _take_version(self, agent: AgentRow, version: str) -> None:
        before = self._versions.get(agent.id, "")
        if before != version:
            self._versions[agent.id] = version
            self.info.agent.discard(*agent_labels(agent), before)
            self.info.agent.series(*agent_labels(agent), version).set(1)


def _clock(batch: Batch, received_at: datetime) -> tuple[float, float]:
    """Return the offset of the agent's wall clock and its error; in a first batch the way here is all of the error."""
    if batch.clock is not None:
        return batch.clock.offset_seconds, batch.clock.error_seconds
    apart = (batch.sent_at - received_at).total_seconds()
    return apart, FIRST_ERROR_SECONDS
