"""Credentials of agents: form, comparison, one answer for every wrong one."""

from hashlib import sha256

import pytest

from collector.auth import Credential, authenticate, bearer_token, check_read_token, key_id_of, new_credential
from collector.errors import Refused


def stored(*, revoked: bool = False) -> tuple[str, dict[str, Credential]]:
    new = new_credential()
    credential = Credential(key_id=new.key_id, agent_id=7, secret_sha256=new.secret_sha256, revoked=revoked)
    return new.token, {new.key_id: credential}


def test_a_new_credential_opens_its_agent_and_is_stored_as_a_digest() -> None:
    token, credentials = stored()
    assert authenticate(token, credentials) == 7
    (credential,) = credentials.values()
    secret = token.split("_", 2)[2]
    assert credential.secret_sha256 == sha256(secret.encode()).hexdigest()
    assert secret not in repr(credential)


def test_no_two_credentials_are_alike() -> None:
    assert len({new_credential().token for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "change", [lambda t: t[:-1] + "!", lambda t: t + "x", lambda t: t[5:], str.upper, lambda _t: ""]
)
def test_a_changed_token_opens_nothing(change: object) -> None:
    assert callable(change)
    token, credentials = stored()
    with pytest.raises(Refused) as refused:
        authenticate(change(token), credentials)
    assert refused.value.kind == "unauthorized"


def test_an_unknown_key_and_a_wrong_secret_are_told_the_same() -> None:
    token, credentials = stored()
    other, _ = stored()
    with pytest.raises(Refused) as unknown:
        authenticate(other, credentials)
    with pytest.raises(Refused) as wrong:
        authenticate(token[:22] + other[22:], credentials)
    assert (str(unknown.value), unknown.value.kind) == (str(wrong.value), wrong.value.kind)


def test_revocation_is_told_only_to_the_holder_of_the_secret() -> None:
    token, credentials = stored(revoked=True)
    with pytest.raises(Refused) as refused:
        authenticate(token, credentials)
    assert refused.value.kind == "revoked"
    with pytest.raises(Refused) as wrong:
        authenticate(token[:-4] + "AAA_", credentials)
    assert wrong.value.kind == "unauthorized"


@pytest.mark.parametrize(
    "header", [None, "", "Basic abc", "Bearer", "Bearer a b", "Bearer \u00e9", "Bearer " + "x" * 300]
)
def test_a_header_without_a_bearer_token_is_refused(header: str | None) -> None:
    with pytest.raises(Refused):
        bearer_token(header)


def test_the_scheme_is_read_in_any_case() -> None:
    assert bearer_token("bEARER abc") == "abc"
    assert key_id_of("abc") is None


def test_reading_is_open_without_a_read_token_and_closed_with_one() -> None:
    check_read_token(None, expected_sha256=None)
    digest = sha256(b"t").hexdigest()
    check_read_token("Bearer t", expected_sha256=digest)
    for header in (None, "Bearer u"):
        with pytest.raises(Refused):
            check_read_token(header, expected_sha256=digest)
