"""What `make test-real` calls plausible: a check that lets everything pass would prove nothing."""

import json
from typing import Any

import pytest

from isochrone.wire import full_json
from tests.contract.examples import FAILURE_BATCH, INFERENCE_BATCH
from tests.real.checks import Tally, faults_of_inference


def good() -> dict[str, Any]:
    (result,) = INFERENCE_BATCH.results
    fields: dict[str, Any] = json.loads(full_json(result))
    return fields


def test_a_full_result_is_plausible() -> None:
    assert faults_of_inference(good()) == []


def test_a_failure_is_told_with_its_reason() -> None:
    failure = json.loads(full_json(FAILURE_BATCH.results[0]))
    assert faults_of_inference(failure) == [f"outcome rate_limited: {FAILURE_BATCH.results[0].reason}"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"ttft_seconds": 0.0}, "ttft_seconds"),
        ({"rtt_seconds": None}, "rtt_seconds"),
        ({"tokens_per_second": None, "flags": []}, "tokens_per_second"),
        ({"tokens": None}, "no tokens"),
        ({"marks": good()["marks"] | {"headers": 0.01}}, "marks run backwards"),
        ({"components": None}, "no components"),
        ({"duration_seconds": 1.2}, "components sum to 1.125"),
        ({"setup_seconds": 0.0}, "a cold connection with a setup of 0.0 s"),
        ({"connection": "warm"}, "a warm connection with a setup of 0.15625 s"),
    ],
)
def test_each_implausible_value_is_named(change: dict[str, Any], fault: str) -> None:
    (found,) = faults_of_inference(good() | change)
    assert found.startswith(fault)


def test_a_stream_that_came_at_once_needs_no_rate() -> None:
    assert faults_of_inference(good() | {"tokens_per_second": None, "flags": ["buffered"]}) == []


def test_one_missed_expectation_fails_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    tally.expect("it works", met=True)
    assert tally.verdict() == "PASS: 1 of 1 expectations met"
    tally.expect("it works well", met=False, detail="slow")
    assert tally.verdict() == "FAIL: 1 of 2 expectations met"
    assert capsys.readouterr().out.splitlines() == ["  ok   it works", "  FAIL it works well (slow)"]
