"""The agent's settings are refused with source, line, key, value and what would be right."""

from pathlib import Path

import pytest

from agent.config import Settings, default_state_dir, load_settings, parse_origin, read_credential
from agent.errors import ConfigError

TOKEN = "isoa_0a1b2c_" + "S3cret-" * 5
NEEDED = {"ISOCHRONE_COLLECTOR_URL": "https://c.example.org/", "ISOCHRONE_CREDENTIAL_FILE": "/run/token"}


def settings_from(
    tmp_path: Path, toml: str, *, environment: dict[str, str] | None = None, flags: dict[str, str] | None = None
) -> Settings:
    file = tmp_path / "agent.toml"
    file.write_text(toml)
    return load_settings(NEEDED | (environment or {}), file=file, flags=flags or {})


def test_two_settings_are_enough() -> None:
    settings = load_settings(NEEDED | {"HOME": "/home/a"}, file=None, flags={})
    assert settings == Settings(
        collector_url="https://c.example.org",
        credential_file=Path("/run/token"),
        state_dir=Path("/home/a/.local/state/isochrone"),
    )
    assert (settings.spool_max_bytes, settings.spool_max_age) == (64 * 2**20, 7 * 86_400)
    assert (settings.max_in_flight, settings.flush_interval, settings.allow) == (16, 10, ())


def test_the_environment_goes_before_the_file_and_flags_before_both(tmp_path: Path) -> None:
    toml = 'flush_interval = "1s"\nmax_in_flight = 1\nspool_max_age = "1h"\n'
    environment = {"ISOCHRONE_FLUSH_INTERVAL": "2s", "ISOCHRONE_MAX_IN_FLIGHT": "2"}
    settings = settings_from(tmp_path, toml, environment=environment, flags={"flush_interval": "3s"})
    assert (settings.flush_interval, settings.max_in_flight, settings.spool_max_age) == (3, 2, 3_600)


def test_every_setting_can_stand_in_the_file(tmp_path: Path) -> None:
    toml = """
collector_url = "http://[::1]:8420"
credential_file = "/etc/isochrone/token"
state_dir = "/var/lib/isochrone"
spool_max_bytes = "1GiB"
spool_max_age = "1d"
max_in_flight = 4
flush_interval = "30s"
allow = ["https://API.openai.com", "http://10.0.0.1:8000/v1"]
ca_file = "/etc/ca.pem"
log_level = "debug"
allow_private = ["10.0.0.0/8", "192.168.1.1", "fd00::/8", "LLM.internal"]
min_interval = "10s"
max_output_tokens = 64
max_requests_per_day = 5000
max_tokens_per_day = 200000
max_usd_per_day = 2.5
min_usd_per_million_tokens = 2
[keys]
OPENAI_API_KEY = "https://API.openai.com/v1"
"/run/secrets/llm" = ["https://a.example", "http://10.0.0.1:8000"]
"""
    file = tmp_path / "agent.toml"
    file.write_text(toml)
    settings = load_settings({}, file=file, flags={})
    assert settings.allow == ("https://api.openai.com:443", "http://10.0.0.1:8000")
    assert (settings.spool_max_bytes, settings.ca_file, settings.log_level) == (2**30, Path("/etc/ca.pem"), "DEBUG")
    assert settings.allow_private == ("10.0.0.0/8", "192.168.1.1/32", "fd00::/8", "llm.internal")
    assert (settings.min_interval, settings.max_output_tokens, settings.max_requests_per_day) == (10, 64, 5000)
    assert (settings.max_tokens_per_day, settings.max_usd_per_day) == (200_000, 2.5)
    assert settings.min_usd_per_million_tokens == 2
    assert settings.keys == {
        "OPENAI_API_KEY": ("https://api.openai.com:443",),
        "/run/secrets/llm": ("https://a.example:443", "http://10.0.0.1:8000"),
    }


