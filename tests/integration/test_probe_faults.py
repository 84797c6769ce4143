"""A fault of the agent's own in a probe is a result that tells kind and place, and its log does not quote the fault."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from agent.app import Prober
from agent.budget import Budgets
from agent.clock import SystemClock
from agent.policy import Policy
from agent.probes import Probes
from agent.spool import Spool
from agent.spool.files import write_durably
from agent.telemetry import set_up_logging
from isochrone.config import Assignment
from isochrone.outcome import Outcome
from isochrone.result import Result
from tests.simulated import inference

pytestmark = pytest.mark.anyio


class Failing:
    """Probes with a fault whose text quotes what must not be shown."""

    async def run(self, _target: Assignment) -> Result:
        raise KeyError("the model said: a private answer")


class Shelf:
    """Keeps what was recorded."""

    def __init__(self) -> None:
        self.results: list[Result] = []

    def record(self, result: Result) -> Result:
        self.results.append(result)
        return result


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    set_up_logging("DEBUG", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_a_fault_of_ours_is_recorded_and_told_without_its_text(tmp_path: Path, log: io.StringIO) -> None:
    shelf = Shelf()
    prober = Prober(
        cast("Probes", Failing()),
        cast("Spool", shelf),
        budgets=Budgets(tmp_path / "budget.json", write=write_durably),
        clock=SystemClock(),
        policy=Policy(),
        show=lambda _: None,
    )
    await prober.attempt(inference("https://api.example.org/v1"), 0.0)
    (result,) = shelf.results
    assert (result.outcome, result.config_revision) == (Outcome.OTHER, None)
    assert str(result.reason).startswith("a fault of ours: KeyError < test_probe_faults.py:")
    assert "ERROR probe: tested chat-cold: a fault of ours: KeyError < test_probe_faults.py:" in log.getvalue()
    assert "private answer" not in f"{result.reason}{log.getvalue()}"
