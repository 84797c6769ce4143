"""Fixtures for the tests of faults."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.network import Network, own_network, why_not


@pytest.fixture
def data() -> Iterator[Path]:
    """Give a folder that Postgres' own user can reach."""
    with TemporaryDirectory(prefix="isochrone-fault-") as folder:
        yield Path(folder)


@pytest.fixture
def network() -> Iterator[Network]:
    """Give a network of the test's own, or skip and say why."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with own_network() as network:
        yield network
