"""How full the database may be."""

import logging

import pytest

from collector.room import Room


def test_batches_stop_at_90_percent_and_the_log_hears_of_changes_alone(caplog: pytest.LogCaptureFixture) -> None:
    room = Room(100)
    caplog.set_level(logging.INFO)
    assert [room.judge(size) for size in (10, 79, 80, 89, 90, 95, 100, 85, 85, 10, 10)] == [
        *[False] * 4, *[True] * 3, *[False] * 4,
    ]  # fmt: skip
    said = [(record.levelname, record.getMessage().split(":")[0]) for record in caplog.records]
    assert said == [
        ("WARNING", "the database holds 80 of 100 bytes"),
        ("ERROR", "the database holds 90 of 100 bytes, no batch is taken"),
        ("WARNING", "the database has room again"),
        ("WARNING", "the database holds 85 of 100 bytes"),
    ]
