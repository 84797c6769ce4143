"""`isochrone-agent spool`: what waits for the collector, what was set aside, what was lost."""

import argparse
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from agent.commands.check_config import table
from agent.config import ENVIRONMENT_PREFIX, load_spool_settings
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.spool.survey import Survey, Waiting

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
SHOWN: Final = 20
"""Segments in the table; `--json` has all."""
_KIBIBYTE: Final = 1024


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("spool", help="show what waits for the collector, and what was lost")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="the TOML file with the agent's own settings")
    name = f"{ENVIRONMENT_PREFIX}STATE_DIR"
    parser.add_argument("--state-dir", metavar="VALUE", help=f"the folder that holds the spool [{name}]")
    parser.add_argument(
        "--check", action="store_true", help="fail unless an agent works here, and its collector lets it in"
    )
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Return the exit code: 0 shown, 1 the spool cannot be read or the check failed, 2 wrong settings."""
    from agent.spool.survey import survey  # noqa: PLC0415  `--help` of the whole program must not load the spool

    flags = {} if arguments.state_dir is None else {"state_dir": arguments.state_dir}
    try:
        state_dir, max_bytes = load_spool_settings(os.environ, file=arguments.settings, flags=flags)
        found = survey(state_dir / "spool", max_bytes=max_bytes)
    except ConfigError as exc:
        return _fail(str(exc), EXIT_USAGE)
    except FileNotFoundError as exc:
        words = "no agent has worked here: name the folder with --state-dir, or the agent's file with --settings"
        return _fail(f"{exc.filename}: there is no spool; {words}", EXIT_FAILED)
    except OSError as exc:
        return _fail(f"{exc.filename}: {exc.strerror}: run this as the agent's own user", EXIT_FAILED)
    if arguments.json:
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    else:
        sys.stdout.write("\n".join(described(found, now=datetime.now(UTC).timestamp())) + "\n")
    ailing = ailment(found) if arguments.check else None
    return 0 if ailing is None else _fail(ailing, EXIT_FAILED)


def ailment(found: "Survey") -> str | None:
    """Return why nothing is measured here, None where an agent is at work. That results wait is no ailment of it."""
    if not found.in_use:
        return f"{found.folder}: no agent works on it"
    if found.losses is not None and found.losses.revoked:
        return f"{found.folder}: the collector refuses this agent: give it another credential"
    return None


def described(found: "Survey", *, now: float) -> Iterator[str]:
    """Yield the lines for a person; `now` in seconds since 1970."""
    state = "an agent works on it" if found.in_use else "no agent works on it now"
    yield f"{found.folder}: {state}"
    if found.losses is not None and found.losses.revoked:
        yield "revoked: the collector refuses this agent, and it does not probe: give it another credential"
    share = 100 * found.bytes / found.max_bytes
    segments = _counted(len(found.segments), "segment")
    yield (
        f"{_counted(found.results, 'result')} in {segments}: {_size(found.bytes)} of {_size(found.max_bytes)} "
        f"({share:.1f} %)"
    )
    if found.segments:
        yield ""
        yield from table([("begun", "results", "size", "state", "batch"), *_rows(found, now)])
        if len(found.segments) > SHOWN:
            yield f"  and {len(found.segments) - SHOWN} older: --json shows all"
        yield ""
    yield from _losses(found)


def _rows(found: "Survey", now: float) -> Iterator[tuple[str, ...]]:
    for one in found.segments[:SHOWN]:
        yield _begun(one, now), str(one.results), _size(one.bytes), _state(one), str(one.batch_id)


def _state(one: "Waiting") -> str:
    damaged = one.bad_bytes and one.state == "sealed"
    return f"{one.state}, {one.bad_bytes} bytes damaged" if damaged else one.state


def _begun(one: "Waiting", now: float) -> str:
    if one.begun_at_unix_seconds is None:
        return "- (a half)"
    try:
        moment = datetime.fromtimestamp(one.begun_at_unix_seconds, UTC)
    except (OverflowError, ValueError):
        return "-"
    return f"{moment:%Y-%m-%d %H:%M:%S}Z, {_age(now - one.begun_at_unix_seconds)}"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"


def _losses(found: "Survey") -> Iterator[str]:
    lost = {} if found.losses is None else found.losses.dropped_results
    words = ", ".join(f"{count} {reason.value}" for reason, count in sorted(lost.items()))
    run_ = "this run" if found.in_use else "the last run"
    yield f"lost by {run_}: {words or 'nothing'}"
    for name, aside in (("corrupt/", found.corrupt), ("rejected/", found.rejected)):
        if aside.files:
            yield f"{name}: {_counted(aside.files, 'file')}, {_size(aside.bytes)}"
    if found.foreign_files:
        yield f"{_counted(found.foreign_files, 'foreign file')} left alone"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _size(count: float) -> str:
    if count < _KIBIBYTE:
        return f"{count:.0f} B"
    count /= _KIBIBYTE
    return f"{count:.1f} KiB" if count < _KIBIBYTE else f"{count / _KIBIBYTE:.1f} MiB"


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"isochrone-agent spool: {text}\n")
    return code
