"""What /metrics says: valid text, series from 0, fresh results counted once, late and spoiled ones not."""

import asyncio
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from uuid import UUID

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as text_string_to_openmetrics

from collector.config import Settings
from collector.ingest import RejectReason
from isochrone.batch import AgentStatus, DropReason
from isochrone.config import Targets
from isochrone.marks import Marks
from isochrone.outcome import Connection, Flag, Outcome
from isochrone.physics import great_circle_meters, rtt_floor_seconds
from tests.collecting import TARGETS, Collector, batch_of, boottime, inference_result, rtt_result, running_collector
from tests.exposed import Samples, samples_of, value
from tests.programs import need

pytestmark = pytest.mark.anyio

PAIR = {"agent_region": "eu-central", "endpoint": "near"}
STREAM = {**PAIR, "model": "model-1", "connection": "cold"}


async def samples(collector: Collector) -> Samples:
    """Scrape and parse."""
    return samples_of((await collector.fetch("/metrics")).text)


async def test_promtool_finds_nothing_to_say(database_url: str) -> None:
    need("promtool", package="prometheus")
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(0), rtt_result(1)]))
        text = (await collector.fetch("/metrics")).content
    command = ["promtool", "check", "metrics"]
    checked = await asyncio.to_thread(subprocess.run, command, input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


async def test_series_start_at_0_when_a_target_is_assigned(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        found = await samples(collector)
    assert value(found, "ttft_seconds_count", STREAM) == 0
    assert value(found, "ttft_seconds_count", {**STREAM, "connection": "warm"}) == 0
    assert value(found, "network_rtt_seconds_count", {**PAIR, "method": "tcp"}) == 0
    assert value(found, "network_pings_lost_total", {**PAIR, "method": "tcp"}) == 0
    probe = {**PAIR, "model": "model-1", "probe": "inference"}
    assert value(found, "probes_total", probe) == 0
    for outcome in Outcome:
        expected = None if outcome is Outcome.OK else 0
        assert value(found, "probe_failures_total", {**probe, "reason": outcome}) == expected
    for reason in RejectReason:
        assert value(found, "ingest_rejected_results_total", {"reason": reason}) == 0


async def test_a_success_feeds_every_metric_of_its_kind(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(0), rtt_result(1)]))
        found = await samples(collector)
    assert value(found, "ttft_seconds_sum", STREAM) == 0.3
    assert value(found, "answer_ttft_seconds_count", STREAM) == 1
    assert value(found, "request_duration_seconds_sum", STREAM) == 1.0
    assert value(found, "time_per_output_token_seconds_sum", {**PAIR, "model": "model-1"}) == 0.02
    assert value(found, "output_tokens_per_second_sum", {**PAIR, "model": "model-1"}) == 50
    parts = [
        value(found, "latency_component_seconds_sum", {**STREAM, "component": c})
        for c in ("network", "model", "streaming")
    ]
    assert sum(part or 0.0 for part in parts) == pytest.approx(1.0)
    assert value(found, "connection_phase_seconds_count", {**PAIR, "phase": "tls"}) == 1
    assert value(found, "network_rtt_seconds_sum", {**PAIR, "method": "tcp"}) == 0.1
    assert value(found, "network_pings_total", {**PAIR, "method": "tcp"}) == 5
    assert value(found, "network_pings_lost_total", {**PAIR, "method": "tcp"}) == 1
    spent = {"endpoint": "near", "model": "model-1"}
    assert value(found, "probe_tokens_total", {**spent, "token_type": "output"}) == 32
    assert value(found, "probe_cost_usd_total", spent) == pytest.approx((20 * 1.0 + 32 * 2.0) / 1e6)
    assert value(found, "ingest_results_total") == 2


