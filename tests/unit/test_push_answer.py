"""Only one answer forgets a segment: 200 with our own acknowledgement of this very batch."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from agent.push.answer import Answered, Verb, action
from agent.retryafter import retry_after_seconds
from isochrone.batch import Ack
from isochrone.wire import encode_ack

BATCH = UUID("0192f0c4-7a1b-7c3d-8e4f-5a6b7c8d9e0f")
OTHER = UUID("0192f0c4-7a1b-7c3d-8e4f-5a6b7c8d9e00")
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PROBLEM = {"content-type": "application/problem+json; charset=utf-8"}


def ack(batch_id: UUID) -> bytes:
    return encode_ack(
        Ack(batch_id=batch_id, accepted=1, duplicate=0, late=0, rejected=(), t1=1, t2=2, next_flush_seconds=10)
    )


def verb(status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Verb:
    return action(Answered(status=status, headers=headers or {}, body=body), BATCH, now=NOW).verb


def test_our_acknowledgement_of_this_batch_forgets_it() -> None:
    done = action(Answered(status=200, headers={}, body=ack(BATCH)), BATCH, now=NOW)
    assert done.verb is Verb.ACK
    assert done.ack is not None
    assert done.ack.batch_id == BATCH


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>Please log in</html>", "something in between"),
        (b"", "something in between"),
        (b"{}", "something in between"),
        (ack(BATCH)[:-1], "something in between"),
        (ack(BATCH).replace(b'"accepted":1', b'"accepted":-1'), "something in between"),
        (ack(OTHER), "for another batch"),
        (b'{"x":' * 100_000, "something in between"),
        (b'{"batch_id":"\xff"}', "something in between"),
    ],
)
def test_a_200_that_is_no_acknowledgement_keeps_the_segment_and_says_why(body: bytes, why: str) -> None:
    done = action(Answered(status=200, headers={}, body=body), BATCH, now=NOW)
    assert done.verb is Verb.RETRY
    assert why in done.reason


@pytest.mark.parametrize("status", [201, 202, 204, 206])
def test_an_acknowledgement_under_another_status_is_none(status: int) -> None:
    assert verb(status, body=ack(BATCH)) is Verb.RETRY


@pytest.mark.parametrize(
    "status", [100, 301, 302, 307, 404, 405, 407, 408, 410, 425, 429, 431, 500, 501, 502, 503, 504]
)
@pytest.mark.parametrize("headers", [{}, PROBLEM])
def test_faults_that_time_or_an_operator_mends_keep_the_segment(status: int, headers: dict[str, str]) -> None:
    assert verb(status, headers) is Verb.RETRY


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_credential_keeps_the_segment_and_waits_longer(status: int) -> None:
    assert verb(status) is Verb.WAIT


@pytest.mark.parametrize("status", [400, 415, 422])
def test_a_batch_that_the_collector_cannot_read_is_halved(status: int) -> None:
    assert verb(status, PROBLEM) is Verb.SPLIT


@pytest.mark.parametrize("status", [400, 409, 415, 422])
def test_the_same_status_from_a_stranger_costs_nothing(status: int) -> None:
    assert verb(status, {"content-type": "text/html"}) is Verb.RETRY


@pytest.mark.parametrize(("headers", "told"), [(PROBLEM, True), ({"content-type": "text/html"}, False)])
def test_too_large_is_halved_whoever_says_so_and_who_said_so_is_known(*, headers: dict[str, str], told: bool) -> None:
    done = action(Answered(status=413, headers=headers, body=b""), BATCH, now=NOW)
    assert (done.verb, done.told_by_collector) == (Verb.SPLIT, told)


def test_another_content_under_this_id_is_given_up() -> None:
    assert verb(409, PROBLEM) is Verb.GIVE_UP


def test_the_reason_is_the_problems_own_detail_on_one_line() -> None:
    body = b'{"type":"about:blank","title":"Unprocessable","detail":"results[0].seq:\\nnot a number"}'
    done = action(Answered(status=422, headers=PROBLEM, body=body), BATCH, now=NOW)
    assert done.reason == "422 results[0].seq: not a number"


@pytest.mark.parametrize("body", [b"", b"\xff", b'{"detail":"\xff"}', b"[" * 100_000, b'{"detail":5}'])
def test_a_problem_that_cannot_be_read_is_told_by_its_status(body: bytes) -> None:
    done = action(Answered(status=503, headers=PROBLEM, body=body), BATCH, now=NOW)
    assert (done.verb, done.reason) == (Verb.RETRY, "503")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5),
        (" 0 ", 0),
        ("1000000000000000000000", 3_600),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        ("Sun, 01 Mar 2099 12:00:00 GMT", 3_600),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 3_600),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2024 00:00:00 +9999999999999", None),
        ("-1", None),
        ("abc", None),
        ("1.5", 1.5),
        ("\N{SUPERSCRIPT TWO}", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_bounded_and_nonsense_is_ignored(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, now=NOW) == seconds


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_of_429_and_503_is_obeyed(status: int) -> None:
    done = action(Answered(status=status, headers={"retry-after": "7"}, body=b""), BATCH, now=NOW)
    assert done.retry_after_seconds == 7
