"""The golden payloads are the contract as bytes: what one release wrote, every later one reads to the same values."""

import json

import pytest

from isochrone import wire
from isochrone.batch import Batch
from isochrone.config import decode_agent_config, encode_config
from isochrone.outcome import Flag, Outcome
from tests.contract import examples
from tests.contract.examples import GOLDEN, golden

BATCHES = {
    "batch_rtt": examples.RTT_BATCH,
    "batch_inference": examples.INFERENCE_BATCH,
    "batch_server_timing": examples.SERVER_TIMING_BATCH,
    "batch_failure": examples.FAILURE_BATCH,
    "batch_idle": examples.IDLE_BATCH,
    "batch_newer_agent": examples.NEWER_AGENT_BATCH,
}
SAME_BOTH_WAYS = [name for name in BATCHES if name != "batch_newer_agent"]


def canonical(data: bytes) -> str:
    return json.dumps(json.loads(data), sort_keys=True, indent=1)


def test_every_golden_payload_has_its_values() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == {*BATCHES, "ack", "agent_config"}


@pytest.mark.parametrize(("name", "batch"), BATCHES.items(), ids=BATCHES)
def test_a_batch_decodes_to_exact_values(name: str, batch: Batch) -> None:
    assert wire.decode_batch(golden(name)) == wire.Decoded(batch=batch)


@pytest.mark.parametrize("name", SAME_BOTH_WAYS)
def test_a_batch_encodes_to_the_same_json(name: str) -> None:
    assert canonical(wire.encode_batch(BATCHES[name])) == canonical(golden(name))


@pytest.mark.parametrize("name", SAME_BOTH_WAYS)
def test_results_encoded_beforehand_make_the_same_bytes(name: str) -> None:
    batch = BATCHES[name]
    lines = [wire.encode_result(result) for result in batch.results]
    assert wire.encode_batch(batch, lines) == wire.encode_batch(batch)


def test_fields_of_a_newer_agent_are_ignored_at_every_depth() -> None:
    sent = json.loads(golden("batch_newer_agent"))
    kept = json.loads(wire.encode_batch(examples.NEWER_AGENT_BATCH))
    assert sent.keys() - kept.keys() == {"compression_hint"}
    assert sent["status"].keys() - kept["status"].keys() == {"disk_free_bytes"}
    (sent_result,), (kept_result,) = sent["results"], kept["results"]
    assert sent_result.keys() - kept_result.keys() == {"energy_joules"}
    assert sent_result["marks"].keys() - kept_result["marks"].keys() == {"quic"}
    assert sent_result["tokens"].keys() - kept_result["tokens"].keys() == {"audio"}


def test_an_acknowledgement_reads_and_writes_the_same() -> None:
    assert wire.decode_ack(golden("ack")) == examples.ACK
    assert canonical(wire.encode_ack(examples.ACK)) == canonical(golden("ack"))


def test_an_agents_configuration_reads_and_writes_the_same() -> None:
    assert decode_agent_config(golden("agent_config")) == examples.AGENT_CONFIG
    assert canonical(encode_config(examples.AGENT_CONFIG)) == canonical(golden("agent_config"))


def test_every_field_stands_in_full_json_and_null_means_not_measured() -> None:
    (result,) = examples.NEWER_AGENT_BATCH.results
    line = wire.full_json(result, boot_id=str(examples.BOOT_ID))
    fields = json.loads(line)
    assert list(fields) == ["boot_id", *result.__struct_fields__]
    assert list(fields["marks"]) == list(result.marks.__struct_fields__)
    assert (fields["rtt_seconds"], fields["components"], fields["marks"]["tcp"]) == (None, None, None)
    assert (fields["marks"]["request_started"], fields["flags"]) == (0.0, [])
    assert b"\n" not in line


def test_outcomes_and_flags_are_closed_sets() -> None:
    """Dashboards and stored rows hold these words: one may be added, none renamed."""
    assert {str(outcome) for outcome in Outcome} >= {
        *("ok", "dns", "connect", "tls", "auth", "rate_limited", "overloaded", "http_4xx", "http_5xx"),
        *("timeout_headers", "timeout_first_token", "timeout_stall", "timeout_total", "truncated", "stream_error"),
        *("protocol", "empty", "denied", "budget", "other"),
    }
    assert {str(flag) for flag in Flag} >= {
        *("late_start", "loop_lag", "throttled", "clock_unsynchronized", "buffered", "below_floor", "retransmits"),
    }
