"""The three components of a duration are trusted only if they make it up."""

import pytest

from agent.probes.inference import add_up
from isochrone.marks import Components

PARTS = Components(network_seconds=0.1, model_seconds=0.2, streaming_seconds=0.3)


@pytest.mark.parametrize(
    ("duration_seconds", "expected"), [(0.6, True), (0.6 + 1e-12, True), (0.601, False), (0.0003, False), (None, False)]
)
def test_parts_that_do_not_make_up_the_duration_are_noticed(duration_seconds: float | None, *, expected: bool) -> None:
    assert add_up(PARTS, duration_seconds) is expected