async def test_the_bucket_bounds_hold_a_value_within_the_promised_ratio(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(0)]))
        found = await samples(collector)
    bounds = sorted(
        (float(dict(labels)["le"]), count)
        for (name, labels), count in found.items()
        if name == "isochrone_ttft_seconds_bucket" and dict(labels)["connection"] == "cold"
    )
    above = [bound for bound, count in bounds if count == 1]
    below = [bound for bound, count in bounds if count == 0]
    assert below[-1] < 0.3 <= above[0]
    assert above[0] / below[-1] == pytest.approx(1.25, rel=0.01)


@pytest.mark.parametrize("outcome", [Outcome.DNS, Outcome.TIMEOUT_TOTAL])
async def test_a_failure_counts_as_such_and_has_no_latency(database_url: str, outcome: Outcome) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(0, outcome=outcome, reason="it failed")]))
        found = await samples(collector)
    probe = {**PAIR, "model": "model-1", "probe": "inference"}
    assert value(found, "probes_total", probe) == 1
    assert value(found, "probe_failures_total", {**probe, "reason": outcome}) == 1
    assert value(found, "ttft_seconds_count", STREAM) == 0


async def test_late_spoiled_repeated_and_refused_results_are_not_in_the_histograms(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        late = inference_result(0, started_boottime_seconds=boottime() - 301)
        spoiled = inference_result(1, flags=(Flag.LOOP_LAG,))
        fresh = batch_of([inference_result(2)])
        await collector.send(batch_of([late, spoiled, inference_result(3, module="unknown")]))
        await collector.send(fresh)
        await collector.send(fresh)
        found = await samples(collector)
    assert value(found, "ttft_seconds_count", STREAM) == 1
    assert value(found, "ingest_results_total") == 3
    assert value(found, "ingest_late_results_total") == 1
    assert value(found, "ingest_duplicate_results_total") == 1
    assert value(found, "ingest_rejected_results_total", {"reason": "unknown_target"}) == 1


async def test_the_connection_is_labelled_by_what_happened(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(0, module="chat", connection=Connection.WARM)]))
        found = await samples(collector)
    assert value(found, "ttft_seconds_count", {**STREAM, "connection": "warm"}) == 1
    assert value(found, "ttft_seconds_count", STREAM) == 0


async def test_places_and_agents_are_described(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        status = AgentStatus(
            version="9.9",
            queued_results=7,
            expected_results=100,
            missed_probes=4,
            dropped_results={DropReason.FULL: 2, DropReason.AGE: 3},
        )
        await collector.send(batch_of([], status=status))
        found = await samples(collector)
    distance = great_circle_meters(50.1, 8.7, latitude_b=38.95, longitude_b=-77.45)
    assert value(found, "great_circle_distance_meters", PAIR) == pytest.approx(distance)
    assert value(found, "network_rtt_floor_seconds", PAIR) == pytest.approx(rtt_floor_seconds(distance))
    agent = {"agent": "agent-1", "agent_region": "eu-central"}
    assert value(found, "agent_info", {**agent, "version": "9.9"}) == 1
    assert value(found, "agent_queued_results", agent) == 7
    assert value(found, "agent_dropped_results_total", agent) == 5
    assert value(found, "agent_expected_results_total", agent) == 100
    assert value(found, "agent_missed_probes_total", agent) == 4
    assert abs(value(found, "agent_clock_offset_seconds", agent) or 0.0) < 30
    region = {"agent_region": "eu-central", "country": "DE", "latitude": "50.1", "longitude": "8.7", "weight": "0.3"}
    assert value(found, "agent_region_info", region) == 1


async def test_series_go_when_their_target_goes_and_the_others_keep_their_counts(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(0), rtt_result(1)]))
        (endpoint,) = TARGETS.endpoints
        less = msgspec.structs.replace(
            TARGETS, endpoints=(msgspec.structs.replace(endpoint, modules=("chat",)),), sites=()
        )
        await _apply(collector, less)
        found = await samples(collector)
        late = await collector.send(batch_of([rtt_result(2)]))
    assert value(found, "ttft_seconds_count", STREAM) == 1
    assert value(found, "network_rtt_seconds_count", {**PAIR, "method": "tcp"}) is None
    assert not [name for name, labels in found if ("endpoint", "site-1") in labels]
    # What waited in a spool when its target was taken away is kept.
    assert late.json()["accepted"] == 1


