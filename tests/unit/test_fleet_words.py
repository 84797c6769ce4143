"""What `agents list` says in a cell."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from collector.fleet import AgentState, FleetRow, Share, View, row_of
from collector.fleettable import agent_cells
from collector.metrics import LiveMetrics
from collector.metrics.feeding import Limits
from collector.store.fleet import AgentFacts

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
VIEW = View(now=NOW, late_seconds=300.0, flush_seconds=10.0)
NEVER = AgentFacts(
    id=1,
    agent="a",
    agent_region="eu",
    labels={},
    created_at=NOW,
    last_report_at=None,
    version=None,
    credentials=1,
    revoked=False,
    revoked_at=None,
    revoke_reason=None,
    clone_seen_at=None,
    config_revision=None,
    received_revision=None,
    failed_revision=None,
    failed_reason=None,
    flush_seconds=None,
    queued_results=None,
    oldest_queued_seconds=None,
    expected_results=None,
    missed_probes=None,
    clock_offset_seconds=None,
    clock_error_seconds=None,
    unaccounted=None,
    unaccounted_since=None,
    lost_results={},
)


def facts(**more: object) -> AgentFacts:
    return msgspec.structs.replace(NEVER, **{"last_report_at": NOW, "flush_seconds": 10.0, **more})


def row(share: Share | None = None, **more: object) -> FleetRow:
    return row_of(facts(**more), share or Share(), VIEW)


def test_an_agent_that_said_nothing_has_no_numbers() -> None:
    cells = agent_cells(row_of(NEVER, Share(revision=3), VIEW), NOW)
    assert cells == ("a", "eu", "silent", "never", "-", "-", "-", "0", "-", "-")


def test_every_number_has_its_words() -> None:
    told = row(
        Share(revision=4, expected=200.0, received=199),
        last_report_at=NOW - timedelta(seconds=7),
        version="1.2.3",
        config_revision=3,
        queued_results=5,
        oldest_queued_seconds=280.0,
        lost_results={"io": 1, "full": 20, "age": 0},
        unaccounted=2,
        unaccounted_since=NOW - timedelta(hours=1),
        clock_offset_seconds=-1.5,
        clock_error_seconds=0.0204,
    )
    assert agent_cells(told, NOW) == (
        "a", "eu", "ok clock! lost! revision!", "7s ago", "1.2.3", "3/4", "5 (4m)", "full 20 io 1 unexplained 2",
        "-1.500 ± 0.020 s", "99.5%",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("revisions", "said"),
    [
        ((4, 4, None), "4/4"),
        ((3, 3, None), "3/4"),
        ((3, 4, None), "3/4 received 4"),
        ((3, 4, 4), "3/4 failed 4"),
        ((None, 4, 4), "-/4 failed 4"),
        ((None, None, None), "-"),
    ],
)
def test_what_became_of_a_configuration_is_told(revisions: tuple[int | None, ...], said: str) -> None:
    running, received, failed = revisions
    told = row(Share(revision=4), config_revision=running, received_revision=received, failed_revision=failed)
    assert agent_cells(told, NOW)[5] == said


@pytest.mark.parametrize(
    ("ago", "said"), [(0.2, "0s"), (119, "119s"), (121, "2m"), (7_300, "2h"), (172_801, "2d"), (10**7, "115d")]
)
def test_the_last_report_is_told_to_one_unit(ago: float, said: str) -> None:
    cells = agent_cells(row(last_report_at=NOW - timedelta(seconds=ago)), NOW)
    assert cells[3] == f"{said} ago"


@pytest.mark.parametrize(("flush", "silent_after"), [(5.0, 30.0), (10.0, 45.0), (300.0, 915.0)])
def test_silence_is_measured_in_the_flushes_that_the_agent_was_told(flush: float, silent_after: float) -> None:
    just = NOW - timedelta(seconds=silent_after)
    assert row(flush_seconds=flush, last_report_at=just).state is AgentState.LATE
    more = just - timedelta(seconds=0.1)
    assert row(flush_seconds=flush, last_report_at=more).state is AgentState.SILENT


def test_the_worst_state_is_the_one_that_is_told() -> None:
    assert row(revoked=True, clone_seen_at=NOW).state is AgentState.REVOKED
    assert row(clone_seen_at=NOW, last_report_at=None).state is AgentState.CLONE
    assert row(last_report_at=None, oldest_queued_seconds=999.0).state is AgentState.SILENT


def test_an_offset_within_its_own_error_is_no_warning() -> None:
    assert row(clock_offset_seconds=1.5, clock_error_seconds=0.6).warnings == ()
    assert row(clock_offset_seconds=-1.5, clock_error_seconds=0.4).warnings == ("clock",)


def test_a_revoked_agent_has_no_last_report_that_somebody_could_wait_for() -> None:
    metrics = LiveMetrics(Limits(), monotonic=lambda: 0.0)
    series = b"isochrone_agent_last_report_timestamp_seconds{"
    metrics.show_fleet([row()])
    assert series in metrics.render()
    metrics.show_fleet([row(revoked=True)])
    assert series not in metrics.render()
    assert b'isochrone_agents{state="revoked"} 1\n' in metrics.render()


def test_the_metrics_show_what_an_agent_said_last_to_whichever_collector() -> None:
    metrics = LiveMetrics(Limits(), monotonic=lambda: 0.0)
    oldest = metrics.agents.oldest.series("a", "eu")
    metrics.show_fleet([row(oldest_queued_seconds=900.0)])
    assert oldest.value == 900.0
    metrics.show_fleet([row(oldest_queued_seconds=None, last_report_at=NOW + timedelta(seconds=10))])
    assert oldest.value == 0.0
    metrics.show_fleet([row(oldest_queued_seconds=900.0)])
    assert oldest.value == 0.0, "it was said before"
