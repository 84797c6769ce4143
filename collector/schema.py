"""The tables, as SQLAlchemy Core; `migrations/` builds them, and a test holds the two equal.

Why they look so: results are narrow (dictionary ids, float4 seconds, int2 codes, nothing twice) and have no key, for a
key costs as much as the row; a batch is refused whole by its row in the ledger `batch`. float4 holds seven digits.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, INET, JSONB, REAL

from isochrone.marks import MARKS
from isochrone.outcome import ClockSource, Connection, Flag, Outcome, Prober, RttMethod, RttSource, TokenSource

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

# A code is the place in its tuple, from 1. They stand in stored rows: append, never reorder.
OUTCOMES: Final = tuple(Outcome)
PROBERS: Final = tuple(Prober)
CONNECTIONS: Final = tuple(Connection)
RTT_METHODS: Final = tuple(RttMethod)
RTT_SOURCES: Final = tuple(RttSource)
CLOCK_SOURCES: Final = tuple(ClockSource)
TOKEN_SOURCES: Final = tuple(TokenSource)
FLAGS: Final = tuple(Flag)
"""Flag number n is bit n of `result.flags`, from 0."""

_NOW = func.now()


def _time(name: str, *, nullable: bool = False, now: bool = False) -> "Column[object]":
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=_NOW if now else None)


agent_region = Table(
    "agent_region",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("latitude", Double),
    Column("longitude", Double),
    Column("country", Text),
    Column("weight", Double),
)

agent = Table(
    "agent",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("agent_region_id", Integer, ForeignKey("agent_region.id"), nullable=False),
    Column("labels", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    _time("created_at", now=True),
    _time("last_report_at", nullable=True),
    Column("version", Text),
    _time("revoked_at", nullable=True),
    Column("revoke_reason", Text),
    _time("removed_at", nullable=True),  # its name was freed; its results stay
    _time("rotate_asked_at", nullable=True),
    _time("clone_seen_at", nullable=True),
)

credential = Table(
    "credential",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("agent_id", Integer, ForeignKey("agent.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("secret_sha256", Text, nullable=False),
    _time("created_at", now=True),
    _time("revoked_at", nullable=True),
    Column("join_token_id", Text),  # the one that it was enrolled with; NULL: by an operator, or by rotation
    Column("replaces", Text),  # the key id that asked for it; NULL: it replaces none
    _time("first_used_at", nullable=True),  # told for those that replace another
    _time("retires_at", nullable=True),  # from then on it counts as unknown
)

join_token = Table(
    "join_token",
    metadata,
    Column("id", Text, primary_key=True),
    Column("secret_sha256", Text, nullable=False),
    Column("uses_left", Integer, nullable=False),
    Column("agent_region", Text, nullable=False),
    Column("agent_name", Text),
    Column("labels", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("cidr", Text),
    _time("created_at", now=True),
    _time("expires_at"),
    _time("revoked_at", nullable=True),
)

access_token = Table(
    "access_token",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("scope", Text, nullable=False),
    Column("secret_sha256", Text, nullable=False),
    _time("created_at", now=True),
    _time("revoked_at", nullable=True),
)

endpoint = Table(
    "endpoint",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("url", Text, nullable=False),
    Column("provider", Text),
    Column("model", Text),
    Column("endpoint_region", Text),
    Column("latitude", Double),
    Column("longitude", Double),
    Column("simulated", Boolean, nullable=False, server_default=text("false")),
)

module = Table(
    "module",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

target = Table(
    "target",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("endpoint_id", Integer, ForeignKey("endpoint.id"), nullable=False),
    Column("module_id", Integer, ForeignKey("module.id"), nullable=False),
    # What was measured stays what it was when the endpoint gets another model. '' for a site.
    Column("model", Text, nullable=False, server_default=text("''")),
    Column("connection", SmallInteger),  # planned: a probe that failed early has none of its own
    _time("created_at", now=True),
    UniqueConstraint("endpoint_id", "module_id", "model"),
)

config_revision = Table(
    "config_revision",
    metadata,
    Column("revision", Integer, Identity(always=True), primary_key=True),
    Column("etag", Text, nullable=False),
    Column("document", Text, nullable=False),  # canonical JSON of isochrone.config.Targets
    _time("applied_at", now=True),
    # Content never changes; how far it goes does: 100 is everybody, less is a canary.
    Column("share_percent", SmallInteger, nullable=False, server_default=text("100")),
    _time("halted_at", nullable=True),
    Column("halt_reason", Text),
)

agent_config = Table(
    "agent_config",
    metadata,
    Column("agent_id", Integer, ForeignKey("agent.id", ondelete="CASCADE"), primary_key=True),
    Column("given", Integer, nullable=False),  # what the collector answered with
    Column("running", Integer),
    Column("probation", Boolean, nullable=False),
    Column("received", Integer),
    Column("failed", Integer),
    Column("reason", Text),
    _time("reported_at"),
)

batch = Table(
    "batch",
    metadata,
    Column("agent_id", Integer, ForeignKey("agent.id", ondelete="CASCADE"), primary_key=True),
    Column("batch_id", Uuid, primary_key=True),
    Column("boot_id", Uuid, nullable=False),
    _time("received_at"),
    Column("accepted", Integer, nullable=False),
    Column("late", Integer, nullable=False),
    Column("rejected", JSONB),  # what the first answer refused, so that a repeat is answered alike; NULL for none
    Index("ix_batch_received_at", "received_at", postgresql_using="brin"),
)

agent_run = Table(
    "agent_run",  # the books of one run of an agent's process
    metadata,
    Column("agent_id", Integer, ForeignKey("agent.id", ondelete="CASCADE"), primary_key=True),
    Column("boot_id", Uuid, primary_key=True),
    _time("last_received_at"),
    Column("recorded", BigInteger, nullable=False),  # numbers given, as far as they are known here
    Column("received", BigInteger, nullable=False),  # results stored
    Column("dropped", BigInteger, nullable=False),  # losses that the run told, of whichever run's results
    Column("dropped_by_reason", JSONB, nullable=False),
)

agent_report = Table(
    "agent_report",  # an agent's last word on itself
    metadata,
    Column("agent_id", Integer, ForeignKey("agent.id", ondelete="CASCADE"), primary_key=True),
    _time("received_at"),
    Column("boot_id", Uuid, nullable=False),
    Column("version", Text, nullable=False),
    Column("config_revision", Integer),
    Column("flush_seconds", Double, nullable=False),  # how often it was told to report
    Column("queued_results", Integer, nullable=False),  # after this batch
    Column("oldest_queued_seconds", Double),
    Column("expected_results", BigInteger, nullable=False),
    Column("missed_probes", BigInteger, nullable=False),
    Column("clock_offset_seconds", Double),
    Column("clock_error_seconds", Double),
    Column("unaccounted", BigInteger),  # recorded, less received, told as lost, and waiting; NULL: it does not tell
    _time("unaccounted_since", nullable=True),  # since when that is more than 0
)

clock_mark = Table(
    "clock_mark",  # the clock as a job that drops things saw it last
    metadata,
    Column("job", Text, primary_key=True),
    _time("believed_at"),
    _time("looked_at"),
    Column("doubted_seconds", Double, nullable=False),  # how long it has run in doubt; 0: it is believed
)


run = Table(
    "run",  # results name the run of an agent's process by four bytes instead of sixteen
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("agent_id", Integer, nullable=False),
    Column("boot_id", Uuid, nullable=False),
    UniqueConstraint("agent_id", "boot_id"),
)


def _seconds(*names: str) -> list["Column[object]"]:
    return [Column(name, REAL) for name in names]


def _counts(*names: str) -> list["Column[object]"]:
    return [Column(name, Integer) for name in names]


def _codes(*names: str) -> list["Column[object]"]:
    return [Column(name, SmallInteger) for name in names]


result = Table(
    "result",
    metadata,
    _time("started_at"),  # by the collector's clock: received less the age by the agent's CLOCK_BOOTTIME
    _time("started_at_agent", nullable=True),  # the agent's wall clock, where it is too wrong for the column below
    _time("received_at"),
    Column("started_boottime_seconds", Double, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("boot_id", Uuid),  # of rows from before `run`
    Column("batch_id", Uuid, nullable=False),
    Column("agent_id", Integer, nullable=False),
    Column("agent_region_id", Integer, nullable=False),
    Column("target_id", Integer, nullable=False),
    Column("prober", SmallInteger, nullable=False),
    Column("outcome", SmallInteger, nullable=False),
    Column("clock_source", SmallInteger, nullable=False),
    Column("flags", SmallInteger, nullable=False),
    *_codes("connection", "rtt_source", "ip_version", "http_status"),
    *_seconds("duration_seconds", "setup_seconds", "rtt_seconds", "ttft_seconds", "answer_ttft_seconds"),
    *_seconds("tpot_seconds", "tokens_per_second", "stall_seconds", "start_delay_seconds"),
    *_seconds(*(f"marks_{name}" for name in MARKS)),
    *_seconds("network_seconds", "model_seconds", "streaming_seconds"),
    *_codes("pings_method"),
    *_counts("pings_sent", "pings_lost"),
    *_seconds("pings_min_seconds", "pings_median_seconds", "pings_mean_seconds", "pings_max_seconds"),
    *_seconds("pings_jitter_seconds"),
    *_codes("tokens_source"),
    *_counts("tokens_output", "tokens_input", "tokens_cached_input", "tokens_reasoning", "tokens_arrivals"),
    Column("reason", Text),
    Column("address", Text),
    Column("server_timing_source", Text),
    *_seconds("server_timing_first_token_seconds", "server_timing_total_seconds", "server_timing_queue_seconds"),
    Column("server_timing_trusted", Boolean),
    Column("served_region", Text),
    *_seconds("ttft_bound_seconds", "rtt_variation_seconds"),
    # Together 72 columns at most: the bitmap of more takes another 8 bytes of every row.
    Column("run_id", Integer),
    Column("agent_clock_microseconds", Integer),  # what the agent's wall clock said of the start, less `started_at`
    Column("same", SmallInteger),  # bit n: column n of SAME is NULL because another gives it
    Column("ip", INET),  # `address`, where it is IPv4: half as long
    Index("ix_result_started_at", "started_at", postgresql_using="brin"),
    Index("ix_result_received_at", "received_at", postgresql_using="brin"),
    postgresql_partition_by="RANGE (started_at)",
)

SAME: Final = (
    "marks_request_started",  # setup
    "marks_first_token",  # setup + TTFT
    "marks_first_answer",  # setup + answer TTFT
    "marks_end",  # duration
    "pings_median_seconds",  # round trip
    "marks_first_event",  # headers
    "marks_first_event",  # first token
    "tokens_arrivals",  # output tokens
    "tokens_cached_input",  # 0
    "tokens_reasoning",  # 0
    "ttft_bound_seconds",  # 0
)
"""Columns that are left empty where what stands beside them says the same. Number n is bit n of `result.same`, from 0:
append only."""

RESULT_COLUMNS: Final = tuple(column.name for column in result.columns)

SIGNALS: Final = {
    "rtt": "rtt_seconds",
    "ttft": "ttft_seconds",
    "answer_ttft": "answer_ttft_seconds",
    "tpot": "tpot_seconds",
    "tokens_per_second": "tokens_per_second",
    "duration": "duration_seconds",
    "setup": "setup_seconds",
    "network": "network_seconds",
    "model": "model_seconds",
    "streaming": "streaming_seconds",
    "stall": "stall_seconds",
}
"""What rollups keep of results: a signal's name, and the column of `result` that it comes from."""

