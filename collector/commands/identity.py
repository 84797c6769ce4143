"""`isochrone-collector agents join-token|…|remove` and `tokens …`: who comes in, and who goes out."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from collector import identity
from collector.auth import Scope
from collector.config import database_url
from collector.errors import SettingsError
from collector.identity import UNPLACED, JoinTerms
from isochrone.durations import parse_duration

PIPED_COLUMNS: Final = 200

Run = Callable[[argparse.Namespace], int]


def add_agent_actions(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add what can be done with agents and join tokens."""
    _add_join_token(actions)
    listing = _command(actions, "join-tokens", _join_tokens, text="print the join tokens, without their secrets")
    listing.add_argument("--json", action="store_true", help="print JSON")
    end = _command(actions, "revoke-join-token", _revoke_join_token, text="end a join token")
    end.add_argument("id", metavar="ID", help="as agents join-tokens prints it")
    rotate = _command(actions, "rotate", _rotate, text="ask an agent to replace its credential")
    rotate.add_argument("name", metavar="NAME")
    revoke = _command(actions, "revoke", _revoke, text="end all that an agent may do, for ever")
    revoke.add_argument("name", metavar="NAME")
    revoke.add_argument("--reason", metavar="TEXT", help="kept, and shown in agents list --json")
    remove = _command(actions, "remove", _remove, text="free the name of a revoked agent; its results stay")
    remove.add_argument("name", metavar="NAME")


def add_token_actions(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add what can be done with the tokens of readers and administrators."""
    create = _command(actions, "create", _create_token, text="make a token for reading or administration")
    create.add_argument("name", metavar="NAME", help="what it is called in the list")
    create.add_argument("--scope", required=True, choices=[scope.value for scope in Scope])
    create.add_argument("--out", type=Path, metavar="FILE", help="write it there with mode 0600 instead of printing it")
    listing = _command(actions, "list", _list_tokens, text="print the tokens, without their secrets")
    listing.add_argument("--json", action="store_true", help="print JSON")
    revoke = _command(actions, "revoke", _revoke_token, text="end a token")
    revoke.add_argument("name", metavar="NAME")


def _add_join_token(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    join = _command(actions, "join-token", _join_token, text="make a token with which agents join; it is shown once")
    join.add_argument("--region", default=UNPLACED, metavar="REGION", help="where they stand: the name of a region")
    join.add_argument("--name", metavar="NAME", help="the one name that it lets in")
    join.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="may be given several times")
    join.add_argument("--cidr", metavar="NETWORKS", help="where it may be used from, separated by commas")
    join.add_argument("--uses", type=int, default=1, metavar="N", help="how many agents it lets in")
    join.add_argument("--ttl", default="1h", metavar="TTL", help="how long it lives, 1m to 30d")
    join.add_argument("--out", type=Path, metavar="FILE", help="write it there with mode 0600 instead of printing it")
    join.add_argument("--json", action="store_true", help="print JSON")


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, run: Run, *, text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(run=run)
    return parser


def _join_token(options: argparse.Namespace) -> int:
    terms = JoinTerms(
        region=options.region,
        name=options.name,
        labels=labels_of(options.label),
        cidr=options.cidr,
        uses=options.uses,
        ttl_seconds=_ttl(options.ttl),
    )
    url = database_url(os.environ)
    _hand_over(lambda: identity.make_join_token(url, terms), options.out, as_json=options.json)
    return 0


def _join_tokens(options: argparse.Namespace) -> int:
    entries = identity.list_join_tokens(database_url(os.environ))
    if options.json:
        return _print_json(entries)
    table = _table("id", "state", "region", "name", "uses left", "expires", "networks")
    for e in entries:
        table.add_row(
            e.id, e.state, e.agent_region, e.agent_name or "any", str(e.uses_left), _time(e.expires_at), e.cidr or "any"
        )
    return _print_table(table)


def _revoke_join_token(options: argparse.Namespace) -> int:
    identity.revoke_join_token(database_url(os.environ), options.id)
    return _say(f"join token {options.id}: revoked. Agents that joined with it stay: agents revoke NAME ends one")


def _rotate(options: argparse.Namespace) -> int:
    identity.rotate_agent(database_url(os.environ), options.name)
    return _say(f"agent {options.name}: asked to replace its credential, at its next contact")


def _revoke(options: argparse.Namespace) -> int:
    identity.revoke_agent(database_url(os.environ), options.name, options.reason)
    return _say(f"agent {options.name}: revoked; every collector refuses it within 30 s")


def _remove(options: argparse.Namespace) -> int:
    left = identity.remove_agent(database_url(os.environ), options.name)
    return _say(f"agent {options.name}: removed, its name is free; its results stay under {left}")


def _create_token(options: argparse.Namespace) -> int:
    url = database_url(os.environ)
    _hand_over(lambda: identity.make_access_token(url, options.name, Scope(options.scope)), options.out, as_json=False)
    return 0


def _list_tokens(options: argparse.Namespace) -> int:
    entries = identity.list_access_tokens(database_url(os.environ))
    if options.json:
        return _print_json(entries)
    table = _table("token", "scope", "created", "revoked")
    for e in entries:
        table.add_row(e.name, e.scope, _time(e.created_at), "" if e.revoked_at is None else _time(e.revoked_at))
    return _print_table(table)


def _revoke_token(options: argparse.Namespace) -> int:
    identity.revoke_access_token(database_url(os.environ), options.name)
    return _say(f"token {options.name}: revoked; every collector refuses it within 30 s")


def _hand_over(make: Callable[[], str], out: Path | None, *, as_json: bool) -> None:
    """Print the token that `make` makes, alone, or write it into a new file: the file comes first, the token after."""
    if out is None:
        token = make()
        sys.stdout.write((msgspec.json.encode({"token": token}).decode() if as_json else token) + "\n")
        return
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as exc:
        raise SettingsError(f"--out {out}: {exc.strerror}: name a file that does not exist yet") from exc
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(make() + "\n")
    except BaseException:
        out.unlink()
        raise
    sys.stdout.write((msgspec.json.encode({"file": str(out)}).decode() if as_json else f"token in {out}") + "\n")


def labels_of(pairs: Sequence[str]) -> dict[str, str]:
    """Return the labels in `KEY=VALUE` words; raise SettingsError for another form."""
    labels: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise SettingsError(f"--label {pair!r}: write KEY=VALUE")
        labels[key] = value
    return labels


def _ttl(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as exc:
        raise SettingsError(f"--ttl {text!r}: {exc}") from exc


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print_table(table: Table) -> int:
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_COLUMNS
    console.print(table)
    return 0


def _print_json(value: object) -> int:
    return _say(msgspec.json.encode(value).decode())


def _say(text: str) -> int:
    sys.stdout.write(text + "\n")
    return 0
