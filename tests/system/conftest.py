"""Fixtures for tests with real processes."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@pytest.fixture
def data() -> Iterator[Path]:
    """Give a folder that Postgres' own user can reach."""
    with TemporaryDirectory(prefix="isochrone-system-") as folder:
        yield Path(folder)
