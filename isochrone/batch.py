"""What agent and collector say to each other: batches one way, acknowledgements the other."""

from enum import StrEnum
from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec

from isochrone.names import Count, Name, Seconds, Text
from isochrone.result import AwareTime, Result

MEDIA_TYPE: Final = "application/vnd.isochrone.batch+json"
WIRE_VERSION: Final = 1
MAX_RESULTS: Final = 2_000
"""Results in one batch."""
MAX_BODY_BYTES: Final = 512 * 1024
"""A batch as sent."""
MAX_INFLATED_BYTES: Final = 4 * 1024 * 1024
"""A batch inflated: bounds what a gzip bomb can take."""
MAX_RESULT_BYTES: Final = 8 * 1024

Total = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
UnixSeconds = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
"""Seconds since 1970 UTC."""


class DropReason(StrEnum):
    """Why an agent lost a result that it had recorded."""

    FULL = "full"
    AGE = "age"
    CORRUPT = "corrupt"
    REJECTED = "rejected"
    IO = "io"


class ClockReading(msgspec.Struct, frozen=True, kw_only=True):
    """How far the agent's wall clock is from the collector's, from the times in earlier acknowledgements."""

    offset_seconds: Annotated[float, msgspec.Meta(ge=-1e11, le=1e11)]
    """The agent's clock less the collector's, at the sending."""
    error_seconds: Seconds
    """`offset_seconds` is wrong by this much at most, however unequal the two ways are."""
    round_trip_seconds: Annotated[float, msgspec.Meta(ge=0, le=60)]
    """Round trip of the exchange that tells it, without the collector's own time."""
    samples: Annotated[int, msgspec.Meta(ge=1, le=1_000)]
    """Exchanges that were compared."""


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The agent's word on itself. Totals count since the start of its process, so that a repeat does no harm."""

    version: Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[0-9A-Za-z.+-]*\Z")]
    queued_results: Count = 0
    """Results in the spool that wait for an acknowledgement."""
    expected_results: Total = 0
    """Probes that the schedule called for, the missed ones included."""
    missed_probes: Total = 0
    """Probes that did not start because the agent was busy, stopped or asleep."""
    dropped_results: dict[DropReason, Total] = {}
    config_revision: Count | None = None
    boot_id: UUID | None = None
    """The run that says so: a batch may hold the results of an earlier one. None: an agent of an earlier release."""
    recorded_results: Total | None = None
    """Results that this run gave a number to, so that the last one's loss is seen too."""
    oldest_queued_seconds: Seconds | None = None
    """Age of the oldest result that waits; None when none does."""


class Batch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Results that an agent sealed together. `results` never change under one `batch_id`; the rest may."""

    version: Literal[1]
    batch_id: UUID
    boot_id: UUID
    """One run of the agent's process (UUIDv7)."""
    sent_at: AwareTime
    """The agent's wall clock."""
    sent_boottime_seconds: Annotated[float, msgspec.Meta(ge=0, le=1e10)] | None = None
    """CLOCK_BOOTTIME at the sending; None if the machine was started anew since the results were recorded."""
    clock: ClockReading | None = None
    """None before the first acknowledgement of this run."""
    status: AgentStatus
    agent: Name | None = None
    """Not needed: the credential says who sends. A name that is not the sender's refuses the batch."""
    results: Annotated[tuple[Result, ...], msgspec.Meta(max_length=MAX_RESULTS)]


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A batch whose results are not decoded yet. `isochrone.wire` keeps it equal to `Batch`."""

    version: Literal[1]
    batch_id: UUID
    boot_id: UUID
    sent_at: AwareTime
    sent_boottime_seconds: Annotated[float, msgspec.Meta(ge=0, le=1e10)] | None = None
    clock: ClockReading | None = None
    status: AgentStatus
    agent: Name | None = None
    results: Annotated[tuple[msgspec.Raw, ...], msgspec.Meta(max_length=MAX_RESULTS)]


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """One result that the collector will never take."""

    seq: int | None
    """None when even that could not be read: then `index` names it."""
    reason: Text
    index: Count
    """Place in the batch, from 0."""


class Ack(msgspec.Struct, frozen=True, kw_only=True):
    """The collector's word that the batch is committed. Nothing else is an acknowledgement."""

    batch_id: UUID
    accepted: Count
    duplicate: Count
    late: Count
    rejected: tuple[Rejected, ...]
    t1: UnixSeconds
    """Collector's clock when the request came."""
    t2: UnixSeconds
    """Collector's clock when this answer left."""
    config_etag: str | None = None
    """The agent's current configuration: if it differs from the agent's, fetch."""
    next_flush_seconds: float
    """How long to gather results before the next batch. Any number: a hint out of bounds spoils no acknowledgement."""
    backlog_interval_seconds: float | None = None
    """Between two batches of what waited longer; None: as the agent likes."""
