"""Which series stand: they follow the targets, live as long as something comes, and are bounded."""

import asyncio

import msgspec
import pytest

from collector.metrics.families import Bounds
from collector.metrics.feeding import EXPIRED_AT_ONCE, Limits
from isochrone.config import InferenceOptions, Targets
from isochrone.outcome import Connection, RttMethod
from tests.collecting import TARGETS, inference_result, rtt_result
from tests.exposed import Exposed, Samples, rows_of, value

pytestmark = pytest.mark.anyio

PAIR = {"agent_region": "eu-central", "endpoint": "near"}
TCP = {**PAIR, "method": "tcp"}
STREAM = {**PAIR, "model": "model-1", "connection": "cold"}
PROBES = {**PAIR, "model": "model-1", "probe": "inference"}


def named(name: str, *, modules: tuple[str, ...] = ("rtt", "chat")) -> Targets:
    """Return targets with one endpoint of this name."""
    (endpoint,) = TARGETS.endpoints
    return msgspec.structs.replace(
        TARGETS, endpoints=(msgspec.structs.replace(endpoint, name=name, modules=modules),), sites=()
    )


def about(found: Samples, word: str) -> list[str]:
    """Return the names of the probes' series that have a label of this value."""
    return sorted({name for name, labels in found if word in dict(labels).values() and "_info" not in name})


async def test_another_registry_leaves_the_counts_of_what_stays() -> None:
    exposed = Exposed()
    await exposed.know(rows_of(TARGETS))
    exposed.count(inference_result(0), rtt_result(1))
    (endpoint,) = TARGETS.endpoints
    more = msgspec.structs.replace(
        TARGETS, endpoints=(endpoint, msgspec.structs.replace(endpoint, name="another")), sites=()
    )
    before = exposed.samples()
    rows = rows_of(TARGETS)
    await exposed.know(msgspec.structs.replace(rows, revisions=rows_of(more).revisions))
    await exposed.know(rows)
    after = exposed.samples()
    assert {key: after[key] for key in before if key[0].startswith("isochrone")} == {
        key: before[key] for key in before if key[0].startswith("isochrone")
    }
    assert value(after, "ttft_seconds_count", STREAM) == 1


async def test_other_options_of_a_target_reset_nothing_and_hold_from_then_on() -> None:
    exposed = Exposed()
    await exposed.know(rows_of(TARGETS))
    exposed.count(inference_result(0))
    price = msgspec.structs.replace(TARGETS.endpoints[0].price, output_per_million=1_000_000.0)
    warm = msgspec.structs.replace(TARGETS.modules["chat"], inference=InferenceOptions(connection=Connection.WARM))
    dearer = msgspec.structs.replace(
        TARGETS,
        endpoints=(msgspec.structs.replace(TARGETS.endpoints[0], price=price, modules=("rtt", "chat")),),
        modules={**TARGETS.modules, "chat": warm},
    )
    rows = rows_of(TARGETS)
    await exposed.know(msgspec.structs.replace(rows, revisions=rows_of(dearer).revisions))
    exposed.count(inference_result(1, connection=Connection.WARM))
    found = exposed.samples()
    assert value(found, "ttft_seconds_count", STREAM) == 1, "what was cold stays"
    assert value(found, "ttft_seconds_count", {**STREAM, "connection": "warm"}) == 1
    assert value(found, "probe_cost_usd_total", {"endpoint": "near", "model": "model-1"}) == pytest.approx(32, rel=0.01)


async def test_a_target_that_was_renamed_starts_at_0_and_its_old_name_is_gone_for_good() -> None:
    exposed = Exposed()
    await exposed.know(rows_of(named("old")))
    exposed.count(inference_result(0, endpoint="old"))
    renamed = rows_of(named("new"))
    renamed = msgspec.structs.replace(
        renamed,
        endpoints=tuple(msgspec.structs.replace(one, id=one.id + 100) for one in renamed.endpoints),
        targets=tuple(msgspec.structs.replace(one, id=one.id + 100) for one in renamed.targets),
    )
    await exposed.know(renamed)
    found = exposed.samples()
    assert value(found, "probes_total", {**PROBES, "endpoint": "new"}) == 0
    assert about(found, "old") == []
    exposed.count(inference_result(1, endpoint="old"))  # what waited in a spool
    assert about(exposed.samples(), "old") == []


async def test_series_that_two_modules_or_regions_share_go_with_the_last_of_them() -> None:
    exposed = Exposed()
    await exposed.know(rows_of(named("near", modules=("chat", "warm")), regions=("eu-central", "eu-west")))
    exposed.count(inference_result(0))
    rows = rows_of(named("near", modules=("chat", "warm")), regions=("eu-central", "eu-west"))
    (endpoint,) = named("near", modules=("chat",)).endpoints
    less = msgspec.structs.replace(TARGETS, endpoints=(endpoint,), sites=())
    await exposed.know(msgspec.structs.replace(rows, revisions=rows_of(less).revisions, agents=rows.agents[:1]))
    found = exposed.samples()
    assert value(found, "probes_total", PROBES) == 1
    assert value(found, "probe_tokens_total", {"endpoint": "near", "model": "model-1", "token_type": "output"}) == 32
    assert about(found, "eu-west") == []
    assert about(found, "warm") == []
    await exposed.know(msgspec.structs.replace(rows, agents=()))
    assert about(exposed.samples(), "near") == []


