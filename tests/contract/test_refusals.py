"""What the contract refuses: the one result that holds a bad value, by path; the batch, when its frame is bad."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from isochrone import wire
from isochrone.batch import MAX_RESULTS
from isochrone.config import decode_agent_config, decode_targets
from isochrone.marks import Marks
from isochrone.result import Result
from tests.contract.examples import FAILURE_BATCH, INFERENCE_BATCH, golden

RESULT = "$.results[1]"
DEEP = b"[" * 100_000 + b"]" * 100_000


def two_results_the_second_with(field: bytes) -> bytes:
    """Return a batch whose first result is good and whose second has `field` in front (the last of two names wins)."""
    first, second = FAILURE_BATCH.results
    name = json.loads(b"{" + field + b"}") if _is_json(field) else {}
    kept = {key: value for key, value in json.loads(wire.encode_result(second)).items() if key not in name}
    line = json.dumps(kept).encode().replace(b"{", b"{" + field + b",", 1)
    return wire.encode_batch(FAILURE_BATCH, [wire.encode_result(first)]).replace(b"]}", b"," + line + b"]}")


def _is_json(field: bytes) -> bool:
    try:
        json.loads(b"{" + field + b"}")
    except (ValueError, RecursionError):
        return False
    return True


ONE_RESULT = {
    "unknown outcome": (b'"outcome": "flux"', ".outcome"),
    "unknown prober": (b'"prober": "icmp"', ".prober"),
    "unknown flag": (b'"flags": ["haunted"]', ".flags[0]"),
    "infinity by exponent": (b'"rtt_seconds": 1e999', ".rtt_seconds"),
    "infinity in a mark": (b'"marks": {"end": 1e999}', ".marks.end"),
    "infinite rate": (b'"tokens_per_second": 1e999', ".tokens_per_second"),
    "negative duration": (b'"ttft_seconds": -0.001', ".ttft_seconds"),
    "negative mark": (b'"marks": {"dns": -1e-9}', ".marks.dns"),
    "negative component": (
        b'"components": {"network_seconds": -1, "model_seconds": 1, "streaming_seconds": 1}',
        ".components.network_seconds",
    ),
    "negative ping": (b'"pings": {"method": "tcp", "sent": 1, "lost": 0, "min_seconds": -1}', ".pings.min_seconds"),
    "negative server time": (
        b'"server_timing": {"source": "x", "first_token_seconds": -1, "trusted": true}',
        ".server_timing.first_token_seconds",
    ),
    "server time without a verdict": (b'"server_timing": {"source": "x"}', ".server_timing"),
    "NUL in a region": (rb'"served_region": "a\u0000b"', ".served_region"),
    "duration of a month": (b'"duration_seconds": 2600000', ".duration_seconds"),
    "duration as text": (b'"rtt_seconds": "0.1"', ".rtt_seconds"),
    "NUL in a reason": (rb'"reason": "a\u0000b"', ".reason"),
    "escape sequence in a reason": (rb'"reason": "\u001b[31mred"', ".reason"),
    "reason of 201 characters": (b'"reason": "' + b"x" * 201 + b'"', ".reason"),
    "NUL in a name": (rb'"endpoint": "a\u0000b"', ".endpoint"),
    "upper case in a name": (b'"endpoint": "OpenAI"', ".endpoint"),
    "empty name": (b'"endpoint": ""', ".endpoint"),
    "name of 65 characters": (b'"module": "' + b"m" * 65 + b'"', ".module"),
    "line end after a name": (rb'"module": "chat\n"', ".module"),
    "name that starts with a dot": (b'"endpoint": "../up"', ".endpoint"),
    "name instead of an address": (b'"address": "example.com"', ".address"),
    "IP version 5": (b'"ip_version": 5', ".ip_version"),
    "status 99": (b'"http_status": 99', ".http_status"),
    "number of 5000 digits": (b'"http_status": ' + b"2" * 5000, ".http_status"),
    "more tokens than a column holds": (b'"tokens": {"source": "usage", "output": 2147483648}', ".tokens.output"),
    "time without an offset": (b'"started_at": "2026-03-01T12:00:00"', ".started_at"),
    "bytes that are no UTF-8": (b'"reason": "\xff"', ""),
    "surrogate as UTF-8": (b'"reason": "\xed\xa0\x80"', ""),
}


@pytest.mark.parametrize(("field", "path"), ONE_RESULT.values(), ids=ONE_RESULT)
def test_a_bad_value_refuses_its_own_result_and_names_the_path(field: bytes, path: str) -> None:
    decoded = wire.decode_batch(two_results_the_second_with(field))
    assert decoded.batch.results == FAILURE_BATCH.results[:1]
    (rejected,) = decoded.rejected
    assert (rejected.seq, rejected.index) == (3, 1)
    assert f"`{RESULT}{path}`" in rejected.reason


@pytest.mark.parametrize(
    ("change", "seq", "path"),
    [
        (lambda result: result.pop("seq"), None, RESULT),
        (lambda result: result.update(seq=-1), -1, f"{RESULT}.seq"),
        (lambda result: result.update(seq=2**63), 2**63, f"{RESULT}.seq"),
        (lambda result: result.update(seq="3"), None, f"{RESULT}.seq"),
        (lambda result: result.pop("endpoint"), 3, RESULT),
    ],
    ids=["no seq", "negative seq", "seq beyond 64 bits", "seq as text", "no endpoint"],
)
def test_a_result_without_a_good_name_is_told_by_its_place(
    change: Callable[[dict[str, Any]], object], seq: int | None, path: str
) -> None:
    document = json.loads(wire.encode_batch(FAILURE_BATCH))
    change(document["results"][1])
    (rejected,) = wire.decode_batch(json.dumps(document).encode()).rejected
    assert (rejected.seq, rejected.index) == (seq, 1)
    assert f"`{path}`" in rejected.reason


@pytest.mark.parametrize(
    "field",
    [
        b'"news": NaN',
        b'"rtt_seconds": NaN',
        b'"rtt_seconds": Infinity',
        b'"rtt_seconds": -Infinity',
        rb'"reason": "\ud800"',
        rb'"reason": "\udc00 low"',
    ],
)
def test_bytes_that_are_no_json_refuse_the_batch_and_name_the_byte(field: bytes) -> None:
    with pytest.raises(wire.WireError, match=r"malformed: .* \(byte \d+\)"):
        wire.decode_batch(two_results_the_second_with(field))


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"version": 2}, "$.version"),
        ({"version": "1"}, "$.version"),
        ({"batch_id": "7"}, "$.batch_id"),
        ({"boot_id": None}, "$.boot_id"),
        ({"sent_at": "2026-03-01T12:00:00"}, "$.sent_at"),
        ({"sent_boottime_seconds": -1}, "$.sent_boottime_seconds"),
        ({"status": {}}, "$.status"),
        ({"status": {"version": "0.1.0\n"}}, "$.status.version"),
        ({"status": {"version": "0.1.0", "queued_results": -1}}, "$.status.queued_results"),
        ({"status": {"version": "0.1.0", "dropped_results": {"mislaid": 1}}}, "`key` in `$.status.dropped_results`"),
        ({"results": {}}, "$.results"),
        ({"results": [{}] * (MAX_RESULTS + 1)}, "$.results"),
    ],
)
def test_a_bad_envelope_refuses_the_batch_and_names_the_path(changes: dict[str, object], path: str) -> None:
    document = json.loads(golden("batch_rtt")) | changes
    with pytest.raises(wire.WireError) as refused:
        wire.decode_batch(json.dumps(document).encode())
    assert path in str(refused.value)


@pytest.mark.parametrize("missing", ["version", "batch_id", "boot_id", "sent_at", "status", "results"])
def test_an_envelope_without_a_field_names_the_field(missing: str) -> None:
    document = json.loads(golden("batch_rtt"))
    del document[missing]
    with pytest.raises(wire.WireError, match=f"`{missing}`"):
        wire.decode_batch(json.dumps(document).encode())


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{}", b"\xff\xfe", b"<html>", DEEP, b'{"version": 1', b"\x00"])
@pytest.mark.parametrize("decode", [wire.decode_batch, wire.decode_ack, wire.decode_result])
def test_what_is_no_message_is_told_as_such(decode: Callable[[bytes], object], data: bytes) -> None:
    with pytest.raises(wire.WireError):
        decode(data)


@pytest.mark.parametrize("decode", [wire.decode_batch, wire.decode_ack, wire.decode_result])
def test_an_unknown_field_nested_without_end_is_an_error_of_the_message(decode: Callable[[bytes], object]) -> None:
    with pytest.raises(wire.WireError, match="recursion"):
        decode(b'{"news": ' + DEEP + b"}")


@pytest.mark.parametrize("decode", [decode_agent_config, decode_targets])
def test_a_configuration_nested_without_end_is_a_value_error(decode: Callable[[bytes], object]) -> None:
    with pytest.raises(ValueError, match=r"recursion|unknown field"):
        decode(b'{"news": ' + DEEP + b"}")


def test_as_many_results_as_allowed_are_taken() -> None:
    (result,) = INFERENCE_BATCH.results
    data = wire.encode_batch(INFERENCE_BATCH, [wire.encode_result(result)] * MAX_RESULTS)
    assert len(wire.decode_batch(data).batch.results) == MAX_RESULTS


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1e-12, 1e6 + 1])
def test_values_made_in_python_are_checked_as_decoded_ones_are(value: float) -> None:
    first = FAILURE_BATCH.results[0]
    fields = {name: getattr(first, name) for name in first.__struct_fields__}
    with pytest.raises(ValueError, match="rtt_seconds"):
        Result(**fields | {"rtt_seconds": value})
    with pytest.raises(ValueError, match=r"marks\.tls"):
        Marks(dns=0.25, tls=value)


@pytest.mark.parametrize("name", ["", "Upper", "a b", "-x", "é", "x\n", "n" * 65])
def test_names_made_in_python_are_checked(name: str) -> None:
    first = FAILURE_BATCH.results[0]
    fields = {key: getattr(first, key) for key in first.__struct_fields__}
    with pytest.raises(ValueError, match=r"endpoint: .* is not a name"):
        Result(**fields | {"endpoint": name})