def test_an_empty_table_of_keys_is_not_none(tmp_path: Path) -> None:
    assert settings_from(tmp_path, "[keys]\n").keys == {}
    assert settings_from(tmp_path, "").keys is None


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (
            "# a comment\nflush_intervall = '5s'\n",
            "agent.toml:2: flush_intervall: unknown setting (did you mean 'flush_interval'?)",
        ),
        ("flush_interval = '5'\n", "agent.toml:1: flush_interval: '5' is not a duration: write a number and a unit"),
        ("\n\nflush_interval = 5\n", "agent.toml:3: flush_interval: 5 is no duration between 1s and 300s"),
        ("flush_interval = '1h'\n", "agent.toml:1: flush_interval: '1h' is no duration between 1s and 300s"),
        ("max_in_flight = 0\n", "agent.toml:1: max_in_flight: 0 is no whole number between 1 and 1000"),
        ("max_in_flight = true\n", "agent.toml:1: max_in_flight: True is no whole number between 1 and 1000"),
        ("spool_max_bytes = '64MB'\n", "agent.toml:1: spool_max_bytes: '64MB' is no size between 1MiB and 1024GiB"),
        ("spool_max_bytes = 10\n", "agent.toml:1: spool_max_bytes: 10 is no size between 1MiB and 1024GiB"),
        ("allow = 5\n", "agent.toml:1: allow: 5 is no list of origins"),
        ("allow = ['ftp://x']\n", "agent.toml:1: allow: 'ftp://x' is no address: write http:// or https:// and a host"),
        ("collector_url = 'c.example.org'\n", "agent.toml:1: collector_url: 'c.example.org' is no address"),
        (
            "collector_url = 'http://u:p@c.example.org'\n",
            "agent.toml:1: collector_url: carries a user name or password",
        ),
        ("state_dir = ''\n", "agent.toml:1: state_dir: '' where text belongs"),
        ("log_level = 'loud'\n", "agent.toml:1: log_level: 'loud' is no log level; there are: DEBUG, INFO"),
        ("allow_private = 5\n", "agent.toml:1: allow_private: 5 is no list of networks and host names"),
        ("allow_private = ['10.0.0.1/8']\n", "agent.toml:1: allow_private: '10.0.0.1/8' is neither a network, as in"),
        ("allow_private = ['https://a']\n", "agent.toml:1: allow_private: 'https://a' is neither a network, as in"),
        ("allow_private = ['300.1.1.1']\n", "agent.toml:1: allow_private: '300.1.1.1' is neither a network, as in"),
        ("min_interval = '1ms'\n", "agent.toml:1: min_interval: '1ms' is no duration between 0.1s and 86400s"),
        ("max_output_tokens = 5000\n", "agent.toml:1: max_output_tokens: 5000 is no whole number between 1 and 4096"),
        (
            "max_requests_per_day = 0\n",
            "agent.toml:1: max_requests_per_day: 0 is no whole number between 1 and 1000000",
        ),
        ("max_tokens_per_day = 1.5\n", "agent.toml:1: max_tokens_per_day: 1.5 is no whole number between 1 and"),
        ("max_usd_per_day = 0\n", "agent.toml:1: max_usd_per_day: 0 is no amount in US dollars, more than 0"),
        ("max_usd_per_day = nan\n", "agent.toml:1: max_usd_per_day: nan is no amount in US dollars, more than 0"),
        ("max_usd_per_day = 'much'\n", "agent.toml:1: max_usd_per_day: 'much' is no amount in US dollars"),
        ("min_usd_per_million_tokens = true\n", "agent.toml:1: min_usd_per_million_tokens: True is no amount in US"),
        ("[spool]\nmax_bytes = 1\n", "agent.toml:1: spool: unknown setting"),
        ("keys = 'x'\n", "agent.toml:1: keys: 'x' is no table: write [keys] and, below it, OPENAI_API_KEY = "),
        ("\n[keys]\nK = 5\n", "agent.toml:2: keys: K: 5 is no origin, as in https://api.openai.com, and no list"),
        ("[keys]\nK = []\n", "agent.toml:1: keys: K: [] is no origin"),
        ("[keys]\nK = ['https://a', 5]\n", "agent.toml:1: keys: K: ['https://a', 5] is no origin"),
        ("[keys]\nK = 'a.example'\n", "agent.toml:1: keys: K: 'a.example' is no address: write http:// or https://"),
        ("[keys]\n'a b' = 'https://a'\n", "agent.toml:1: keys: a b is neither a variable nor a path: write a file"),
        ("[keys]\nallow = ['https://a']\n", "agent.toml:1: keys: allow is a setting: it stands before [keys]"),
        ("[key]\nK = 'https://a'\n", "agent.toml:1: key: unknown setting (did you mean 'keys'?)"),
        ("flush_interval\n", "agent.toml: not TOML: "),
        ("x = 1\nx = 2\n", "agent.toml: not TOML: "),
    ],
)
def test_a_wrong_file_is_refused_by_line_key_and_value(tmp_path: Path, toml: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        settings_from(tmp_path, toml)
    assert str(refused.value).startswith(f"{tmp_path}/{message}")
    assert "\n" not in str(refused.value)


def policy_of(tmp_path: Path, toml: str, mode: int = 0o644) -> dict[str, str]:
    file = tmp_path / "policy.toml"
    file.write_text(toml)
    file.chmod(mode)
    return {"ISOCHRONE_POLICY_FILE": str(file)}


def test_a_policy_stands_in_a_file_of_its_own_and_then_no_key_is_free(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, 'allow = ["https://a.example"]\nmax_requests_per_day = 5\n')
    settings = settings_from(tmp_path, 'flush_interval = "5s"\n', environment=policy)
    assert (settings.allow, settings.max_requests_per_day) == (("https://a.example:443",), 5)
    assert settings.keys == {}
    table = '[keys]\nA_KEY = "https://a.example"\n'
    assert settings_from(tmp_path, table, environment=policy).keys == {"A_KEY": ("https://a.example:443",)}
    assert settings_from(tmp_path, "", environment=policy_of(tmp_path, table)).keys == {
        "A_KEY": ("https://a.example:443",)
    }


def test_a_settings_file_may_name_the_policy(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, "max_in_flight = 2\n")["ISOCHRONE_POLICY_FILE"]
    assert settings_from(tmp_path, f'policy_file = "{policy}"\n').max_in_flight == 2


@pytest.mark.parametrize(
    ("toml", "environment", "message"),
    [
        ("max_in_flight = 2\n", {"ISOCHRONE_MAX_IN_FLIGHT": "9"}, "max_in_flight: stands among the agent's other"),
        ("allow = []\n", {"ISOCHRONE_ALLOW": "https://a"}, "allow: stands among the agent's other settings too"),
        (
            "log_level = 'DEBUG'\n",
            {},
            "log_level: no part of a policy, it stands in the settings: allow, allow_private",
        ),
        ("policy_file = 'x'\n", {}, "policy_file: no part of a policy"),
        ("allows = []\n", {}, ":1: allows: unknown setting (did you mean 'allow'?)"),
        ("min_interval = 5\n", {}, ":1: min_interval: 5 is no duration"),
    ],
)
def test_a_wrong_policy_is_refused(tmp_path: Path, toml: str, environment: dict[str, str], *, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        settings_from(tmp_path, "", environment=environment | policy_of(tmp_path, toml))
    assert str(refused.value).startswith(f"{tmp_path}/policy.toml")
    assert message in str(refused.value)


def test_a_policy_that_is_missing_or_open_to_everybody_stops_the_start(tmp_path: Path) -> None:
    """Without its bounds an agent must not run."""
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        settings_from(tmp_path, "", environment={"ISOCHRONE_POLICY_FILE": str(tmp_path / "none.toml")})
    with pytest.raises(ConfigError, match="everybody may change this policy"):
        settings_from(tmp_path, "", environment=policy_of(tmp_path, "", mode=0o666))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ISOCHRONE_FLUSH_INTERVAL": "soon"}, "environment: ISOCHRONE_FLUSH_INTERVAL: 'soon' is not a duration"),
        ({"ISOCHRONE_FLUSH_INTERVALL": "5s"}, "(did you mean ISOCHRONE_FLUSH_INTERVAL?)"),
        ({"ISOCHRONE_KEYS": "A=https://a"}, "ISOCHRONE_KEYS: stands in the settings file alone, as the table [keys]"),
        ({"ISOCHRONE_CREDENTIALS_FILE": "x"}, "(did you mean ISOCHRONE_CREDENTIAL_FILE?)"),
    ],
)
def test_a_wrong_variable_is_refused_by_name(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings(NEEDED | environment, file=None, flags={})
    assert message in str(refused.value)


def test_variables_of_the_collector_are_none_of_our_business() -> None:
    load_settings(NEEDED | {"ISOCHRONE_DATABASE_URL": "x", "ISOCHRONE_LISTEN": "y", "OTHER": "z"}, file=None, flags={})


@pytest.mark.parametrize("name", ["ISOCHRONE_COLLECTOR_URL", "ISOCHRONE_CREDENTIAL_FILE"])
def test_a_missing_setting_is_named(name: str) -> None:
    rest = {key: value for key, value in NEEDED.items() if key != name}
    with pytest.raises(ConfigError, match=f"{name} is not set"):
        load_settings(rest, file=None, flags={})


def test_a_missing_settings_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load_settings(NEEDED, file=tmp_path / "none.toml", flags={})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a"),
        ({"XDG_STATE_HOME": "/x"}, "/x/isochrone"),
        ({}, "/.local/state/isochrone"),
    ],
)
def test_state_stands_where_systemd_or_the_user_keeps_it(environment: dict[str, str], expected: str) -> None:
    assert default_state_dir(environment) == Path(expected)


def credential(tmp_path: Path, content: bytes, mode: int = 0o600) -> Path:
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_credential_is_one_line_of_a_private_file(tmp_path: Path) -> None:
    assert read_credential(credential(tmp_path, f"{TOKEN}\n".encode())) == TOKEN
    assert read_credential(credential(tmp_path, TOKEN.encode(), 0o440)) == TOKEN


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o666, 0o602])
def test_a_credential_that_everybody_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="chmod 600"):
        read_credential(credential(tmp_path, TOKEN.encode(), mode))


@pytest.mark.parametrize("content", [b"", b"\n", b"secret-thing", b"isoa_\xff", f"{TOKEN}\nX: y".encode()])
def test_what_is_no_credential_is_refused_without_being_shown(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match="holds no credential") as refused:
        read_credential(credential(tmp_path, content))
    assert "secret-thing" not in str(refused.value)
    assert "S3cret" not in str(refused.value)


def test_a_missing_credential_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_credential(tmp_path / "none")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://A.example/x?y", "https://a.example:443"),
        ("http://a.example", "http://a.example:80"),
        ("http://[2001:DB8::1]:81/", "http://[2001:db8::1]:81"),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, origin: str) -> None:
    assert str(parse_origin(url)) == origin