async def test_a_pair_that_gets_nothing_for_the_time_series_live_loses_them_until_something_comes() -> None:
    exposed = Exposed(Limits(ttl_seconds=100))
    await exposed.know(rows_of(TARGETS, regions=("eu-central", "eu-west")))
    exposed.count(inference_result(0), rtt_result(1))
    exposed.now = 90
    exposed.count(rtt_result(2))
    exposed.now = 120
    found = exposed.samples()
    assert value(found, "ttft_seconds_count", STREAM) == 1, "one module keeps the series of the pair"
    assert about(found, "eu-west") == []
    exposed.now = 200
    floor = ["isochrone_great_circle_distance_meters", "isochrone_network_rtt_floor_seconds"]
    assert about(exposed.samples(), "near") == floor, "what is true without results stays"
    exposed.count(inference_result(3))
    found = exposed.samples()
    assert value(found, "ttft_seconds_count", STREAM) == 1, "anew from 0"
    assert value(found, "network_rtt_seconds_count", TCP) == 0, "with all modules of the pair"


async def test_late_and_spoiled_results_let_no_series_live_on() -> None:
    exposed = Exposed(Limits(ttl_seconds=100))
    await exposed.know(rows_of(TARGETS))
    exposed.now = 90
    exposed.count(inference_result(0), late=True)
    exposed.now = 110
    assert value(exposed.samples(), "probes_total", PROBES) is None


async def test_many_pairs_that_end_at_once_end_little_by_little() -> None:
    regions = [f"region-{n}" for n in range(3 * EXPIRED_AT_ONCE)]
    exposed = Exposed(Limits(ttl_seconds=100))
    await exposed.know(rows_of(named("near"), regions=regions))
    exposed.now = 101
    left = []
    for _ in range(4):
        exposed.metrics.expire()
        left.append(len(exposed.metrics.probes.probes) // 2)
    assert left == [2 * EXPIRED_AT_ONCE, EXPIRED_AT_ONCE, 0, 0]


async def test_series_are_bounded_and_what_finds_no_room_is_counted_once_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    exposed = Exposed(Limits(max_series=1_000))
    rows = rows_of(named("near"), regions=("eu-central", "eu-west", "ap-south"))
    await exposed.know(rows)
    refused = value(exposed.samples(), "refused_series_total")
    assert refused is not None
    assert refused > 0
    for _ in range(3):
        await exposed.know(rows)
        exposed.count(inference_result(0), rtt_result(1), agent_id=3)
    found = exposed.samples()
    standing = sum(1 for name, labels in found if "probe" in dict(labels) or "_bucket" in name)
    assert 0 < standing <= 1_000
    assert value(found, "series") == exposed.metrics._feeds.lines_count <= 1_000  # noqa: SLF001  the count itself
    assert value(found, "max_series") == 1_000
    assert value(found, "refused_series_total") == refused, "not for every look, nor for every result"
    assert value(found, "ingest_results_total") == 6, "stored and counted all the same"
    told = [record.message for record in caplog.records if "ISOCHRONE_MAX_SERIES" in record.message]
    assert len(told) == 1
    await exposed.know(msgspec.structs.replace(rows, agents=rows.agents[2:]))
    exposed.count(inference_result(0), agent_id=3)
    found = exposed.samples()
    assert value(found, "probes_total", {**PROBES, "agent_region": "ap-south"}) == 1, "there is room now"
    assert value(found, "refused_series_total") == refused


async def test_what_was_not_planned_finds_room_or_is_refused_too() -> None:
    for room, expected in ((1_000, 1), (96, None)):
        exposed = Exposed(Limits(max_series=room))
        await exposed.know(rows_of(named("near", modules=("rtt",))))
        pings = rtt_result(0).pings
        exposed.count(rtt_result(0, pings=msgspec.structs.replace(pings, method=RttMethod.TLS)))
        found = exposed.samples()
        assert value(found, "network_rtt_seconds_count", {**PAIR, "method": "tls"}) == expected
        assert (value(found, "refused_series_total") or 0) > 0 if expected is None else True


async def test_the_count_of_series_is_the_number_of_lines() -> None:
    exposed = Exposed(Limits(bounds=Bounds(time=(0.1, 1.0), rate=(10.0,))))
    await exposed.know(rows_of(TARGETS))
    exposed.count(inference_result(0), rtt_result(1))
    families = vars(exposed.metrics.probes).values()
    lines = [line for family in families for line in family.text().split("\n") if line and not line.startswith("#")]
    assert exposed.metrics._feeds.lines_count == len(lines)  # noqa: SLF001  the count itself
    assert value(exposed.samples(), "ttft_seconds_bucket", {**STREAM, "le": "1.0"}) == 1


async def test_a_sync_gives_way_to_others() -> None:
    exposed = Exposed()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    await exposed.know(rows_of(TARGETS, regions=[f"region-{n}" for n in range(100)]))
    task.cancel()
    assert turns >= 100 * 4 / 10