async def test_hostile_words_leave_the_exposition_valid(database_url: str) -> None:
    # Of all labels a model may hold the most: it is as its provider writes it.
    evil = '"}1#\\n\\{le="\\'
    (endpoint,) = TARGETS.endpoints
    hostile = msgspec.structs.replace(TARGETS, endpoints=(msgspec.structs.replace(endpoint, model=evil),))
    async with running_collector(database_url, targets=hostile) as collector:
        assert (await collector.send(batch_of([inference_result(0)]))).status_code == 200
        found = await samples(collector)
    assert value(found, "ttft_seconds_count", {**STREAM, "model": evil}) == 1
    assert {dict(labels)["model"] for _, labels in found if "model" in dict(labels)} == {evil, ""}


async def _apply(collector: Collector, targets: Targets) -> None:
    from collector.rollout import Rollout, apply_document  # noqa: PLC0415  beside its only use
    from collector.store.engine import run  # noqa: PLC0415  as above

    await run(collector.context.engine, apply_document, targets, Rollout(confirmed=True))
    await collector.context.registry.newer_than(0)


async def test_sums_only_grow_whatever_a_result_claims(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(0)]))
        before = await samples(collector)
        now = boottime()
        early = inference_result(1, started_boottime_seconds=now + 500)
        shuffled = inference_result(2, marks=Marks(dns=1000.0, tcp=0.0, tls=0.0))
        answer = await collector.send(batch_of([early, shuffled], sent_boottime_seconds=now))
        assert answer.json()["accepted"] == 2
        after = await samples(collector)
    sums = [name for name in before if name[0].endswith(("_sum", "_count", "_total", "_bucket"))]
    assert [name for name in sums if after[name] < before[name]] == []
    assert value(after, "ingest_lag_seconds_count") == 3


OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}


