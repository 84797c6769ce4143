"""`make compose-up` makes its secrets once, whole, for their readers alone; it tells in one line what is missing."""

import stat
from pathlib import Path

import pytest

from deploy.compose import stack


def test_secrets_are_files_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    stack.write_secrets(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == stack.READERS.keys()
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_both_sides_of_a_password_hold_the_same() -> None:
    made = stack.new_secrets()
    assert made["collector_pgpass"] == f"postgres:5432:isochrone:isochrone:{made['database_owner_password']}"
    assert made["database_grafana_password"] == made["grafana_database_password"]
    assert len({*made.values()}) == 5
    assert not {*made.values()} & {*stack.new_secrets().values()}


def test_secrets_that_are_there_stay(tmp_path: Path) -> None:
    stack.write_secrets(tmp_path / "secrets")
    before = {path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()}
    stack.write_secrets(tmp_path / "secrets")
    assert {path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()} == before


def test_what_a_killed_run_left_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "secrets.new").mkdir()
    (tmp_path / "secrets.new" / "postgres_password").write_text("half")
    stack.write_secrets(tmp_path / "secrets")
    assert [path.name for path in tmp_path.iterdir()] == ["secrets"]
    assert (tmp_path / "secrets" / "postgres_password").read_text() != "half"


def test_a_secret_that_is_gone_is_told_with_what_to_do(tmp_path: Path) -> None:
    stack.write_secrets(tmp_path / "secrets")
    (tmp_path / "secrets" / "collector_pgpass").unlink()
    with pytest.raises(stack.Failed, match=r"lacks collector_pgpass: put the file back, or begin anew"):
        stack.write_secrets(tmp_path / "secrets")


def test_without_docker_the_only_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert stack.main(["down"]) == 1
    assert capsys.readouterr().err.startswith("compose: docker is not installed")


def test_a_program_that_fails_is_told_by_its_last_words() -> None:
    with pytest.raises(stack.Failed, match=r"^sh -c echo no room >&2; exit 3 … failed: no room$"):
        stack.run("sh", "-c", "echo no room >&2; exit 3")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"Status": "running", "ExitCode": 0, "Health": {"Status": "healthy"}}, None),
        ({"Status": "running", "ExitCode": 0}, None),
        ({"Status": "exited", "ExitCode": 0}, None),
        ({"Status": "running", "ExitCode": 0, "Health": {"Status": "starting"}}, "x is starting"),
        ({"Status": "running", "ExitCode": 0, "Health": {"Status": "unhealthy"}}, "x is unhealthy"),
        ({"Status": "exited", "ExitCode": 1}, "x is exited"),
        ({"Status": "restarting", "ExitCode": 2}, "x is restarting"),
    ],
)
def test_a_container_is_well_when_it_is_healthy_or_ended_with_0(state: dict[str, object], words: str | None) -> None:
    container = {"State": state, "Config": {"Labels": {"com.docker.compose.service": "x"}}}
    assert stack.ailment(container) == words
