"""Results as samples: each at its own time, in order, nothing that a receiver would refuse."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.receivers import Receiver, RemoteWrite
from collector.telemetry.answers import Answer, Fate
from collector.telemetry.remotewrite import METRICS, RemoteWriteDialect
from isochrone.outcome import Connection, Outcome
from tests.collecting import inference_result, rtt_result
from tests.telemetry import AGENT, NOW, NOW_NS, TARGET, fact_of, series_in

RECEIVER = Receiver(url="http://h/p")


def dialect(**settings: float) -> RemoteWriteDialect:
    return RemoteWriteDialect(RemoteWrite(receiver=RECEIVER, **settings))


def named(body: bytes | None) -> dict[str, list[tuple[dict[str, str], list[tuple[int, float]]]]]:
    assert body is not None
    found: dict[str, list[tuple[dict[str, str], list[tuple[int, float]]]]] = {}
    for labels, samples in series_in(body).items():
        fields = dict(labels)
        found.setdefault(fields.pop("__name__"), []).append((fields, samples))
    return found


def test_a_success_brings_all_its_numbers_at_its_own_time() -> None:
    found = named(dialect().encode([fact_of(age_seconds=90.0)], NOW).body)
    moment = NOW_NS // 10**6 - 90_000
    labels = {
        "agent": "agent-1", "agent_region": "eu-central", "endpoint": "near", "endpoint_region": "us-east",
        "module": "chat", "model": "model-1", "probe": "inference", "connection": "cold",
    }  # fmt: skip
    assert found["isochrone_result_ttft_seconds"] == [(labels, [(moment, 0.3)])]
    assert found["isochrone_result_success"] == [(labels, [(moment, 1.0)])]
    parts = {fields["component"]: samples[0][1] for fields, samples in found["isochrone_result_component_seconds"]}
    assert parts == pytest.approx({"network": 0.04, "model": 0.29, "streaming": 0.67})
    assert set(found) == set(METRICS)


def test_a_failure_is_a_0_without_latency() -> None:
    found = named(dialect().encode([fact_of(inference_result(outcome=Outcome.CONNECT))], NOW).body)
    assert [samples[0][1] for _, samples in found.pop("isochrone_result_success")] == [0.0]
    assert not found


def test_labels_are_sorted_none_is_empty_and_names_are_those_of_prometheus() -> None:
    bare = fact_of(rtt_result(connection=None), endpoint=None, target=msgspec.structs.replace(TARGET, model=None))
    body = dialect().encode([fact_of(), bare], NOW).body
    assert body is not None
    for labels in series_in(body):
        assert list(labels) == sorted(labels)
        assert all(value and re.fullmatch(r"[a-z_]+", name) for name, value in labels)


def test_cold_and_warm_are_two_series() -> None:
    warm = fact_of(inference_result(connection=Connection.WARM), age_seconds=5.0)
    found = named(dialect().encode([fact_of(), warm], NOW).body)["isochrone_result_ttft_seconds"]
    assert [fields["connection"] for fields, _ in found] == ["cold", "warm"]


def test_what_is_too_old_is_left_out_and_counted() -> None:
    facts = [fact_of(age_seconds=age) for age in (61.0, 60.0, 5.0)]
    encoded = dialect(max_age_seconds=60.0).encode(facts, NOW)
    assert (encoded.results, encoded.skipped["too_old"]) == (2, 1)
    nothing = dialect(max_age_seconds=60.0).encode(facts[:1], NOW)
    assert (nothing.body, nothing.results) == (None, 0)


def test_results_of_one_request_may_come_in_any_order() -> None:
    encoded = dialect().encode([fact_of(age_seconds=age) for age in (10.0, 30.0, 20.0)], NOW)
    assert (encoded.results, sum(encoded.skipped.values())) == (3, 0)


def test_what_comes_behind_the_newest_of_its_series_is_left_out_and_counted() -> None:
    writing = dialect()
    assert writing.encode([fact_of(age_seconds=20.0)], NOW).results == 1
    late = writing.encode([fact_of(age_seconds=age) for age in (30.0, 20.0, 10.0)], NOW)
    assert (late.results, late.skipped["out_of_order"]) == (1, 2)
    other = fact_of(age_seconds=30.0, agent=msgspec.structs.replace(AGENT, id=2, name="agent-2"))
    assert writing.encode([other], NOW).results == 1


def test_a_window_lets_late_ones_in_but_nothing_twice() -> None:
    writing = dialect(out_of_order_seconds=15.0)
    assert writing.encode([fact_of(age_seconds=20.0)], NOW).results == 1
    late = writing.encode([fact_of(age_seconds=age) for age in (40.0, 30.0, 20.0)], NOW)
    assert (late.results, late.skipped["out_of_order"]) == (1, 2)


@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=20), max_size=5))
def test_the_samples_of_a_series_come_in_order_over_all_requests(requests: list[list[int]]) -> None:
    writing, seen = dialect(), 0
    offered = taken = skipped = 0
    for ages in requests:
        encoded = writing.encode([fact_of(age_seconds=float(age)) for age in ages], NOW)
        offered, taken = offered + len(ages), taken + encoded.results
        skipped += sum(encoded.skipped.values())
        if encoded.body is not None:
            ((_, samples),) = named(encoded.body)["isochrone_result_success"]
            times = [moment for moment, _ in samples]
            assert times == sorted(set(times))
            assert times[0] > seen
            seen = times[-1]
    assert offered == taken + skipped


@pytest.mark.parametrize(
    ("status", "fate"),
    [
        (204, Fate.TAKEN),
        (400, Fate.REFUSED),
        (404, Fate.REFUSED),
        (429, Fate.AGAIN),
        (500, Fate.AGAIN),
        (503, Fate.AGAIN),
    ],
)
def test_a_400_is_final_and_a_500_is_not(status: int, fate: Fate) -> None:
    assert dialect().judge(Answer(status=status, headers={}, body=b""), NOW).fate is fate