async def test_openmetrics_is_answered_to_who_asks_with_the_results_that_values_come_from(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        batch = batch_of([inference_result(41), rtt_result(42)])
        await collector.send(batch)
        text = await samples(collector)
        answer = await collector.client.get("/metrics", headers=OPENMETRICS)
        (stored,) = collector.rows("SELECT extract(epoch FROM started_at) FROM v_result WHERE seq = 41")
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert answer.headers["vary"] == "Accept, Accept-Encoding"
    families = list(text_string_to_openmetrics(answer.text))
    read = [sample for family in families for sample in family.samples]
    ours = {(s.name, frozenset(s.labels.items())) for s in read if "endpoint" in s.labels}
    assert ours == {key for key in text if "endpoint" in dict(key[1])}, "the same series in both formats"
    exemplars = {
        (sample.name, sample.exemplar.labels["seq"]): sample.exemplar for sample in read if sample.exemplar is not None
    }
    assert set(exemplars) == {
        *((f"isochrone_{name}_bucket", "41") for name in ("ttft_seconds", "answer_ttft_seconds")),
        *((f"isochrone_{name}_bucket", "41") for name in ("request_duration_seconds", "output_tokens_per_second")),
        ("isochrone_time_per_output_token_seconds_bucket", "41"),
        ("isochrone_network_rtt_seconds_bucket", "42"),
    }
    ttft = exemplars["isochrone_ttft_seconds_bucket", "41"]
    assert (ttft.value, ttft.labels["boot_id"]) == (0.3, str(batch.boot_id))
    assert float(ttft.timestamp) == pytest.approx(float(str(stored[0])), abs=0.01)


async def test_gzip_is_sent_to_who_takes_it_and_holds_the_same(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        plain = await collector.client.get("/metrics", headers={"Accept-Encoding": "identity"})
        zipped = await collector.client.get("/metrics", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert zipped.headers["content-encoding"] == "gzip"
    assert int(zipped.headers["content-length"]) < len(plain.content) / 8
    ours = [[line for line in answer.text.split("\n") if "endpoint=" in line] for answer in (plain, zipped)]
    assert ours[0] == ours[1] != []


async def test_a_restart_gives_no_rate_that_was_not_there(database_url: str) -> None:
    """The sum of increases as Prometheus counts them, over two processes, is what was sent."""
    scrapes: list[Samples] = []
    for sent in (3, 2):
        async with running_collector(database_url) as collector:
            scrapes.append(await samples(collector))
            for seq in range(sent):
                status = AgentStatus(version="1", dropped_results={DropReason.FULL: 500}, expected_results=1_000)
                await collector.send(batch_of([inference_result(seq)], status=status, boot_id=UUID(int=sent)))
                scrapes.append(await samples(collector))
    probe = {**PAIR, "model": "model-1", "probe": "inference"}
    grown = {key: increase([scrape.get(key) for scrape in scrapes]) for key in scrapes[-1]}
    assert value(grown, "probes_total", probe) == 5
    assert value(grown, "ttft_seconds_count", STREAM) == 5
    assert value(grown, "ttft_seconds_sum", STREAM) == pytest.approx(5 * 0.3)
    assert value(grown, "ingest_results_total") == 5
    agent = {"agent": "agent-1", "agent_region": "eu-central"}
    assert value(grown, "agent_dropped_results_total", agent) == 0, "no loss happened meanwhile"
    assert value(grown, "agent_expected_results_total", agent) == 0
    assert all(
        value(grown, "probe_failures_total", {**probe, "reason": o}) == 0 for o in Outcome if o is not Outcome.OK
    )


def increase(values: Sequence[float | None]) -> float:
    """Return what a counter grew by, as Prometheus counts: a fall is a start from 0, an absence is skipped over."""
    seen = [one for one in values if one is not None]
    return sum(after - before if after >= before else after for before, after in pairwise(seen))


async def test_the_settings_of_series_hold(database_url: str) -> None:
    settings = Settings(database_url=database_url, max_series=80, time_bounds=(0.2, 1.0), rate_bounds=(60.0,))
    async with running_collector(database_url, settings=settings) as collector:
        await collector.send(batch_of([inference_result(0), rtt_result(1)]))
        found = await samples(collector)
    assert value(found, "series") is not None
    assert 0 < (value(found, "series") or 0) <= value(found, "max_series") == 80
    assert (value(found, "refused_series_total") or 0) > 0
    assert value(found, "ingest_results_total") == 2
    bounds = {dict(labels)["le"] for name, labels in found if name.endswith("rtt_seconds_bucket")}
    assert bounds == {"0.2", "1.0", "+Inf"}


async def test_a_pair_that_is_silent_for_long_loses_its_series_and_finds_them_again(database_url: str) -> None:
    settings = Settings(database_url=database_url, series_ttl=timedelta(minutes=1))
    async with running_collector(database_url, settings=settings) as collector:
        await collector.send(batch_of([inference_result(0)]))
        feeds = collector.context.metrics._feeds  # noqa: SLF001  its clock
        now = feeds._monotonic  # noqa: SLF001  as above
        feeds._monotonic = lambda: now() + 61  # noqa: SLF001  as above
        gone = await samples(collector)
        await collector.send(batch_of([inference_result(1)]))
        back = await samples(collector)
    assert value(gone, "ttft_seconds_count", STREAM) is None
    assert value(back, "ttft_seconds_count", STREAM) == 1


async def test_refused_requests_are_counted_by_reason(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        before = await samples(collector)
        await collector.post(b"{}", token="wrong")
        await collector.post(b"no json")
        after = await samples(collector)
    assert value(before, "refused_requests_total", {"reason": "unauthorized"}) == 0
    assert value(after, "refused_requests_total", {"reason": "unauthorized"}) == 1
    assert value(after, "refused_requests_total", {"reason": "invalid"}) == 1
