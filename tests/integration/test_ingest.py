"""Batches through a real server into a real Postgres: stored once, bad results named, nothing else lost."""

import asyncio
import gzip
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from psycopg import sql

from collector import admin
from isochrone.marks import Marks
from isochrone.outcome import Flag, Outcome
from isochrone.result import ServerTiming
from isochrone.wire import encode_batch
from tests.collecting import AGENT, TARGETS, batch_of, boottime, inference_result, rtt_result, running_collector

pytestmark = pytest.mark.anyio


async def test_a_batch_is_stored_and_acknowledged(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        batch = batch_of([inference_result(0), rtt_result(1)])
        answer = await collector.send(batch)
        assert answer.status_code == 200, answer.text
        ack = answer.json()
        assert ack["batch_id"] == str(batch.batch_id)
        assert (ack["accepted"], ack["duplicate"], ack["late"], ack["rejected"]) == (2, 0, 0, [])
        assert ack["t1"] <= ack["t2"]
        assert ack["next_flush_seconds"] == 10.0
        stored = collector.rows("SELECT agent, boot_id, seq, outcome FROM v_result ORDER BY seq")
        assert stored == [(AGENT, UUID(int=1), 0, "ok"), (AGENT, UUID(int=1), 1, "ok")]


async def test_a_repeated_batch_stores_nothing_and_is_all_duplicate(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        batch = batch_of([inference_result(0), rtt_result(1), rtt_result(2, endpoint="unknown")])
        first, second = (await collector.send(batch)).json(), (await collector.send(batch)).json()
        assert (first["accepted"], first["duplicate"]) == (2, 0)
        assert (second["accepted"], second["duplicate"]) == (0, 2)
        assert second["rejected"] == first["rejected"] != []
        assert len(collector.rows()) == 2


async def test_the_same_batch_ten_times_at_once_is_stored_once(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        batch = batch_of([inference_result(n) for n in range(50)])
        answers = await asyncio.gather(*(collector.send(batch) for _ in range(10)))
        accepted = [answer.json()["accepted"] for answer in answers]
        assert sorted(accepted) == [0] * 9 + [50]
        assert len(collector.rows()) == 50


async def test_a_bad_result_among_good_ones_is_named_and_the_rest_is_kept(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        body = json.loads(encode_batch(batch_of([inference_result(n) for n in range(3)])))
        body["results"][1]["ttft_seconds"] = -1
        ack = (await collector.post(json.dumps(body).encode())).json()
        assert ack["accepted"] == 2
        (rejected,) = ack["rejected"]
        assert (rejected["seq"], rejected["index"]) == (1, 1)
        assert "$.results[1].ttft_seconds" in rejected["reason"]
        assert collector.rows("SELECT seq FROM result ORDER BY seq") == [(0,), (2,)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("outcome", "abducted"),
        ("seq", 10**30),
        ("seq", -1),
        ("endpoint", "UPPER"),
        ("reason", "a\u0000b"),
        ("started_at", "now"),
    ],
)
async def test_a_result_that_breaks_the_contract_is_rejected_alone(
    database_url: str, field: str, value: object
) -> None:
    async with running_collector(database_url) as collector:
        body = json.loads(encode_batch(batch_of([inference_result(0), inference_result(1)])))
        body["results"][0][field] = value
        answer = await collector.post(json.dumps(body).encode())
        assert answer.status_code == 200, answer.text
        assert answer.json()["accepted"] == 1
        assert [one["index"] for one in answer.json()["rejected"]] == [0]


async def test_a_target_that_the_agent_does_not_have_is_rejected(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        results = [inference_result(0), inference_result(1, endpoint="site-1"), rtt_result(2, module="ping")]
        ack = (await collector.send(batch_of(results))).json()
        assert [(one["seq"], one["index"], one["reason"]) for one in ack["rejected"]] == [
            (1, 1, "unknown_target"),
            (2, 2, "unknown_target"),
        ]
        assert ack["accepted"] == 1


async def test_results_from_too_far_away_in_time_are_rejected_by_their_boottime_age(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        now = boottime() + 30 * 86_400
        ages = {0: 7 * 86_400 + 60.0, 1: -660.0, 2: 0.0, 3: -500.0, 4: 6.9 * 86_400}
        results = [inference_result(seq, started_boottime_seconds=now - age) for seq, age in ages.items()]
        ack = (await collector.send(batch_of(results, sent_boottime_seconds=now))).json()
        assert {one["seq"]: one["reason"] for one in ack["rejected"]} == {0: "too_old", 1: "future"}
        assert (ack["accepted"], ack["late"]) == (3, 1)


async def test_the_start_is_told_by_the_boottime_age_whatever_the_wall_clock_says(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        wrong = datetime(1970, 1, 2, tzinfo=UTC)
        now = boottime() + 1_000
        result = inference_result(0, started_at=wrong, started_boottime_seconds=now - 100)
        await collector.send(batch_of([result], sent_boottime_seconds=now))
        ((started_at, by_agent, received_at),) = collector.rows(
            "SELECT started_at, started_at_agent, received_at FROM v_result"
        )
        assert by_agent == wrong
        assert timedelta(seconds=100) <= received_at - started_at < timedelta(seconds=110)


async def test_without_a_boottime_at_sending_the_wall_clock_is_believed(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        then = datetime.now(UTC) - timedelta(hours=2)
        await collector.send(batch_of([inference_result(0, started_at=then)], sent_boottime_seconds=None))
        ((started_at, late),) = collector.rows("SELECT started_at, (SELECT late FROM batch) FROM v_result")
        assert abs(started_at - then) < timedelta(milliseconds=1)
        assert late == 1


async def test_every_field_of_a_result_is_read_back_as_it_was_sent(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        sent = [
            inference_result(0, flags=(Flag.LOOP_LAG, Flag.RETRANSMITS), start_delay_seconds=0.25),
            rtt_result(1),
            inference_result(
                2,
                outcome=Outcome.TIMEOUT_STALL,
                reason="silent for 10 s: “…”",
                components=None,
                tokens=None,
                marks=Marks(tcp=0.5),
            ),
        ]
        await collector.send(batch_of(sent))
        answer = await collector.client.get("/v1/results", params={"limit": 10})
        stored = {row["seq"]: row for row in answer.json()["results"]}
        for result in sent:
            wire = json.loads(msgspec.json.encode(_all_fields(result)))
            row = stored[result.seq]
            assert row["agent"] == AGENT
            assert row["model"] == "model-1"
            for name, value in wire.items():
                if name not in {"started_at", "config_revision"}:  # the latter says which target it was, and is that
                    assert _rounded(row[name]) == _rounded(value), name


async def test_a_day_that_has_no_partition_gets_one(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        now = boottime() + 30 * 86_400
        results = [inference_result(n, started_boottime_seconds=now - n * 86_400) for n in range(7)]
        assert (await collector.send(batch_of(results, sent_boottime_seconds=now))).json()["accepted"] == 7
        # The server knows these partitions now, and somebody drops them.
        with psycopg.connect(collector.database_url) as connection:
            days = connection.execute(
                "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'result'::regclass"
            )
            for (name,) in days.fetchall():
                connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
        assert (await collector.send(batch_of([inference_result(9)]))).json()["accepted"] == 1


async def test_an_empty_batch_reports_the_agent_alone(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        ack = (await collector.send(batch_of([]))).json()
        assert (ack["accepted"], ack["duplicate"]) == (0, 0)
        assert (
            'isochrone_agent_queued_results{agent="agent-1",agent_region="eu-central"} 3'
            in (await collector.fetch("/metrics")).text
        )


async def test_extreme_times_that_the_contract_allows_are_no_fault(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        for stamp in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00"):
            body = json.loads(encode_batch(batch_of([inference_result(0)], batch_id=uuid4())))
            body["results"][0]["started_at"] = body["sent_at"] = stamp
            assert (await collector.post(json.dumps(body).encode())).status_code == 200
            body["batch_id"] = str(uuid4())
            del body["sent_boottime_seconds"]
            answer = await collector.post(gzip.compress(json.dumps(body).encode()), {"Content-Encoding": "gzip"})
            assert answer.json()["rejected"][0]["reason"] in {"too_old", "future"}


@pytest.mark.parametrize(
    "stamp",
    ["0001-01-01T00:00:00+14:00", "1970-01-01T00:59:59+01:00", "2200-01-01T00:00:00Z", "9999-12-31T23:59:59.9-14:00"],
)
async def test_a_start_that_no_clock_says_is_rejected_and_readers_go_on(database_url: str, stamp: str) -> None:
    async with running_collector(database_url) as collector:
        body = json.loads(encode_batch(batch_of([inference_result(n) for n in range(3)])))
        body["results"][1]["started_at"] = stamp
        body["results"][2]["started_at"] = "2199-12-31T23:59:59Z"
        ack = (await collector.post(json.dumps(body).encode())).json()
        assert [(one["seq"], one["reason"]) for one in ack["rejected"]] == [(1, "started_at_out_of_range")]
        answer = await collector.client.get("/v1/results")
        assert answer.status_code == 200, answer.text
        assert [row["seq"] for row in answer.json()["results"]] == [2, 0]


async def test_a_result_is_filed_under_the_target_that_was_measured(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        (endpoint,) = TARGETS.endpoints
        newer = msgspec.structs.replace(endpoint, model="model-2")
        admin.apply_targets(database_url, msgspec.structs.replace(TARGETS, endpoints=(newer,)))
        await collector.context.registry.newer_than(0)
        revisions = (1, 2, None, 99)
        results = [inference_result(seq, config_revision=revision) for seq, revision in enumerate(revisions)]
        assert (await collector.send(batch_of(results))).json()["accepted"] == 4
        models = collector.rows("SELECT seq, model FROM v_result ORDER BY seq")
        assert models == [(0, "model-1"), (1, "model-2"), (2, "model-2"), (3, "model-2")]


async def test_a_result_of_another_prober_than_its_modules_is_rejected(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        results = [inference_result(0, module="rtt"), rtt_result(1, module="chat"), inference_result(2)]
        ack = (await collector.send(batch_of(results))).json()
        assert [(one["seq"], one["reason"]) for one in ack["rejected"]] == [(0, "wrong_prober"), (1, "wrong_prober")]
        assert ack["accepted"] == 1


async def test_rows_that_the_database_refuses_are_rejected_and_the_others_kept(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await asyncio.to_thread(_execute, database_url, _REFUSE_SOME)
        results = [inference_result(seq) for seq in range(100)]
        results[50] = inference_result(50, endpoint="unknown")
        batch = batch_of(results)
        first, second = (await collector.send(batch)).json(), (await collector.send(batch)).json()
        reasons = {one["seq"]: one["reason"] for one in first["rejected"]}
        assert reasons == {50: "unknown_target", **dict.fromkeys((13, 14, 99), "unstorable")}
        assert all(one["seq"] == one["index"] for one in first["rejected"])
        assert (first["accepted"], second["duplicate"], second["rejected"]) == (96, 96, first["rejected"])
        stored = {seq for (seq,) in collector.rows("SELECT seq FROM result")}
        assert stored == set(range(100)) - {13, 14, 50, 99}
        metrics = (await collector.fetch("/metrics")).text
        assert 'isochrone_ingest_rejected_results_total{reason="unstorable"} 3\n' in metrics
        assert "isochrone_ingest_results_total 96\n" in metrics


async def test_a_database_that_refuses_the_ledgers_row_is_at_fault(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        statements = _REFUSE_SOME.replace(b"ON result", b"ON batch").replace(b"NEW.seq", b"13")
        await asyncio.to_thread(_execute, database_url, statements)
        assert (await collector.send(batch_of([inference_result(0)]))).status_code == 503


async def test_targets_of_another_release_do_not_stop_ingest(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        collector.rows(
            "INSERT INTO config_revision (etag, document)"
            """ SELECT 'x', replace(document, '"modules":{', '"from_the_future":1,"modules":{') FROM config_revision"""
            " RETURNING revision"
        )
        before = await collector.fetch("/v1/agent/config")
        await collector.context.registry.newer_than(0)
        assert (await collector.send(batch_of([inference_result(0)]))).json()["accepted"] == 1
        assert (await collector.fetch("/v1/agent/config")).content == before.content
        assert (await collector.fetch("/v1/endpoints")).status_code == 200


_REFUSE_SOME = b"""
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq IN (13, 14, 99) THEN RAISE 'not this one' USING ERRCODE = '22003'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON result FOR EACH ROW EXECUTE FUNCTION refuse();
"""


def _execute(database_url: str, statements: bytes) -> None:
    """Run statements; in a thread, for they wait for transactions of the collector in this event loop."""
    with psycopg.connect(database_url) as connection:
        connection.execute(statements)


def _all_fields(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        return {name: _all_fields(getattr(value, name)) for name in value.__struct_fields__}
    return value


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return {name: _rounded(v) for name, v in value.items()} if isinstance(value, dict) else value


async def test_the_servers_own_word_is_stored_and_read_as_it_was_sent(database_url: str) -> None:
    timing = ServerTiming(source="vllm metrics", first_token_seconds=0.25, queue_seconds=0.0, trusted=True)
    async with running_collector(database_url) as collector:
        told = inference_result(0, server_timing=timing, served_region="eu-west")
        await collector.send(batch_of([told, inference_result(1)]))
        answer = await collector.fetch("/v1/results")
    second, first = answer.json()["results"]
    assert first["server_timing"] == {
        "source": "vllm metrics",
        "first_token_seconds": 0.25,
        "total_seconds": None,
        "queue_seconds": 0.0,
        "trusted": True,
    }
    assert (first["served_region"], first["tokens_per_second"]) == ("eu-west", 50.0)
    assert (second["server_timing"], second["served_region"]) == (None, None)
