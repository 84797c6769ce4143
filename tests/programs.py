"""Programs that come with the system and not with pip: tests that need one are skipped where it is missing."""

import os
import shutil

import pytest

IN_CI = "ISOCHRONE_CI"
"""Set by `.ci/run`, which installs the programs: a test must not be left out there in silence."""


def need(*programs: str, package: str) -> None:
    """Skip the test unless all of `programs` are there; in CI, fail. `package` is Debian's name."""
    missing = [name for name in programs if shutil.which(name) is None]
    if not missing:
        return
    reason = f"{', '.join(missing)} not installed (Debian: {package})"
    if os.environ.get(IN_CI):
        pytest.fail(reason)
    pytest.skip(reason)