dirty_minute = Table(
    "dirty_minute",  # minutes that got results since they were rolled up; no key, so that nobody waits for anybody
    metadata,
    Column("agent_id", Integer, nullable=False),
    Column("agent_region_id", Integer, nullable=False),
    _time("minute"),
    _time("marked_at", now=True),
)

dirty_hour = Table(
    "dirty_hour",  # hours of which a minute changed since they were rolled up
    metadata,
    Column("hour", DateTime(timezone=True), primary_key=True),
    Column("agent_region_id", Integer, primary_key=True),
    _time("marked_at"),
)

rollup_horizon = Table(
    "rollup_horizon",  # since when a level (raw, minute, hour) is whole
    metadata,
    Column("level", Text, primary_key=True),
    _time("since", nullable=True),  # what is older was dropped; NULL: nothing was
)


def _signal(name: str) -> list["Column[object]"]:
    """Return the columns of a signal. One value alone stands in `_min` and all others are NULL; none: all are."""
    return [
        Column(f"{name}_count", Integer),
        Column(f"{name}_sum", Double),
        Column(f"{name}_min", REAL),
        Column(f"{name}_max", REAL),
        Column(f"{name}_buckets", ARRAY(SmallInteger)),  # collector.stats.sketch
        Column(f"{name}_counts", ARRAY(Integer)),
    ]


def _rollup(level: str) -> Table:
    return Table(
        f"rollup_{level}",
        metadata,
        Column("bucket", DateTime(timezone=True), primary_key=True),
        Column("agent_region_id", Integer, primary_key=True),
        Column("target_id", Integer, primary_key=True),
        Column("connection", SmallInteger, primary_key=True),  # 0: none was reached
        Column("prober", SmallInteger, nullable=False),
        *(Column(name, Integer, nullable=False) for name in ("probes", "failures", "spoiled")),
        *(Column(name, BigInteger) for name in ("pings_sent", "pings_lost")),
        *(column for name in SIGNALS for column in _signal(name)),
        postgresql_partition_by="RANGE (bucket)",
    )


rollup_minute = _rollup("minute")  # daily partitions
rollup_hour = _rollup("hour")  # monthly partitions
