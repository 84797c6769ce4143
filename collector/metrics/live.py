"""All series together: which exist (the registry decides), what feeds them, how they are written."""

import platform
from collections.abc import Iterable
from datetime import datetime
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest

from collector.fleet import AgentState, FleetRow
from collector.ingest import Ingested, RejectReason
from collector.metrics.families import (
    AgentFamilies,
    FleetFamilies,
    InfoFamilies,
    IngestFamilies,
    JobFamilies,
    ProbeFamilies,
    families_of,
)
from collector.metrics.feeds import TargetFeed
from collector.registry import AgentRow, Assigned, EndpointRow, RegionRow, Registry
from isochrone.batch import Batch
from isochrone.physics import great_circle_meters, rtt_floor_seconds

FIRST_ERROR_SECONDS: Final = 30.0
"""What the offset of a first batch may be wrong by: a request takes no longer."""
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class LiveMetrics:
    """The metrics of one collector process."""

    def __init__(self) -> None:
        self.probes = ProbeFamilies()
        self.info = InfoFamilies()
        self.agents = AgentFamilies()
        self.fleet = FleetFamilies()
        self.ingest = IngestFamilies()
        self.jobs = JobFamilies()
        self._feeds: dict[tuple[int, int], TargetFeed] = {}
        self._versions: dict[int, str] = {}
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)
        self._start()

    def sync(self, registry: Registry) -> None:
        """Create at 0 the series of what is assigned now, and remove those of what is not."""
        groups = list(families_of(self.probes, self.info, self.agents))
        for family in groups:
            family.begin()
        self._sync_targets(list(registry.assigned()))
        for region in registry.rows.regions:
            self.info.region.series(*_region_labels(region)).set(1)
        for agent in registry.rows.agents:
            self._sync_agent(agent)
        self._sync_config(registry)
        for family in groups:
            family.sweep()

    def count_batch(self, done: Ingested, *, agent_id: int) -> None:
        """Count a batch after its commit: a repeat counts as duplicates alone."""
        self.ingest.duplicates.series().add(done.duplicate)
        if done.repeated:
            return
        for reason, count in done.plan.reasons.items():
            self.ingest.rejected.series(reason.value).add(count)
        self.ingest.results.series().add(done.accepted)
        self.ingest.late.series().add(done.late)
        lag = self.ingest.lag.series()
        for taken in done.plan.taken:
            age, result = taken.age_seconds, taken.result
            # A result may lie a little ahead of this clock: the sum must only grow all the same.
            lag.observe(age if age > 0 else 0.0)
            if not taken.late and not result.flags:
                feed = self._feeds.get((agent_id, taken.target_id))
                if feed is not None:
                    feed.observe(result)

    def expect_refusals(self, kinds: Iterable[str]) -> None:
        """Let the series of every kind of refusal stand at 0."""
        for kind in kinds:
            self.ingest.refused.series(kind)

    def count_refusal(self, kind: str) -> None:
        """Count a request that was answered with a problem."""
        self.ingest.refused.series(kind).add()

    def report(self, agent: AgentRow, batch: Batch, *, received_at: datetime) -> None:
        """Take over what an agent says of itself."""
        labels, status = _agent_labels(agent), batch.status
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
        self.agents.last_report.series(*_agent_labels(agent)).set(last_report_at.timestamp())
        self._take_version(agent, version or "")

    def set_duplicate(self, agent: AgentRow, *, duplicate: bool) -> None:
        """Note whether two processes use the agent's credential."""
        self.agents.duplicate.series(*_agent_labels(agent)).set(1 if duplicate else 0)

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

    def render(self) -> bytes:
        """Return the whole exposition. Safe to call in a thread."""
        families = families_of(self.probes, self.info, self.agents, self.fleet, self.ingest, self.jobs)
        text = "".join(line for family in families for line in family.lines())
        return text.encode() + generate_latest(self._process)

    def _start(self) -> None:
        for family in (self.ingest.results, self.ingest.duplicates, self.ingest.late, self.ingest.db_up):
            family.series()
        self.ingest.lag.series()
        for reason in RejectReason:
            self.ingest.rejected.series(reason.value)
        self.ingest.build.series(version("isochrone"), platform.python_version()).set(1)

    def _sync_targets(self, assigned: Iterable[Assigned]) -> None:
        feeds: dict[tuple[int, int], TargetFeed] = {}
        shared: dict[tuple[int, int], TargetFeed] = {}
        for one in assigned:
            place = (one.agent.region.id, one.target.id)
            if place not in shared:
                shared[place] = TargetFeed(self.probes, one)
                self._sync_place(one.agent.region, one.endpoint)
            feeds[one.agent.id, one.target.id] = shared[place]
        self._feeds = feeds

    def _sync_place(self, region: RegionRow, endpoint: EndpointRow) -> None:
        self.info.endpoint.series(*_endpoint_labels(endpoint)).set(1)
        distance = distance_meters(region, endpoint)
        if distance is not None:
            self.info.distance.series(region.name, endpoint.name).set(distance)
            self.info.floor.series(region.name, endpoint.name).set(rtt_floor_seconds(distance))

    def _sync_config(self, registry: Registry) -> None:
        newest = registry.rows.revisions[0] if registry.rows.revisions else None
        self.info.config_revision.series().set(registry.revision)
        self.info.config_canary.series().set(1 if registry.canary is None else registry.canary.share_percent / 100)
        self.info.config_halted.series().set(newest is not None and newest.halted)

    def _sync_agent(self, agent: AgentRow) -> None:
        labels = _agent_labels(agent)
        self.info.agent.series(*labels, self._versions.get(agent.id, "")).set(1)
        for family in families_of(self.agents):
            family.keep(*labels)

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
            self.info.agent.discard(*_agent_labels(agent), before)
            self.info.agent.series(*_agent_labels(agent), version).set(1)


def distance_meters(region: RegionRow, endpoint: EndpointRow) -> float | None:
    """Return the distance on the ground; None unless both places are known."""
    if region.latitude is None or region.longitude is None or endpoint.latitude is None or endpoint.longitude is None:
        return None
    return great_circle_meters(
        region.latitude, region.longitude, latitude_b=endpoint.latitude, longitude_b=endpoint.longitude
    )


def _clock(batch: Batch, received_at: datetime) -> tuple[float, float]:
    """Return the offset of the agent's wall clock and its error; in a first batch the way here is all of the error."""
    if batch.clock is not None:
        return batch.clock.offset_seconds, batch.clock.error_seconds
    apart = (batch.sent_at - received_at).total_seconds()
    return apart, FIRST_ERROR_SECONDS


def _agent_labels(agent: AgentRow) -> tuple[str, str]:
    return agent.name, agent.region.name


def _endpoint_labels(endpoint: EndpointRow) -> tuple[str, ...]:
    words = (endpoint.name, endpoint.model, endpoint.provider, endpoint.endpoint_region)
    place = (endpoint.latitude, endpoint.longitude)
    return (*(word or "" for word in words), *map(_text, place), "true" if endpoint.simulated else "false")


def _region_labels(region: RegionRow) -> tuple[str, ...]:
    return region.name, region.country or "", *map(_text, (region.latitude, region.longitude, region.weight))


def _text(number: float | None) -> str:
    return "" if number is None else f"{number:g}"
