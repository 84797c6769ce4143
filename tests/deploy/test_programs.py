"""A test that lacks a program is left out on a desk, and fails in CI."""

import pytest

from tests.programs import IN_CI, need


def test_a_missing_program_skips_the_test_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(IN_CI, raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no-such-program not installed \(Debian: some-package\)"):
        need("sh", "no-such-program", package="some-package")


def test_in_ci_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(IN_CI, "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-program not installed"):
        need("no-such-program", package="some-package")


def test_a_program_that_is_there_is_enough() -> None:
    need("sh", package="some-package")
