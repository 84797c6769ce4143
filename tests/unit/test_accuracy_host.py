"""The accuracy bench says in one line what a host lacks, ends with 2, and leaves the lab's folder as it is."""

import os
from pathlib import Path

import pytest

from tests.bench.accuracy import prepare, run
from tests.bench.accuracy.prepare import Missing, copy_of_lab, data_folder, require_host


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Pretend a host that has everything; return its device."""
    device = tmp_path / "tun"
    device.touch()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(prepare, "TUN", device)
    monkeypatch.setattr(prepare, "TOOLS", {"sh": "dash"})
    return device


def test_a_host_that_has_everything_passes(host: Path) -> None:
    assert host.exists()
    require_host()


def test_a_missing_piece_is_named_with_what_to_do(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1}, raising=False)
    with pytest.raises(Missing, match="CPUs 0 and 1"):
        require_host()
    host.unlink()
    with pytest.raises(Missing, match="module tun"):
        require_host()
    monkeypatch.setattr(prepare, "TOOLS", {"no-such-tool": "a-package", "nor-this": "a-package"})
    with pytest.raises(Missing, match=r"not found: no-such-tool, nor-this; .* apt-get install a-package\)"):
        require_host()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Missing, match="needs root"):
        require_host()


@pytest.mark.usefixtures("host")
def test_without_the_lab_the_run_ends_with_2_and_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ISOCHRONE_BENCH_DATA", str(tmp_path))
    assert run.main([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"bench-accuracy: no lab in {tmp_path}/accuracy; ISOCHRONE_BENCH_DATA must name the folder")


def a_lab(tmp_path: Path, makefile: str) -> Path:
    source = tmp_path / "data" / "accuracy"
    (source / "native").mkdir(parents=True)
    (source / "bench.py").touch()
    (source / "native" / "Makefile").write_text(makefile)
    for path in (source, source / "native"):
        path.chmod(0o555)
    return source


def test_the_lab_is_built_in_a_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = a_lab(tmp_path, "all:\n\ttouch built\n")
    monkeypatch.setenv("ISOCHRONE_BENCH_DATA", str(source.parent))
    copy = copy_of_lab(data_folder(), tmp_path)
    assert (copy / "native" / "built").exists()
    assert sorted(path.name for path in source.rglob("*")) == ["Makefile", "bench.py", "native"]


def test_a_lab_that_cannot_be_built_says_why(tmp_path: Path) -> None:
    source = a_lab(tmp_path, "all:\n\t@echo no stdio.h >&2; false\n")
    with pytest.raises(Missing, match="could not be built"):
        copy_of_lab(source, tmp_path)
