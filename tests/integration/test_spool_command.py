"""`isochrone-agent spool` tells what stands on disk, whether an agent works there or not."""

import json
import os
from pathlib import Path
from uuid import UUID

import pytest
from msgspec import structs

from agent.cli import main
from agent.spool import Spool, SpoolLimits
from agent.spool.losses import Losses, write_losses
from agent.spool.spool import SEAL_BYTES
from agent.telemetry import Telemetry
from isochrone.batch import DropReason
from tests.delivery import files, record, spool_in


def shown(capsys: pytest.CaptureFixture[str], state_dir: Path, *options: str) -> str:
    assert main(["spool", "--state-dir", str(state_dir), *options]) == 0
    return capsys.readouterr().out


def test_what_waits_is_shown_while_an_agent_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spool = spool_in(tmp_path / "spool")
    record(spool, 3)
    spool.flush()
    record(spool, 2)
    before = {path.name: path.read_bytes() for path in (tmp_path / "spool").iterdir()}
    text = shown(capsys, tmp_path)
    assert "an agent works on it" in text
    assert "5 results in 2 segments" in text
    assert [line.split()[-2] for line in text.splitlines() if line.endswith(tuple(map(str, batch_ids(spool))))] == [
        "sealed"
    ]
    assert " open " in text
    assert "lost by this run: nothing" in text
    assert {path.name: path.read_bytes() for path in (tmp_path / "spool").iterdir()} == before
    spool.close()
    assert "no agent works on it now" in shown(capsys, tmp_path)


def test_the_check_fails_without_an_agent_at_work_and_for_one_that_is_revoked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check = ["spool", "--state-dir", str(tmp_path), "--check"]
    spool = spool_in(tmp_path / "spool")
    record(spool, 3)
    spool.flush()
    assert main(check) == 0, "results that wait are no fault of the agent"
    losses = Losses(boot_id=UUID(int=7), dropped_results={})
    write_losses(tmp_path / "spool", losses)
    assert main(check) == 0
    write_losses(tmp_path / "spool", structs.replace(losses, revoked=True))
    assert main(check) == 1
    assert "the collector refuses this agent: give it another credential" in capsys.readouterr().err
    write_losses(tmp_path / "spool", losses)
    spool.close()
    assert main(check) == 1
    assert "no agent works on it" in capsys.readouterr().err


def batch_ids(spool: Spool) -> list[UUID]:
    return [sealed.batch_id for sealed in spool.waiting()]


def test_losses_and_what_was_set_aside_are_told_by_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = Telemetry()
    folder = tmp_path / "spool"
    spool = spool_in(folder, telemetry=telemetry, limits=SpoolLimits(max_bytes=2 * SEAL_BYTES))
    for _ in range(4):
        record(spool, 1_000, reason="r" * 150)
        spool.flush()
    spool.keep_limits()
    spool.reject(spool.waiting()[0].batch_id, [b"{}"])
    spool.close()
    (folder / "note").touch()
    found = json.loads(shown(capsys, tmp_path, "--json"))
    assert found["losses"]["dropped_results"] == {reason.value: n for reason, n in telemetry.dropped.items()}
    assert found["losses"]["dropped_results"]["full"] >= 1_000
    assert (found["rejected"]["files"], found["foreign_files"], found["in_use"]) == (1, 1, False)
    assert sum(one["results"] for one in found["segments"]) == 4_000 - found["losses"]["dropped_results"]["full"]
    text = shown(capsys, tmp_path)
    assert f"{telemetry.dropped[DropReason.FULL]} full, 1 rejected" in text
    assert "1 foreign file left alone" in text


def test_a_damaged_segment_is_told_and_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spool = spool_in(tmp_path / "spool")
    record(spool, 3)
    spool.close()
    path = files(tmp_path / "spool", ".seg")[0]
    path.write_bytes(path.read_bytes()[:-5])
    assert "bytes damaged" in shown(capsys, tmp_path)
    path.write_bytes(b"nonsense")
    assert "unreadable" in shown(capsys, tmp_path)
    assert path.read_bytes() == b"nonsense"


def test_a_folder_without_a_spool_is_told_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spool", "--state-dir", str(tmp_path)]) == 1
    assert "name the folder with --state-dir" in capsys.readouterr().err


def test_the_agents_own_settings_say_where_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in [key for key in os.environ if key.startswith("ISOCHRONE_")]:
        monkeypatch.delenv(key)
    spool = spool_in(tmp_path / "spool")
    spool.close()
    settings = tmp_path / "settings.toml"
    settings.write_text(f'state_dir = "{tmp_path}"\nspool_max_bytes = "1MiB"\n')
    assert main(["spool", "--settings", str(settings)]) == 0
    assert "of 1.0 MiB" in capsys.readouterr().out
    settings.write_text("state_dir = 7\n")
    assert main(["spool", "--settings", str(settings)]) == 2
    assert "settings.toml:1: state_dir" in capsys.readouterr().err
