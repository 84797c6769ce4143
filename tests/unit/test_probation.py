"""What speaks against a configuration on trial, and how an agent's word on it travels."""

import pytest

from agent.revisions import Watch, fault, probation_seconds
from isochrone.config import MAX_STATE_BYTES, ConfigState, decode_state, encode_state
from isochrone.outcome import Outcome
from tests.configuring import config


def watch(*, lag: float = 0.0, samples: int = 200, late: int = 0, outcomes: tuple[Outcome, ...] = ()) -> Watch:
    made = Watch(begun_seconds=0.0, io_lost=0)
    for number in range(samples):
        made.lagged(lag if number < late else 0.001)
    for outcome in outcomes:
        made.ran(outcome)
    return made


@pytest.mark.parametrize(
    ("now", "before", "blamed"),
    [
        (watch(lag=0.06, late=3), None, True),
        (watch(lag=0.06, late=1), None, False),
        (watch(lag=0.06, late=3), watch(lag=0.2, late=50), False),
        (watch(lag=0.06, late=3), watch(), True),
        (watch(lag=0.06, late=3), watch(samples=99), False),
        (watch(lag=0.06, late=50, samples=50), None, False),
    ],
)
def test_a_slow_loop_is_blamed_on_a_configuration_under_which_it_became_slow(
    now: Watch, before: Watch | None, *, blamed: bool
) -> None:
    assert (fault(now, before) is not None) == blamed


@pytest.mark.parametrize(
    ("outcomes", "blamed"),
    [
        ((Outcome.AUTH,) * 3, True),
        ((Outcome.AUTH,) * 2, False),
        ((Outcome.AUTH, Outcome.HTTP_4XX, Outcome.DENIED), True),
        ((*(Outcome.AUTH,) * 9, Outcome.OK), False),
        ((*(Outcome.AUTH,) * 9, Outcome.CONNECT), False),
        ((*(Outcome.AUTH,) * 3, Outcome.BUDGET), True),
        ((Outcome.BUDGET,) * 9, False),
    ],
)
def test_all_runs_must_fail_by_configuration(outcomes: tuple[Outcome, ...], *, blamed: bool) -> None:
    assert (fault(watch(outcomes=outcomes), None) is not None) == blamed


@pytest.mark.parametrize(("interval", "seconds"), [(1, 600), (200, 600), (400, 1_200), (500_000, 86_400)])
def test_a_trial_lasts_ten_minutes_or_three_intervals(interval: float, seconds: float) -> None:
    assert probation_seconds(config(1, "a", interval=interval)) == seconds
    assert probation_seconds(config(1)) == 600


def test_the_state_travels_in_a_header_whatever_the_reason_says() -> None:
    state = ConfigState(running=1, probation=True, received=2, failed=2, reason='a "b" \\ é\n' + "x" * 190)
    header = encode_state(state)
    assert header.isascii()
    assert header.isprintable()
    assert len(header) <= MAX_STATE_BYTES
    read = decode_state(header)
    assert read is not None
    assert (read.running, read.probation, read.received, read.failed) == (1, True, 2, 2)
    assert str(read.reason).startswith('a "b" \\ ? x')
