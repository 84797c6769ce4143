"""The agent's log: one line for one event, and no secret in it, whatever was logged."""

import io
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from uuid import UUID

import pytest

from agent.telemetry import LOG, Telemetry, Waiting, set_up_logging
from isochrone.batch import DropReason

RUN = UUID(int=7)
TOKEN = "isoa_k3y_" + "x" * 40


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    set_up_logging("INFO", stream).hide("plain-secret-of-nobody-s-form")
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (f"token {TOKEN} refused", TOKEN),
        ("Authorization: Bearer abcdef.ghijkl-123", "abcdef.ghijkl-123"),
        ("key sk-proj-0123456789abcdef", "sk-proj-0123456789abcdef"),
        ("body plain-secret-of-nobody-s-form end", "plain-secret-of-nobody-s-form"),
    ],
)
def test_secrets_are_replaced_in_messages_and_arguments(log: io.StringIO, text: str, hidden: str) -> None:
    LOG.warning(text)
    LOG.warning("%s", text)
    assert hidden not in log.getvalue()
    assert log.getvalue().count("[hidden]") == 2


def test_a_traceback_is_one_line_without_secrets(log: io.StringIO) -> None:
    try:
        int(f"cannot send {TOKEN}")
    except ValueError:
        LOG.exception("a fault of ours")
    assert len(log.getvalue().splitlines()) == 1
    assert "cannot send [hidden]" in log.getvalue()


def test_what_an_endpoint_says_cannot_forge_a_line_or_colour_a_terminal(log: io.StringIO) -> None:
    LOG.warning("endpoint said: %s", "x\r\n2026-01-01T00:00:00Z ERROR forged \x1b[31mred")
    assert len(log.getvalue().splitlines()) == 1
    assert "\x1b" not in log.getvalue()


def test_libraries_do_not_write_a_line_for_every_probe(log: io.StringIO) -> None:
    for name in ("apscheduler.executors.default", "httpx", "httpcore.http11"):
        logging.getLogger(name).info("ran")
    LOG.info("ours")
    assert log.getvalue().splitlines()[0].endswith("INFO ours")


def test_losses_are_counted_by_reason_and_brought_up_to_now_when_told() -> None:
    telemetry = Telemetry()
    telemetry.lost(DropReason.FULL, 3)
    telemetry.lost(DropReason.FULL, 2)
    telemetry.lost(DropReason.IO, 0)

    def now() -> None:
        telemetry.expected_results += 7

    telemetry.before_status = now
    status = telemetry.status(Waiting(boot_id=RUN, recorded_results=9, queued_results=4, oldest_seconds=2e7))
    assert status.dropped_results == {DropReason.FULL: 5}
    assert (status.expected_results, status.queued_results) == (7, 4)
    assert (status.boot_id, status.recorded_results) == (RUN, 9)
    assert status.oldest_queued_seconds == 1e6, "no more than the contract takes"


def test_losses_that_two_threads_count_at_once_are_both_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    meeting = threading.Barrier(2)

    class Met(Counter[DropReason]):
        def __getitem__(self, reason: DropReason) -> int:
            count = super().__getitem__(reason)
            with suppress(threading.BrokenBarrierError):  # nobody comes: they count one after the other
                meeting.wait(0.1)
            return count

    monkeypatch.setattr("agent.telemetry.Counter", Met)
    telemetry = Telemetry()
    others = [threading.Thread(target=telemetry.lost, args=(DropReason.IO,)) for _ in range(2)]
    for one in others:
        one.start()
    for one in others:
        one.join()
    assert telemetry.dropped == {DropReason.IO: 2}
