"""`isochrone-collector`: arguments in, exit code out. 0: done; 1: it failed; 2: wrong usage, setting or file."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from collector import admin, app, up
from collector.api.asking import MAX_WINDOW_SECONDS
from collector.commands import identity, rollups
from collector.commands.identity import labels_of
from collector.config import database_url, load_settings
from collector.errors import CollectorError, SettingsError, TargetsRefused
from collector.fleet import DEFAULT_WINDOW_SECONDS, View
from collector.fleettable import agent_cells
from collector.registry import ALL_PERCENT, items_of
from collector.rollout import Applied, Rollout
from isochrone.config import Selector, Targets, enc_hook
from isochrone.durations import format_duration, parse_duration

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
_WHOLE: Final = frozenset({"agent", "state", "endpoint", "module", "prober", "interval"})
"""Columns whose words stay in one piece."""
PIPED_COLUMNS: Final = 200
"""Width of tables that go to a file or a pipe."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except TargetsRefused as exc:
        _print_problems(exc.problems, as_json=getattr(options, "json", False))
        return EXIT_USAGE
    except SettingsError as exc:
        print(f"isochrone-collector: {exc}", file=sys.stderr)
        return EXIT_USAGE
    except CollectorError as exc:
        print(f"isochrone-collector: {exc}", file=sys.stderr)
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="isochrone-collector",
        description="Takes in what agents measure, keeps it in Postgres, exposes metrics.",
        epilog="Settings come from the environment: ISOCHRONE_DATABASE_URL, ISOCHRONE_LISTEN and others.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('isochrone')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up.add_parser(commands)
    serve = _command(commands, "serve", _serve, text="serve agents and readers until told to stop")
    serve.add_argument(
        "--listen", metavar="HOST:PORT", help="where to listen (default: ISOCHRONE_LISTEN, 127.0.0.1:8420)"
    )
    serve.add_argument(
        "--targets", type=Path, metavar="FILE", help="target file, read again on SIGHUP and POST /-/reload"
    )
    serve.add_argument("--migrate", action="store_true", help="bring the schema up to date first")
    migrate = _command(commands, "migrate", _migrate, text="bring the database's schema to this release")
    migrate.add_argument("--distributed", action="store_true", help="spread the tables over machines with Citus")
    _add_targets(commands)
    _add_agents(commands)
    tokens = commands.add_parser("tokens", help="make, list or end the tokens of readers and administrators")
    identity.add_token_actions(tokens.add_subparsers(required=True, metavar="ACTION"))
    rolled = commands.add_parser("rollups", help="make what is kept by minute and by hour anew")
    rollups.add_actions(rolled.add_subparsers(required=True, metavar="ACTION"))
    return parser


