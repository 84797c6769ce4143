"""Who comes in, and who goes out: plain functions, one transaction each, for the API and for commands.

A request that is repeated because its answer was lost is answered as the first time: its key id names it.
"""

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from collector import auth
from collector.auth import Scope
from collector.errors import NameTaken, Refused, SettingsError
from collector.store import agents, credentials, tokens
from collector.store.credentials import Fresh, Held
from collector.store.engine import Connection, admin_transaction
from collector.store.tokens import AccessTokenEntry, JoinToken, JoinTokenEntry
from isochrone.names import MAX_TEXT, Name, check_name, printable

UNPLACED: Final = "unplaced"
"""Region of an agent whose join token names none."""
MAX_CREDENTIALS: Final = 8
"""Good ones of one agent: a rotation that is broken off again and again must not fill the table."""
MAX_USES: Final = 100_000
MIN_TTL_SECONDS: Final = 60.0
MAX_TTL_SECONDS: Final = 30 * 86_400.0

KeyId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]

_NO_ENTRY: Final = (
    "This join token does not let you in: it is unknown, used up, expired, revoked,"
    " or meant for another name or another network. Ask the operator of the collector for a new one."
)


class Enrolment(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent says of itself when it joins: its secret stays with it."""

    name: Name
    key_id: KeyId
    """Of its own making, the same in every repeat: names the enrolment, too."""
    secret_sha256: Digest


class Enrolled(msgspec.Struct, frozen=True, kw_only=True):
    """What the collector made of it."""

    agent: str
    agent_region: str
    key_id: str


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A credential that an agent made for itself."""

    key_id: KeyId
    secret_sha256: Digest


class JoinTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a join token is to allow."""

    region: str = UNPLACED
    name: str | None = None
    labels: Mapping[str, str] = {}
    cidr: str | None = None
    """Networks, separated by commas."""
    uses: int = 1
    ttl_seconds: float = 3600.0


def enroll(connection: Connection, enrolment: Enrolment, *, token: str, address: str | None) -> Enrolled:
    """Let an agent in and take one use of its join token; a repeat changes nothing. Raise Refused."""
    token_id = auth.join_token_id(token)
    known = None if token_id is None else tokens.find_join_token(connection, token_id)
    holds = auth.holds_join_token(token, None if known is None else known.secret_sha256)
    if known is None or not holds:
        raise _no_entry()
    credentials.lock_key(connection, enrolment.key_id)
    held = credentials.find_credential(connection, enrolment.key_id)
    if held is not None:
        return _repeated(enrolment, held, known)
    if not _fits(known, enrolment.name, address) or not tokens.consume_join_token(connection, known.id):
        raise _no_entry()
    return _admit(connection, enrolment, known)


def renew(connection: Connection, key: NewKey, *, agent_id: int, replaces: str) -> None:
    """Give the agent the credential that it made for itself; a repeat changes nothing. Raise Refused."""
    credentials.lock_key(connection, key.key_id)
    held = credentials.find_credential(connection, key.key_id)
    if held is not None:
        if held.agent_id != agent_id or held.secret_sha256 != key.secret_sha256:
            raise _key_taken()
        return
    if credentials.count_live(connection, agent_id) >= MAX_CREDENTIALS:
        raise Refused("key_taken", f"This agent has {MAX_CREDENTIALS} good credentials: more are not taken.")
    fresh = Fresh(key_id=key.key_id, agent_id=agent_id, secret_sha256=key.secret_sha256, replaces=replaces)
    credentials.insert_fresh(connection, fresh)


def make_join_token(database_url: str, terms: JoinTerms) -> str:
    """Return a new join token, shown this once. Raise SettingsError, DatabaseUnavailable."""
    _check_terms(terms)
    made = auth.new_join_token()
    token = JoinToken(
        id=made.key_id,
        secret_sha256=made.secret_sha256,
        agent_region=terms.region,
        agent_name=terms.name,
        labels=dict(terms.labels),
        cidr=terms.cidr,
    )
    with admin_transaction(database_url) as connection:
        tokens.insert_join_token(connection, token, uses=terms.uses, ttl_seconds=terms.ttl_seconds)
    return made.token


def list_join_tokens(database_url: str) -> list[JoinTokenEntry]:
    """Return all join tokens, the oldest first."""
    with admin_transaction(database_url) as connection:
        return tokens.list_join_tokens(connection)


def revoke_join_token(database_url: str, token_id: str) -> None:
    """End a join token; raise SettingsError when there is none of that id."""
    with admin_transaction(database_url) as connection:
        if not tokens.revoke_join_token(connection, token_id):
            raise SettingsError(f"no join token {_shown(token_id)}: see isochrone-collector agents join-tokens")


def rotate_agent(database_url: str, name: str) -> None:
    """Ask an agent for a new credential; raise SettingsError when there is none of that name to be asked."""
    with admin_transaction(database_url) as connection:
        if not credentials.ask_rotation(connection, name):
            raise SettingsError(f"no agent {_shown(name)} that is not revoked: see isochrone-collector agents list")


def revoke_agent(database_url: str, name: str, reason: str | None) -> None:
    """End all that an agent may do; raise SettingsError when there is none of that name."""
    text = None if reason is None else printable(reason, limit=MAX_TEXT)
    with admin_transaction(database_url) as connection:
        if not credentials.revoke_agent(connection, name, text):
            raise SettingsError(f"no agent {_shown(name)}: see isochrone-collector agents list")


def remove_agent(database_url: str, name: str) -> str:
    """Free the name of a revoked agent; return the name that its results keep. Raise SettingsError."""
    with admin_transaction(database_url) as connection:
        left = credentials.remove_agent(connection, name)
    if left is None:
        raise SettingsError(f"no revoked agent {_shown(name)}: revoke it first, or see isochrone-collector agents list")
    return left


def make_access_token(database_url: str, name: str, scope: Scope) -> str:
    """Return a new access token, shown this once. Raise SettingsError, NameTaken, DatabaseUnavailable."""
    _check_name(name, "name")
    made = auth.new_access_token()
    values = {"id": made.key_id, "name": name, "scope": scope.value, "secret_sha256": made.secret_sha256}
    with admin_transaction(database_url) as connection:
        if not tokens.insert_access_token(connection, values):
            raise NameTaken(f"a token named {name!r} exists, or did: choose another name")
    return made.token


def list_access_tokens(database_url: str) -> list[AccessTokenEntry]:
    """Return all access tokens by name."""
    with admin_transaction(database_url) as connection:
        return tokens.list_access_tokens(connection)


def revoke_access_token(database_url: str, name: str) -> None:
    """End an access token; raise SettingsError when there is none of that name."""
    with admin_transaction(database_url) as connection:
        if not tokens.revoke_access_token(connection, name):
            raise SettingsError(f"no token {_shown(name)}: see isochrone-collector tokens list")


def _repeated(enrolment: Enrolment, held: Held, token: JoinToken) -> Enrolled:
    if held.secret_sha256 != enrolment.secret_sha256 or held.join_token_id != token.id:
        raise _key_taken()
    if held.agent != enrolment.name:
        raise Refused("key_taken", f"This credential was enrolled as {held.agent}: enrol with that name again.")
    return Enrolled(agent=held.agent, agent_region=held.agent_region, key_id=held.key_id)


def _admit(connection: Connection, enrolment: Enrolment, token: JoinToken) -> Enrolled:
    agents.ensure_region(connection, token.agent_region)
    agent_id = agents.insert_agent(connection, name=enrolment.name, region=token.agent_region, labels=token.labels)
    if agent_id is None:  # the transaction is undone: the token keeps its use
        raise Refused("name_taken", f"An agent named {enrolment.name} exists: choose another name.")
    credentials.insert_fresh(
        connection,
        Fresh(
            key_id=enrolment.key_id,
            agent_id=agent_id,
            secret_sha256=enrolment.secret_sha256,
            join_token_id=token.id,
        ),
    )
    return Enrolled(agent=enrolment.name, agent_region=token.agent_region, key_id=enrolment.key_id)


def _fits(token: JoinToken, name: str, address: str | None) -> bool:
    if token.agent_name is not None and token.agent_name != name:
        return False
    return token.cidr is None or (address is not None and _is_within(address, token.cidr))


def _is_within(address: str, cidr: str) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return any((mapped or found) in ipaddress.ip_network(part.strip()) for part in cidr.split(","))


def _check_terms(terms: JoinTerms) -> None:
    _check_name(terms.region, "--region")
    if terms.name is not None:
        _check_name(terms.name, "--name")
    if not 1 <= terms.uses <= MAX_USES:
        raise SettingsError(f"--uses {terms.uses}: write a number from 1 to {MAX_USES}")
    if terms.name is not None and terms.uses > 1:
        raise SettingsError(f"--uses {terms.uses}: a token for one name has one use")
    if not MIN_TTL_SECONDS <= terms.ttl_seconds <= MAX_TTL_SECONDS:
        raise SettingsError("--ttl: write a duration from 1m to 30d, as in 1h")
    for part in (terms.cidr or "").split(",") if terms.cidr is not None else ():
        _check_network(part.strip())


def _check_network(part: str) -> None:
    try:
        ipaddress.ip_network(part)
    except ValueError as exc:
        raise SettingsError(f"--cidr {_shown(part)}: {exc}: write networks as in 10.0.0.0/8,2001:db8::/32") from exc


def _check_name(value: str, place: str) -> None:
    try:
        check_name(value, place=place)
    except ValueError as exc:
        raise SettingsError(str(exc)) from exc


def _shown(text: str) -> str:
    return printable(repr(text), limit=80)


def _no_entry() -> Refused:
    return Refused("unauthorized", _NO_ENTRY)


def _key_taken() -> Refused:
    return Refused("key_taken", "This key id is in use: make a new key.")
