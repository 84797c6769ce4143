"""Where results go beside the database: refused with variable and value, no secret repeated."""

from pathlib import Path

import pytest

from collector.config import load_settings
from collector.errors import SettingsError
from collector.receivers import Receiver, Receivers, load_receivers

OTLP = {"ISOCHRONE_OTLP_URL": "http://otel:4318/v1/metrics"}
WRITE = {"ISOCHRONE_REMOTE_WRITE_URL": "https://prometheus/api/v1/write"}


def test_nothing_is_exported_unless_it_is_asked_for() -> None:
    assert load_receivers({}) == Receivers()
    assert load_settings({"ISOCHRONE_DATABASE_URL": "postgresql://h/d"}).receivers == Receivers()


def test_headers_come_from_the_environment_and_from_a_file(tmp_path: Path) -> None:
    secrets = tmp_path / "headers"
    secrets.write_text("Authorization: Bearer hunter2\n\nX-Scope-OrgID: team: 1\n")
    more = {"ISOCHRONE_OTLP_HEADERS": "x-one=1, x-two=a%20b", "ISOCHRONE_OTLP_HEADERS_FILE": str(secrets)}
    receiver = load_receivers(OTLP | more).otlp
    assert receiver is not None
    assert receiver.headers == (
        ("x-one", "1"),
        ("x-two", "a b"),
        ("Authorization", "Bearer hunter2"),
        ("X-Scope-OrgID", "team: 1"),
    )


def test_a_receiver_shows_no_secret() -> None:
    receiver = Receiver(url="https://h/p?key=hunter2", headers=(("Authorization", "Bearer hunter2"),))
    assert "hunter2" not in f"{receiver!r}{receiver}{Receivers(otlp=receiver)!r}"
    assert "Authorization" in repr(receiver)


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        (OTLP | {"ISOCHRONE_OTLP_HEADERS": "hunter2"}, "ISOCHRONE_OTLP_HEADERS"),
        (OTLP | {"ISOCHRONE_OTLP_HEADERS": "a b=hunter2"}, "ISOCHRONE_OTLP_HEADERS"),
        (OTLP | {"ISOCHRONE_OTLP_HEADERS": "a=hunter2%0d%0ab: c"}, "ISOCHRONE_OTLP_HEADERS"),
        (OTLP | {"ISOCHRONE_OTLP_HEADERS": "content-type=hunter2"}, "ISOCHRONE_OTLP_HEADERS"),
        (WRITE | {"ISOCHRONE_REMOTE_WRITE_HEADERS_FILE": "/does/not/exist"}, "ISOCHRONE_REMOTE_WRITE_HEADERS_FILE"),
        ({"ISOCHRONE_OTLP_HEADERS": "a=hunter2"}, "ISOCHRONE_OTLP_URL"),
        ({"ISOCHRONE_OTLP_URL": "https://user:hunter2@h/p"}, "ISOCHRONE_OTLP_HEADERS_FILE"),
        ({"ISOCHRONE_OTLP_URL": "https://h?key=hunter2"}, "/v1/metrics"),
        ({"ISOCHRONE_REMOTE_WRITE_URL": "prometheus:9090"}, "/api/v1/write"),
        ({"ISOCHRONE_REMOTE_WRITE_URL": "ftp://h/p"}, "/api/v1/write"),
        ({"ISOCHRONE_REMOTE_WRITE_URL": "http://[::1/p"}, "ISOCHRONE_REMOTE_WRITE_URL"),
        ({"ISOCHRONE_REMOTE_WRITE_MAX_AGE": "8d"}, "ISOCHRONE_REMOTE_WRITE_MAX_AGE='8d'"),
        ({"ISOCHRONE_REMOTE_WRITE_OUT_OF_ORDER": "soon"}, "ISOCHRONE_REMOTE_WRITE_OUT_OF_ORDER='soon'"),
        ({"ISOCHRONE_EXPORT_QUEUE_RESULTS": "0"}, "ISOCHRONE_EXPORT_QUEUE_RESULTS='0'"),
        ({"ISOCHRONE_EXPORT_CA_FILE": "/does/not/exist"}, "ISOCHRONE_EXPORT_CA_FILE='/does/not/exist'"),
    ],
)
def test_a_wrong_setting_is_refused_by_name_without_its_secret(environment: dict[str, str], name: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_receivers(environment)
    assert name in str(refused.value)
    assert "hunter2" not in str(refused.value)