def _add_targets(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("targets", help="check, apply or show what is probed")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    check = _command(actions, "check", _targets_check, text="say whether a target file is right; needs no database")
    apply = _command(actions, "apply", _targets_apply, text="make a target file the current one")
    apply.add_argument(
        "--canary", type=_share, metavar="SHARE", help="give it to a share of the agents first, as in 10%%"
    )
    promote = _command(actions, "promote", _targets_promote, text="give the canary to more agents, in steps up to all")
    show = _command(actions, "show", _targets_show, text="print the current targets and who runs what")
    show.add_argument("--revision", type=int, metavar="N", help="print that revision's targets")
    back = _command(actions, "rollback", _targets_rollback, text="make the content of an earlier revision the newest")
    back.add_argument("revision", type=int, nargs="?", metavar="REVISION", help="default: the one before")
    for action in (check, apply):
        action.add_argument("file", type=Path, metavar="FILE")
    for action in (apply, back):
        action.add_argument("--confirm", action="store_true", help="take away most of what is probed, if need be")
    for action in (check, apply, promote, show, back):
        action.add_argument("--json", action="store_true", help="print JSON")


def _share(text: str) -> int:
    """Return the percent of `10%`; raise ArgumentTypeError that tells the form."""
    number = text.removesuffix("%")
    if not (number.isascii() and number.isdigit() and 0 < int(number) < ALL_PERCENT):
        raise argparse.ArgumentTypeError(f"{text!r} is no share: write 1% to 99%")
    return int(number)


def _add_agents(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("agents", help="let agents in, list them, send them out")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    add = _command(actions, "add", _agents_add, text="register an agent and write its credential into a file")
    add.add_argument("name", metavar="NAME")
    add.add_argument("--region", required=True, metavar="REGION", help="where it stands: the name of a region")
    add.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="may be given several times")
    add.add_argument("--credential-file", required=True, type=Path, metavar="FILE", help="created with mode 0600")
    listing = _command(actions, "list", _agents_list, text="print the registered agents and how they are")
    listing.add_argument(
        "--window", type=_window, default=DEFAULT_WINDOW_SECONDS, metavar="DURATION", help="of coverage (default: 1h)"
    )
    for action in (add, listing):
        action.add_argument("--json", action="store_true", help="print JSON")
    identity.add_agent_actions(actions)


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    text: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(run=run)
    return parser


def _serve(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for foreign in ("alembic", "apscheduler"):  # apscheduler writes two INFO lines for every run
        logging.getLogger(foreign).setLevel(logging.WARNING)
    settings = load_settings(os.environ, targets=options.targets, listen=options.listen)
    if settings.targets is not None:
        admin.read_targets(settings.targets)  # a wrong file stops the start, not a running collector
    if options.migrate:
        admin.migrate(settings.database_url)
    app.serve(settings, announce=lambda address: print(f"listening on {address}", file=sys.stderr, flush=True))
    return 0


def _migrate(options: argparse.Namespace) -> int:
    url = database_url(os.environ)
    print(f"schema at {admin.migrate(url)}")
    if options.distributed:
        tables = admin.distribute(url)
        print(f"distributed now: {', '.join(tables)}" if tables else "distributed already")
    return 0


def _targets_check(options: argparse.Namespace) -> int:
    _print_targets(admin.read_targets(options.file), as_json=options.json)
    return 0


def _targets_apply(options: argparse.Namespace) -> int:
    targets = admin.read_targets(options.file)
    rollout = Rollout(share_percent=options.canary or ALL_PERCENT, confirmed=options.confirm)
    _print_applied(admin.apply_targets(database_url(os.environ), targets, rollout), as_json=options.json)
    return 0


def _targets_promote(options: argparse.Namespace) -> int:
    _print_applied(admin.promote_targets(database_url(os.environ)), as_json=options.json)
    return 0


def _targets_rollback(options: argparse.Namespace) -> int:
    url = database_url(os.environ)
    _print_applied(admin.roll_back_targets(url, options.revision, confirmed=options.confirm), as_json=options.json)
    return 0


def _print_applied(applied: Applied, *, as_json: bool) -> None:
    if as_json:
        _print_json(applied)
        return
    unchanged = "" if applied.changed else ", unchanged"
    canary = (
        ""
        if applied.canaries is None
        else f", to {applied.canaries} agent{'s' if applied.canaries != 1 else ''} ({applied.share_percent} %)"
    )
    print(f"revision {applied.revision}{unchanged}{canary}")


def _targets_show(options: argparse.Namespace) -> int:
    shown = admin.show_targets(database_url(os.environ), options.revision)
    if shown is None:
        print("isochrone-collector: no targets yet: isochrone-collector targets apply FILE", file=sys.stderr)
        return EXIT_FAILED
    if options.json:
        _print_json(shown)
    else:
        print(f"revision {shown.revision}")
        _print_targets(shown.targets, as_json=False)
        _print_history(shown)
    return 0


def _print_history(shown: admin.Shown) -> None:
    table = _table("revision", "applied", "goes to", "running", "received", "failed")
    for one in shown.history:
        applied = one.applied_at.isoformat(timespec="seconds")
        reach = f"halted: {one.halt_reason}" if one.halted else f"{one.share_percent} %"
        table.add_row(str(one.revision), applied, reach, str(one.running), str(one.received), str(one.failed))
    _console().print(table)
    for report in shown.reports:
        if report.failed is not None:
            print(f"{report.agent}: gave up revision {report.failed}: {report.reason}")


def _agents_add(options: argparse.Namespace) -> int:
    labels = labels_of(options.label)
    url = database_url(os.environ)
    path: Path = options.credential_file
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as exc:
        raise SettingsError(f"--credential-file {path}: {exc.strerror}: name a file that does not exist yet") from exc
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(admin.add_agent(url, name=options.name, region=options.region, labels=labels) + "\n")
    except BaseException:
        path.unlink()
        raise
    _report_added(options)
    return 0


def _report_added(options: argparse.Namespace) -> None:
    if options.json:
        row = {"agent": options.name, "agent_region": options.region, "credential_file": str(options.credential_file)}
        _print_json(row)
    else:
        print(f"agent {options.name} in {options.region}: credential in {options.credential_file}")


def _agents_list(options: argparse.Namespace) -> int:
    settings = load_settings(os.environ)
    view = View(
        now=datetime.now(UTC),
        window_seconds=options.window,
        late_seconds=settings.late_seconds,
        flush_seconds=settings.flush_seconds,
    )
    rows = admin.list_agents(settings.database_url, view)
    if options.json:
        _print_json(rows)
        return 0
    table = _table("agent", "region", "state", "last report", "version", "config", "queue", "lost", "clock", "coverage")
    for row in rows:
        table.add_row(*agent_cells(row, view.now))
    _console().print(table)
    return 0


def _table(*columns: str) -> Table:
    """Return a table that breaks long words rather than cutting them: a name cut short names nothing."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in _WHOLE)
    return table


def _window(words: str) -> float:
    try:
        seconds = parse_duration(words)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    if not 1 <= seconds <= MAX_WINDOW_SECONDS:
        raise argparse.ArgumentTypeError(f"{words!r} is not between 1s and 31d")
    return seconds


def _console() -> Console:
    """Return a console that does not break lines where nobody looks at their width."""
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_COLUMNS
    return console


def _print_targets(targets: Targets, *, as_json: bool) -> None:
    if as_json:
        _print_json(targets)
        return
    table = _table("endpoint", "module", "prober", "interval", "provider", "model", "region", "agents")
    for item in items_of(targets):
        provider, model = getattr(item, "provider", None), getattr(item, "model", None)
        region = "" if item.location is None else item.location.region
        agents = _selected(item.agents)
        for name in item.modules:
            module = targets.modules[name]
            interval = format_duration(module.interval)
            table.add_row(item.name, name, module.prober, interval, provider or "", model or "", region, agents)
    _console().print(table)


def _selected(selector: Selector) -> str:
    labels = None if selector.labels is None else tuple(f"{key}={value}" for key, value in selector.labels.items())
    given = [words for words in (selector.names, selector.regions, labels) if words is not None]
    # An empty list selects nobody: it may stand in targets that an earlier release took.
    return " ".join(" ".join(words) or "none" for words in given) or "all"


def _print_problems(problems: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        _print_json({"problems": problems})
    for problem in problems:
        print(problem, file=sys.stderr)


def _print_json(value: object) -> None:
    print(msgspec.json.encode(value, enc_hook=enc_hook).decode())


if __name__ == "__main__":
    sys.exit(main())
