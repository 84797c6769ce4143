"""The collector's settings: read once, refused with variable and value, secrets never repeated."""

from pathlib import Path

import pytest

from collector.auth import Keyhole, Scope, check_scope
from collector.config import Listen, load_settings
from collector.errors import SettingsError

URL = {"ISOCHRONE_DATABASE_URL": "postgresql://u:hunter2@h/d"}


def test_what_is_not_set_has_its_default() -> None:
    settings = load_settings(URL)
    assert (settings.listen, settings.flush_seconds, settings.late_seconds) == (Listen("127.0.0.1", 8420), 10.0, 300.0)
    assert settings.read_token_sha256 is None


def test_bounds_of_histograms_are_read_in_order() -> None:
    settings = load_settings({**URL, "ISOCHRONE_TIME_BOUNDS": "0.01, 0.5,1", "ISOCHRONE_RATE_BOUNDS": "10"})
    assert (settings.time_bounds, settings.rate_bounds) == ((0.01, 0.5, 1.0), (10.0,))


def test_a_flag_wins_over_the_environment() -> None:
    settings = load_settings({**URL, "ISOCHRONE_LISTEN": "0.0.0.0:1"}, listen="[::1]:2")
    assert settings.listen == Listen("::1", 2)
    assert str(settings.listen) == "[::1]:2"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ISOCHRONE_LISTEN", "8420"),
        ("ISOCHRONE_LISTEN", "host:port"),
        ("ISOCHRONE_LISTEN", "host:65536"),
        ("ISOCHRONE_LISTEN", ":1"),
        ("ISOCHRONE_LISTEN", "a..b:80"),
        ("ISOCHRONE_FLUSH_SECONDS", "0"),
        ("ISOCHRONE_FLUSH_SECONDS", "soon"),
        ("ISOCHRONE_FLUSH_SECONDS", "nan"),
        ("ISOCHRONE_LATE_SECONDS", "-1"),
        ("ISOCHRONE_KEEP_RESULTS", "7d"),
        ("ISOCHRONE_KEEP_BATCHES", "3651d"),
        ("ISOCHRONE_KEEP_RUNS", "30"),
        ("ISOCHRONE_KEEP_MINUTES", "0d"),
        ("ISOCHRONE_KEEP_HOURS", "for ever"),
        ("ISOCHRONE_KEEP_HOURS", "29d"),
        ("ISOCHRONE_READ_TOKEN_FILE", "/does/not/exist"),
        ("ISOCHRONE_MAX_SERIES", "0"),
        ("ISOCHRONE_SERIES_TTL", "59s"),
        ("ISOCHRONE_SERIES_TTL", "366d"),
        ("ISOCHRONE_SERIES_TTL", "3600"),
        ("ISOCHRONE_TIME_BOUNDS", ""),
        ("ISOCHRONE_TIME_BOUNDS", "0.1;0.2"),
        ("ISOCHRONE_TIME_BOUNDS", "0.2,0.1"),
        ("ISOCHRONE_TIME_BOUNDS", "0.1,0.1"),
        ("ISOCHRONE_TIME_BOUNDS", "0,1"),
        ("ISOCHRONE_TIME_BOUNDS", "0.1,nan"),
        ("ISOCHRONE_TIME_BOUNDS", "0.1,inf"),
        ("ISOCHRONE_RATE_BOUNDS", "1,1000000"),
        ("ISOCHRONE_RATE_BOUNDS", ",".join(map(str, range(1, 202)))),
        ("ISOCHRONE_TRUSTED_PROXIES", "balancer"),
        ("ISOCHRONE_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("ISOCHRONE_TRUSTED_PROXIES", "10.0.0.1,,"),
    ],
)
def test_a_wrong_setting_is_refused_by_name_and_value(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name) as refused:
        load_settings({**URL, name: value})
    assert value in str(refused.value)


@pytest.mark.parametrize("url", ["", "mysql://u:hunter2@h/d", "hunter2"])
def test_a_wrong_database_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingsError, match="ISOCHRONE_DATABASE_URL") as refused:
        load_settings({"ISOCHRONE_DATABASE_URL": url})
    assert "hunter2" not in str(refused.value)


def test_a_wrong_reading_database_is_refused_without_repeating_it() -> None:
    with pytest.raises(SettingsError, match="ISOCHRONE_READ_DATABASE_URL") as refused:
        load_settings({**URL, "ISOCHRONE_READ_DATABASE_URL": "mysql://u:hunter3@h/d"})
    assert "hunter3" not in str(refused.value)


def test_trusted_proxies_are_addresses_and_networks() -> None:
    settings = load_settings({**URL, "ISOCHRONE_TRUSTED_PROXIES": "10.0.0.1, 2001:db8::/32"})
    assert settings.trusted_proxies == ("10.0.0.1/32", "2001:db8::/32")


def test_a_read_token_is_kept_as_its_digest_and_must_not_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("secret\n", encoding="utf-8")
    settings = load_settings({**URL, "ISOCHRONE_READ_TOKEN_FILE": str(path)})
    assert "secret" not in repr(settings)
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="empty"):
        load_settings({**URL, "ISOCHRONE_READ_TOKEN_FILE": str(path)})


@pytest.mark.parametrize("token", ["two words", "two\nlines", "schlüssel", "\ufefftoken", "a\x00b", "x" * 250])
def test_a_read_token_that_no_header_can_carry_is_refused_without_repeating_it(tmp_path: Path, token: str) -> None:
    path = tmp_path / "file"
    path.write_text(token, encoding="utf-8")
    with pytest.raises(SettingsError, match="ISOCHRONE_READ_TOKEN_FILE") as refused:
        load_settings({**URL, "ISOCHRONE_READ_TOKEN_FILE": str(path)})
    assert token not in str(refused.value)


@pytest.mark.parametrize("token", ["x", "!~", "x" * 249])
def test_every_read_token_that_is_taken_opens(tmp_path: Path, token: str) -> None:
    path = tmp_path / "file"
    path.write_text(f"{token}\n", encoding="utf-8")
    settings = load_settings({**URL, "ISOCHRONE_READ_TOKEN_FILE": str(path)})
    check_scope(f"Bearer {token}", Scope.READ, Keyhole(file_sha256=settings.read_token_sha256, tokens=()))
