"""Credentials of agents: form, comparison, one answer for every wrong one."""

from hashlib import sha256

import pytest

from collector.auth import (
    AccessToken,
    Credential,
    Keyhole,
    Scope,
    authenticate,
    bearer_token,
    check_scope,
    key_id_of,
    new_access_token,
    new_credential,
)
from collector.errors import Refused


def stored(*, revoked: bool = False) -> tuple[str, dict[str, Credential]]:
    new = new_credential()
    credential = Credential(key_id=new.key_id, agent_id=7, secret_sha256=new.secret_sha256, revoked=revoked)
    return new.token, {new.key_id: credential}


def test_a_new_credential_opens_its_agent_and_is_stored_as_a_digest() -> None:
    token, credentials = stored()
    assert authenticate(token, credentials).agent_id == 7
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
    check_scope(None, Scope.READ, Keyhole(file_sha256=None, tokens=()))
    guarded = Keyhole(file_sha256=sha256(b"t").hexdigest(), tokens=())
    check_scope("Bearer t", Scope.READ, guarded)
    check_scope("Bearer t", Scope.ADMIN, guarded)
    for header in (None, "Bearer u"):
        with pytest.raises(Refused):
            check_scope(header, Scope.READ, guarded)


def access(scope: Scope, *, revoked: bool = False) -> tuple[str, AccessToken]:
    made = new_access_token()
    entry = AccessToken(id=made.key_id, scope=scope, secret_sha256=made.secret_sha256, revoked=revoked)
    return f"Bearer {made.token}", entry


def kind_of(header: str | None, scope: Scope, *tokens: AccessToken) -> str | None:
    """Return what the header is refused as; None when it is let through."""
    try:
        check_scope(header, scope, Keyhole(file_sha256=None, tokens=tokens))
    except Refused as exc:
        return exc.kind
    return None


def test_an_administrator_may_read_and_a_reader_may_not_administer() -> None:
    reader, read = access(Scope.READ)
    administrator, admin = access(Scope.ADMIN)
    assert kind_of(reader, Scope.READ, read, admin) is None
    assert kind_of(administrator, Scope.READ, read, admin) is None
    assert kind_of(administrator, Scope.ADMIN, read, admin) is None
    assert kind_of(reader, Scope.ADMIN, read, admin) == "forbidden"
    assert kind_of(None, Scope.ADMIN, admin) == "unauthorized"
    assert kind_of(reader, Scope.ADMIN, admin) == "unauthorized"


def test_until_there_is_an_administrators_token_administration_is_guarded_like_reading() -> None:
    reader, read = access(Scope.READ)
    assert kind_of(None, Scope.ADMIN) is None
    assert kind_of(reader, Scope.ADMIN, read) is None
    assert kind_of(None, Scope.ADMIN, read) == "unauthorized"


def test_a_revoked_token_opens_nothing_and_what_it_guarded_stays_closed() -> None:
    reader, read = access(Scope.READ, revoked=True)
    for header in (reader, None):
        assert kind_of(header, Scope.READ, read) == "unauthorized"


def test_a_secret_opens_its_own_token_alone() -> None:
    reader, read = access(Scope.READ)
    other, admin = access(Scope.ADMIN)
    mixed = reader[: len("Bearer isot_") + 17] + other.rpartition("_")[2]
    assert kind_of(mixed, Scope.READ, read, admin) == "unauthorized"
