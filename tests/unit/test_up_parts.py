"""The small parts of `up`: where data stand, what the demo probes, which files hold a secret."""

import stat
from pathlib import Path

import msgspec
import pytest

from collector.config import Listen
from collector.embedded import FolderBusy
from collector.up import ask, demo, programs
from collector.up.data import default_data, forget_agent_config, open_data, read_token, write_secret
from isochrone.config import encode_config
from isochrone.configcheck import check_targets
from isochrone.durations import parse_duration
from isochrone.physics import great_circle_meters, rtt_floor_seconds

KEY = "SOME_PROVIDER_KEY"
PORTS = {"near": 1001, "far": 1002, "overseas": 1003}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_DATA_HOME": "/data"}, Path("/data/isochrone")),
        ({"XDG_DATA_HOME": "relative"}, Path.home() / ".local/share/isochrone"),
        ({"XDG_DATA_HOME": ""}, Path.home() / ".local/share/isochrone"),
        ({}, Path.home() / ".local/share/isochrone"),
    ],
)
def test_data_stand_where_xdg_says(environment: dict[str, str], expected: Path) -> None:
    assert default_data(environment) == expected


def test_the_demo_is_a_target_file_that_the_check_takes() -> None:
    targets = demo.demo_targets(PORTS)
    assert check_targets(msgspec.json.decode(encode_config(targets)), {}, "demo") == targets


def test_the_demo_says_that_it_is_simulated_and_measures_what_loopback_cannot_show() -> None:
    targets = demo.demo_targets(PORTS)
    assert [endpoint.simulated for endpoint in targets.endpoints] == [True] * 3
    rtt = targets.modules["rtt"].rtt
    assert rtt is not None
    assert rtt.method == "http"


@pytest.mark.parametrize("simulated", demo.ENDPOINTS, ids=lambda simulated: simulated.name)
def test_no_simulated_endpoint_is_nearer_than_light(simulated: demo.Simulated) -> None:
    meters = great_circle_meters(
        demo.HOME.latitude, demo.HOME.longitude, latitude_b=simulated.latitude, longitude_b=simulated.longitude
    )
    assert rtt_floor_seconds(meters) < parse_duration(simulated.rtt) * 0.9


def test_a_secret_is_readable_for_its_owner_alone_and_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "agent.credential"
    for token in ("isoa_1_first", "isoa_2_second"):
        write_secret(path, token)
        assert path.read_text() == f"{token}\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_data_folder_is_closed_to_others_and_held_by_one(tmp_path: Path) -> None:
    data = tmp_path / "deep" / "data"
    with open_data(data):
        assert not stat.S_IMODE(data.stat().st_mode) & (stat.S_IRWXO & ~stat.S_IXOTH)
        assert stat.S_IMODE((data / "log").stat().st_mode) == 0o700
        with pytest.raises(FolderBusy):
            open_data(data)
    open_data(data).close()


def test_the_agent_forgets_its_configuration_and_nothing_else(tmp_path: Path) -> None:
    forget_agent_config(tmp_path)
    agent = tmp_path / "agent"
    agent.mkdir()
    for name in ("config.json", "config.2.json", "config.candidate.json", "config.notes.json", "budget.json"):
        (agent / name).write_text("{}")
    forget_agent_config(tmp_path)
    assert [left.name for left in agent.iterdir()] == ["budget.json"]


def test_the_read_token_comes_from_its_file_and_is_absent_without_one(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    assert read_token({"ISOCHRONE_READ_TOKEN_FILE": str(file)}) == "secret"
    assert read_token({"ISOCHRONE_READ_TOKEN_FILE": str(tmp_path / "none")}) is None
    assert read_token({}) is None


@pytest.mark.parametrize(
    ("listen", "door"),
    [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("127.0.0.1", "127.0.0.1"), ("10.1.2.3", "10.1.2.3")],
)
def test_a_server_on_all_addresses_is_reached_by_loopback(listen: str, door: str) -> None:
    assert programs.reach(Listen(listen, 8420)) == Listen(door, 8420)


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("192.0.2.1", False)],
)
def test_only_loopback_is_out_of_reach_of_others(host: str, *, alone: bool) -> None:
    assert ask.is_loopback(Listen(host, 8420)) is alone


def test_what_every_program_needs_is_handed_on_and_nothing_else() -> None:
    needed = {"PATH": "/bin", "HOME": "/h", "LC_ALL": "C", "TZ": "UTC", "XDG_STATE_HOME": "/s", "PYTHONUTF8": "1"}
    others = {KEY: "s3cret", "PGPASSWORD": "s3cret", "AWS_SESSION_TOKEN": "s3cret"}
    own = {"ISOCHRONE_LATE_SECONDS": "60"}
    assert programs.bare(needed | others | own) == needed
    assert programs.bare(needed | others | own, own="ISOCHRONE_") == needed | own
