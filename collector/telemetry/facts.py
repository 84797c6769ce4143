"""A fact: one stored result with who measured it, what was measured, and when by the collector's clock. Pure."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import msgspec

from collector.ingest import Ingested, Taken
from collector.registry import AgentRow, EndpointRow, TargetRow
from isochrone.result import Result


class Skip(StrEnum):
    """Why stored results are not for an export; the label of the metric."""

    SPOILED = "spoiled"
    """They have a flag: left out as in `/metrics`."""
    UNKNOWN_TARGET = "unknown_target"
    """The registry lost it between plan and commit."""
    TOO_OLD = "too_old"
    OUT_OF_ORDER = "out_of_order"


class Fact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One stored result, as exports see it."""

    result: Result
    started_ns: int
    """When the probe started: Unix time by the collector's clock, as `v_result` has it."""
    agent: AgentRow
    target: TargetRow
    endpoint: EndpointRow | None
    """None: no target file names it any more."""
    boot_id: str

    @property
    def result_id(self) -> str:
        """What names the result in `v_result`: `boot_id` and `seq`."""
        return f"{self.boot_id}:{self.result.seq}"


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a batch came from, and what was known then."""

    agent: AgentRow
    boot_id: str
    came_at: datetime
    """Ages count from here."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the registry says of targets (by id) and endpoints (by name)."""

    targets: Mapping[int, TargetRow] = {}
    endpoints: Mapping[str, EndpointRow] = {}


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch brings for exports."""

    facts: tuple[Fact, ...] = ()
    skipped: Mapping[str, int] = {}
    """How many results bring none, by reason."""


def facts_of(done: Ingested, origin: Origin, known: Known) -> Facts:
    """Return the results of a batch that were really stored; of a repeat none."""
    if done.repeated:
        return Facts()
    taken = done.plan.taken
    good = [one for one in taken if not one.result.flags]
    came_ns = round(origin.came_at.timestamp() * 1e6) * 1_000

    def fact_of(one: Taken) -> Fact:
        target = known.targets[one.target_id]
        return Fact(
            result=one.result,
            started_ns=came_ns - round(one.age_seconds * 1e6) * 1_000,
            agent=origin.agent,
            target=target,
            endpoint=known.endpoints.get(target.endpoint),
            boot_id=origin.boot_id,
        )

    facts = tuple(fact_of(one) for one in good if one.target_id in known.targets)
    skipped = {Skip.SPOILED.value: len(taken) - len(good), Skip.UNKNOWN_TARGET.value: len(good) - len(facts)}
    return Facts(facts=facts, skipped=skipped)
