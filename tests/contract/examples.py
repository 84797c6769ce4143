"""The values that the golden payloads stand for, written out in Python."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from isochrone.batch import Ack, AgentStatus, Batch, ClockReading, DropReason, Rejected
from isochrone.config import (
    AgentConfig,
    ApiKey,
    Assignment,
    Budget,
    Duration,
    InferenceOptions,
    Module,
    Provider,
    RttOptions,
    TokenPrice,
)
from isochrone.marks import Components, Marks
from isochrone.outcome import (
    ClockSource,
    Connection,
    Flag,
    Outcome,
    Prober,
    RttMethod,
    RttSource,
    TokenSource,
)
from isochrone.result import Pings, Result, ServerTiming, Tokens

GOLDEN: Final = Path(__file__).parent / "golden"
NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
BOOT_ID: Final = UUID("0196a7c2-0000-7000-8000-00000000000a")
SENT_AT: Final = NOON + timedelta(seconds=10.25)


def golden(name: str) -> bytes:
    """Return the golden payload `name` (without its suffix)."""
    return (GOLDEN / f"{name}.json").read_bytes()


def _batch_id(number: int) -> UUID:
    return UUID(f"0196a7c2-1111-7000-8000-{number:012x}")


RTT_BATCH: Final = Batch(
    version=1,
    batch_id=_batch_id(1),
    boot_id=BOOT_ID,
    sent_at=SENT_AT,
    sent_boottime_seconds=86410.25,
    status=AgentStatus(
        version="0.1.0",
        queued_results=12,
        expected_results=40,
        missed_probes=2,
        dropped_results={
            DropReason.FULL: 3,
            DropReason.AGE: 1,
            DropReason.CORRUPT: 0,
            DropReason.REJECTED: 0,
            DropReason.IO: 0,
        },
        config_revision=7,
    ),
    results=(
        Result(
            seq=0,
            endpoint="openai-us",
            module="rtt",
            prober=Prober.RTT,
            started_at=NOON + timedelta(seconds=0.125),
            started_boottime_seconds=86400.125,
            outcome=Outcome.OK,
            address="203.0.113.7",
            ip_version=4,
            connection=Connection.COLD,
            clock_source=ClockSource.KERNEL,
            duration_seconds=0.8125,
            rtt_seconds=0.0625,
            rtt_source=RttSource.HANDSHAKE,
            pings=Pings(
                method=RttMethod.TCP,
                sent=5,
                lost=1,
                min_seconds=0.0615,
                median_seconds=0.0625,
                mean_seconds=0.063,
                max_seconds=0.0655,
                jitter_seconds=0.00125,
            ),
            flags=(Flag.RETRANSMITS,),
            start_delay_seconds=0.002,
        ),
    ),
)

INFERENCE_BATCH: Final = Batch(
    version=1,
    batch_id=_batch_id(2),
    boot_id=BOOT_ID,
    sent_at=SENT_AT,
    sent_boottime_seconds=86410.25,
    status=AgentStatus(version="0.1.0"),
    results=(
        Result(
            seq=1,
            endpoint="openai-us",
            module="chat",
            prober=Prober.INFERENCE,
            started_at=NOON + timedelta(seconds=1),
            started_boottime_seconds=86401.0,
            outcome=Outcome.OK,
            http_status=200,
            address="2001:db8::7",
            ip_version=6,
            connection=Connection.COLD,
            clock_source=ClockSource.KERNEL,
            marks=Marks(
                dns=0.0125,
                tcp=0.075,
                tls=0.15,
                request_started=0.15625,
                request_sent=0.1565,
                headers=0.375,
                first_event=0.375,
                first_token=0.46875,
                first_answer=0.53125,
                last_token=1.09375,
                end=1.125,
            ),
            duration_seconds=1.125,
            setup_seconds=0.15625,
            rtt_seconds=0.0625,
            rtt_source=RttSource.TCP_INFO_MIN,
            rtt_variation_seconds=0.001,
            ttft_seconds=0.3125,
            ttft_bound_seconds=0.00025,
            answer_ttft_seconds=0.375,
            tpot_seconds=0.02,
            tokens_per_second=50.0,
            stall_seconds=0.0375,
            components=Components(network_seconds=0.21875, model_seconds=0.25, streaming_seconds=0.65625),
            tokens=Tokens(source=TokenSource.USAGE, output=32, input=24, cached_input=0, reasoning=4, arrivals=31),
            flags=(
                Flag.LATE_START,
                Flag.LOOP_LAG,
                Flag.THROTTLED,
                Flag.CLOCK_UNSYNCHRONIZED,
                Flag.BUFFERED,
                Flag.BELOW_FLOOR,
            ),
            start_delay_seconds=1.5,
        ),
    ),
)

SERVER_TIMING_BATCH: Final = Batch(
    version=1,
    batch_id=_batch_id(5),
    boot_id=BOOT_ID,
    sent_at=SENT_AT,
    status=AgentStatus(version="0.1.0"),
    results=(
        Result(
            seq=5,
            endpoint="groq-us",
            module="chat",
            prober=Prober.INFERENCE,
            started_at=NOON + timedelta(seconds=5),
            started_boottime_seconds=86405.0,
            outcome=Outcome.OK,
            server_timing=ServerTiming(
                source="groq usage",
                first_token_seconds=0.0625,
                total_seconds=0.25,
                queue_seconds=0.015625,
                trusted=True,
            ),
            served_region="edge:FRA",
        ),
        Result(
            seq=6,
            endpoint="local",
            module="chat",
            prober=Prober.INFERENCE,
            started_at=NOON + timedelta(seconds=6),
            started_boottime_seconds=86406.0,
            outcome=Outcome.OK,
            server_timing=ServerTiming(source="openai-processing-ms", first_token_seconds=0.0, trusted=False),
        ),
    ),
)

FAILURE_BATCH: Final = Batch(
    version=1,
    batch_id=_batch_id(3),
    boot_id=BOOT_ID,
    sent_at=SENT_AT,
    status=AgentStatus(version="0.1.0"),
    results=(
        Result(
            seq=2,
            endpoint="openai-us",
            module="chat",
            prober=Prober.INFERENCE,
            started_at=NOON + timedelta(seconds=2),
            started_boottime_seconds=86402.0,
            outcome=Outcome.RATE_LIMITED,
            reason="429 Too Many Requests: quota exceeded, retry after 20 s",
            http_status=429,
            address="203.0.113.7",
            ip_version=4,
            connection=Connection.WARM,
            marks=Marks(request_started=0.0, request_sent=0.000125, headers=0.0625, end=0.0625),
            setup_seconds=0.0,
        ),
        Result(
            seq=3,
            endpoint="aws/eu-central-1",
            module="rtt",
            prober=Prober.RTT,
            started_at=NOON + timedelta(seconds=3),
            started_boottime_seconds=86403.0,
            outcome=Outcome.DNS,
            reason="no address for dynamodb.invalid",
        ),
    ),
)

NEWER_AGENT_BATCH: Final = Batch(
    version=1,
    batch_id=_batch_id(4),
    boot_id=BOOT_ID,
    sent_at=SENT_AT,
    status=AgentStatus(version="2.7.0"),
    results=(
        Result(
            seq=4,
            endpoint="openai-us",
            module="chat",
            prober=Prober.INFERENCE,
            started_at=NOON + timedelta(seconds=4),
            started_boottime_seconds=86404.0,
            outcome=Outcome.OK,
            marks=Marks(request_started=0.0, first_token=0.25, end=0.5),
            tokens=Tokens(source=TokenSource.ARRIVALS, output=9),
        ),
    ),
)

IDLE_BATCH: Final = Batch(
    version=1,
    batch_id=_batch_id(6),
    boot_id=BOOT_ID,
    sent_at=SENT_AT,
    sent_boottime_seconds=86410.25,
    clock=ClockReading(offset_seconds=-2.5, error_seconds=0.0215, round_trip_seconds=0.04, samples=30),
    status=AgentStatus(
        version="0.2.0",
        queued_results=3,
        boot_id=BOOT_ID,
        recorded_results=120,
        oldest_queued_seconds=12.5,
    ),
    results=(),
)

ACK: Final = Ack(
    batch_id=_batch_id(2),
    accepted=498,
    duplicate=1,
    late=2,
    rejected=(
        Rejected(seq=17, reason="Invalid enum value 'odd' - at `$.results[3].outcome`", index=3),
        Rejected(seq=None, reason="Object missing required field `seq` - at `$.results[9]`", index=9),
    ),
    t1=1772366410.5,
    t2=1772366410.53125,
    config_etag='"0a1b2c"',
    next_flush_seconds=10.0,
    backlog_interval_seconds=2.0,
)

AGENT_CONFIG: Final = AgentConfig(
    revision=7,
    agent="fra-1",
    agent_region="eu-central",
    targets=(
        Assignment(
            endpoint="openai-us",
            module="chat",
            url="https://api.openai.com/v1",
            options=Module(
                prober=Prober.INFERENCE,
                interval=Duration(60),
                timeout=Duration(45),
                inference=InferenceOptions(
                    connection=Connection.WARM,
                    max_output_tokens=16,
                    first_token_timeout=Duration(20),
                    stall_timeout=Duration(1.5),
                ),
            ),
            provider=Provider.OPENAI,
            model="org/Model-7B:free",
            api_key=ApiKey(env="OPENAI_API_KEY"),
            price=TokenPrice(input_per_million=0.25, output_per_million=2.0),
            budget=Budget(tokens_per_day=200_000, usd_per_day=1.5),
        ),
        Assignment(
            endpoint="aws-eu-central-1",
            module="rtt",
            url="https://dynamodb.eu-central-1.amazonaws.com/ping",
            options=Module(
                prober=Prober.RTT,
                interval=Duration(30),
                timeout=Duration(5),
                rtt=RttOptions(method=RttMethod.HTTP, count=3, spacing=Duration(0.05)),
            ),
        ),
    ),
)
