"""`make check-deploy` finds what is wrong, and leaves out in silence nothing that it cannot judge."""

import sys
from pathlib import Path

import pytest

from deploy import check
from deploy.check import Check


def judge(code: str, *words: str) -> Check:
    return Check((sys.executable, "-c", code, *words), "anywhere")


def test_a_check_that_fails_is_told_with_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert not check.passes(judge("import sys; print('line 3: no'); sys.exit(1)"))
    assert "line 3: no" in capsys.readouterr().out


def test_a_check_that_passes_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.passes(judge("print('fine')"))
    assert capsys.readouterr().out == ""


def test_a_word_with_a_star_stands_for_its_files(tmp_path: Path) -> None:
    for name in ("b.yml", "a.yml", "c.txt"):
        (tmp_path / name).touch()
    code = "import sys; sys.exit(sys.argv[1:] != ['a.yml', 'b.yml'])"
    assert check.passes(judge(code, "*.yml"), root=tmp_path)


def test_a_missing_program_is_told_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = Check(("no-such-program", "deploy/Dockerfile"), "Debian: some-package")
    monkeypatch.delenv(check.IN_CI, raising=False)
    assert check.passes(missing)
    assert "no-such-program is not installed (Debian: some-package)" in capsys.readouterr().out
    monkeypatch.setenv(check.IN_CI, "1")
    assert not check.passes(missing)


def test_one_failure_keeps_no_other_check_from_being_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "CHECKS", [judge(f"import sys; sys.exit('no {n}')") for n in (1, 2)])
    assert check.main() == 1
    said = capsys.readouterr().out
    assert "no 1" in said
    assert "no 2" in said
