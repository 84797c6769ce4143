"""A key goes only to the origins it is bound to: those of the table [keys], or those it was first named with."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent import bindings
from agent.bindings import Bindings
from agent.config import parse_origin
from agent.providers import PROVIDERS, Ask
from agent.telemetry import LOG
from isochrone.config import ApiKey, Assignment, Duration, Module, Provider
from isochrone.outcome import Prober
from tests.simulated import inference

A, B, C = "https://a.example:443", "https://b.example:443", "http://c.example:8000"
KEY = ApiKey(env="SOME_KEY")
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CHAT = Module(prober=Prober.INFERENCE, interval=Duration(60), timeout=Duration(30))


def target(url: str, key: ApiKey | None = KEY) -> Assignment:
    return Assignment(endpoint="e", module="m", url=url, options=CHAT, api_key=key)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == LOG.name]


@pytest.mark.parametrize(
    ("table", "key", "origin", "words"),
    [
        ({"SOME_KEY": (A,)}, KEY, A, None),
        ({"SOME_KEY": (A, C)}, KEY, C, None),
        ({"SOME_KEY": (A,)}, KEY, B, f"the key SOME_KEY is bound to {A}, not to {B}: {B} may get it once"),
        ({"SOME_KEY": (A,)}, KEY, "http://a.example:80", "is bound to"),
        ({"SOME_KEY": (A,)}, KEY, "https://a.example:8443", "is bound to"),
        ({"SOME_KEY": (A,)}, ApiKey(env="OTHER"), A, "the key OTHER is not in the table [keys]"),
        ({}, KEY, A, "is not in the table [keys]"),
        ({"/run/key": (A,)}, ApiKey(file="/run/key"), A, None),
        ({"/run/key": (A,)}, ApiKey(file="/run/./key"), A, "is not in the table [keys]"),
        ({"./key": (A,)}, ApiKey(file="key"), A, None),
        ({"SOME_KEY": (A,)}, ApiKey(file="SOME_KEY"), A, "the key ./SOME_KEY is not in the table [keys]"),
    ],
)
def test_the_table_is_the_whole_list(
    *, table: dict[str, tuple[str, ...]], key: ApiKey, origin: str, words: str | None
) -> None:
    bound = Bindings(table)
    bound.agree([target(origin, key)])
    refusal = bound.refusal(key, origin)
    assert (refusal is None) == (words is None)
    assert words is None or words in str(refusal)


def test_without_a_table_all_origins_of_the_first_configuration_are_bound_and_no_later_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bound = Bindings(None)
    bound.agree([target("https://a.example/v1"), target("http://c.example:8000"), target("no url"), target(B, None)])
    assert [bound.refusal(KEY, origin) for origin in (A, C)] == [None, None]
    assert told(caplog) == []
    bound.agree([target(B), target(A)])
    assert bound.refusal(KEY, A) is None
    assert "is bound to http://c.example:8000 and 1 more, not to https://b.example:443: write" in str(
        bound.refusal(KEY, B)
    )
    (line,) = told(caplog)
    assert all(word in line for word in ("SOME_KEY", "http://c.example:8000 and 1 more", B, "denied"))


def test_a_key_that_went_out_of_the_configuration_stays_bound() -> None:
    bound = Bindings(None)
    for targets in ([target(A)], [], [target(B)]):
        bound.agree(targets)
    assert bound.refusal(KEY, B) is not None


def test_a_key_that_comes_later_is_bound_then() -> None:
    bound = Bindings(None)
    bound.agree([target(A)])
    bound.agree([target(A), target(B, ApiKey(env="LATER"))])
    assert bound.refusal(ApiKey(env="LATER"), B) is None


@pytest.mark.parametrize("first", ["key", "link"])
def test_a_file_by_another_name_is_the_same_key(tmp_path: Path, first: str) -> None:
    (tmp_path / "key").write_text("sk")
    (tmp_path / "link").symlink_to(tmp_path / "key")
    bound = Bindings(None)
    bound.agree([target(A, ApiKey(file=str(tmp_path / first)))])
    for name in (f"{tmp_path}/./key", f"{tmp_path}/link", f"{tmp_path}/key", f"/proc/self/root{tmp_path}/key"):
        bound.agree([target(B, ApiKey(file=name))])
        assert bound.refusal(ApiKey(file=name), B) is not None
        assert bound.refusal(ApiKey(file=name), A) is None


def test_a_secret_that_is_replaced_behind_its_link_stays_bound(tmp_path: Path) -> None:
    """As Kubernetes does it: the path stays, the file behind it is another."""
    link = tmp_path / "key"
    bound = Bindings(None)
    for version in ("1", "2"):
        (tmp_path / version).write_text("sk")
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / version)
        bound.agree([target(A, ApiKey(file=str(link)))])
        assert bound.refusal(ApiKey(file=str(link)), A) is None
    assert bound.refusal(ApiKey(file=str(link)), B) is not None


def test_ever_new_names_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bindings, "MAX_KEYS", 2)
    bound = Bindings(None)
    bound.agree([target(A, ApiKey(env=f"KEY_{index}")) for index in range(3)])
    assert [bound.refusal(ApiKey(env=f"KEY_{index}"), A) is None for index in range(3)] == [True, True, False]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("path", ["", "/v1", "/v1/projects/p/locations/l/publishers/google"])
def test_no_format_asks_elsewhere_than_at_the_targets_origin(provider: Provider, path: str) -> None:
    """The allow-list and the bindings judge the target's URL; what is dialled must not differ."""
    base = "https://bedrock-runtime.eu-central-1.amazonaws.com:8443"
    asked = inference(base + path, provider=provider)
    ask = Ask(target=asked, key="k" * 20, prompt="p", at=NOW)
    assert str(parse_origin(PROVIDERS[provider].request(ask).url)) == base
