"""What an answer's headers say about when to come again; the wait is kept for the endpoint, on the monotonic clock."""

from datetime import UTC, datetime

import pytest

from agent.probes.waits import Key, Waits
from agent.retryafter import asked_wait_seconds
from agent.transport import Failure
from isochrone.outcome import Outcome

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NEXT_MINUTE = "Sun, 01 Mar 2026 12:01:00 GMT"
HERE: Key = ("e", "https://a.example:443")
SECOND = 10**9


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "99999999"}, 3_600),
        ({"retry-after": "9" * 100}, 3_600),
        ({"retry-after": "9" * 5_000}, None),
        ({"retry-after": NEXT_MINUTE}, 60),
        ({"retry-after": "Sunday, 01-Mar-26 12:01:00 GMT"}, 60),
        ({"retry-after": "Sun Mar  1 12:01:00 2026"}, 60),
        ({"retry-after": NEXT_MINUTE, "date": "Sun, 01 Mar 2026 12:00:50 GMT"}, 10),
        ({"retry-after": NEXT_MINUTE, "date": "Sun, 01 Mar 2026 12:02:00 GMT"}, 0),
        ({"retry-after": NEXT_MINUTE, "date": "yesterday"}, 60),
        ({"retry-after": "20", "date": "Sun, 01 Mar 2020 12:00:00 GMT"}, 20),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "20"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "20"}, 20),
        ({"retry-after-ms": "99999999999"}, 3_600),
        *[
            ({name: bad}, None)
            for name in ("retry-after", "retry-after-ms")
            for bad in ("", "-5", "soon", "nan", "1e9")
        ],
        ({"retry-after": "inf"}, None),
        ({"retry-after": "5 s"}, None),
        ({"retry-after": "\N{SUPERSCRIPT TWO}"}, None),
    ],
)
def test_the_wait_is_read_in_every_form_and_bounded(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait_seconds(headers, now=NOW) == seconds


def test_an_endpoint_is_left_alone_until_its_moment_and_no_longer() -> None:
    waits = Waits()
    waits.note(HERE, Outcome.OVERLOADED, until_ns=10 * SECOND, now_ns=0)
    with pytest.raises(Failure) as refused:
        waits.check(HERE, now_ns=10 * SECOND - 1)
    assert refused.value.outcome is Outcome.OVERLOADED
    assert refused.value.reason == "not attempted: the endpoint asked to wait, 1 s more (Retry-After)"
    waits.check(HERE, now_ns=10 * SECOND)


@pytest.mark.parametrize("other", [("f", HERE[1]), (HERE[0], "https://b.example:443")])
def test_other_endpoints_and_origins_are_not_held(other: Key) -> None:
    waits = Waits()
    waits.note(HERE, Outcome.RATE_LIMITED, until_ns=SECOND, now_ns=0)
    waits.check(other, now_ns=0)


def test_the_longest_wait_holds_and_none_is_none() -> None:
    waits = Waits()
    waits.note(HERE, Outcome.RATE_LIMITED, until_ns=0, now_ns=0)
    waits.check(HERE, now_ns=0)
    for until in (30, 20):
        waits.note(HERE, Outcome.RATE_LIMITED, until_ns=until * SECOND, now_ns=0)
    with pytest.raises(Failure, match="30 s more"):
        waits.check(HERE, now_ns=0)
    waits.note(HERE, Outcome.RATE_LIMITED, until_ns=50 * SECOND, now_ns=40 * SECOND)
    with pytest.raises(Failure, match="5 s more"):
        waits.check(HERE, now_ns=45 * SECOND)
