"""A fleet in memory with its live metrics, for tests without a collector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from collector.ingest import Ingested, Plan, Taken
from collector.metrics import LiveMetrics
from collector.metrics.feeding import Limits
from collector.metrics.live import Source
from collector.registry import AgentRow, EndpointRow, RegionRow, Registry, RevisionRow, Rows, TargetRow
from isochrone.config import Targets, encode_config
from isochrone.result import Result

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BOOT_ID = UUID("0196a7c2-0000-7000-8000-00000000000a")

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def rows_of(targets: Targets, *, regions: Sequence[str] = ("eu-central",), agents_each: int = 1) -> Rows:
    """Return what the database would say after `targets` were applied, with so many agents in each region."""
    places = {region.name: region for region in targets.regions}
    made = tuple(
        RegionRow(id=n, name=name, **({} if name not in places else _place(places[name])))
        for n, name in enumerate(regions, start=1)
    )
    agents = tuple(
        AgentRow(id=n, name=f"agent-{n}", region=made[(n - 1) % len(made)], labels={}, created_at=NOON)
        for n in range(1, agents_each * len(made) + 1)
    )
    items = (*targets.endpoints, *targets.sites)
    ids = {(item.name, module) for item in items for module in item.modules}
    return Rows(
        agents=agents,
        regions=made,
        endpoints=tuple(
            EndpointRow(
                id=n,
                name=item.name,
                url=item.url,
                provider=getattr(item, "provider", None),
                model=getattr(item, "model", None),
                endpoint_region=None if item.location is None else item.location.region,
                latitude=None if item.location is None else item.location.latitude,
                longitude=None if item.location is None else item.location.longitude,
                simulated=getattr(item, "simulated", False),
            )
            for n, item in enumerate(items, start=1)
        ),
        targets=tuple(
            TargetRow(
                id=n,
                endpoint=name,
                module=module,
                model=getattr(next(item for item in items if item.name == name), "model", None),
                connection=None,
                created_at=NOON,
            )
            for n, (name, module) in enumerate(sorted(ids), start=1)
        ),
        revisions=(RevisionRow(revision=1, document=encode_config(targets).decode(), applied_at=NOON),),
    )


def _place(region: msgspec.Struct) -> dict[str, object]:
    return {name: getattr(region, name) for name in ("latitude", "longitude", "country", "weight")}


@dataclass
class Exposed:
    """Live metrics, and a clock that a test turns."""

    limits: Limits = field(default_factory=Limits)
    now: float = 0.0
    registry: Registry | None = None
    metrics: LiveMetrics = field(init=False)

    def __post_init__(self) -> None:
        """Make the metrics."""
        self.metrics = LiveMetrics(self.limits, monotonic=lambda: self.now)

    async def know(self, rows: Rows) -> None:
        """Let a registry of these rows be known."""
        self.registry = Registry(rows)
        await self.metrics.sync(self.registry)

    def count(self, *results: Result, agent_id: int = 1, late: bool = False) -> None:
        """Count results as a batch that was stored."""
        assert self.registry is not None
        ids = {(target.endpoint, target.module): target.id for target in self.registry.rows.targets}
        taken = [Taken(one, ids.get((one.endpoint, one.module), 0), 1.0, late) for one in results]
        plan = Plan(rows=[], taken=taken, rejected=(), reasons={}, days=set())
        done = Ingested(plan=plan, accepted=len(taken), duplicate=0, late=0, rejected=())
        self.metrics.count_batch(done, Source(self.registry.agents[agent_id], BOOT_ID, NOON))

    def samples(self) -> Samples:
        """Scrape and parse."""
        self.metrics.expire()
        return samples_of(self.metrics.render().decode())


def samples_of(text: str) -> Samples:
    """Return every sample of a text exposition."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, labels: Mapping[str, str] | None = None) -> float | None:
    """Return the value of a metric by its name without prefix; None: there is none."""
    return found.get((f"isochrone_{name}", frozenset((labels or {}).items())))
