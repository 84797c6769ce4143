"""The command line `isochrone-agent`."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

from agent.commands import check_config, enroll, probe, run, selftest, simulate, spool
from agent.telemetry import package_version

COMMANDS: Final = (run, enroll, probe, simulate, selftest, spool, check_config)
INTERRUPTED: Final = 130
"""As the shell tells of a program that Ctrl-C ended: who reads our output ends us by leaving, as `| head` does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code; 2 for wrong usage, 130 when nobody reads its output any more."""
    parser = argparse.ArgumentParser(
        prog="isochrone-agent", description="Measures how long users wait for an AI endpoint, from where they are."
    )
    parser.add_argument("--version", action="version", version=f"isochrone-agent {package_version()}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(subparsers)
    parsed = parser.parse_args(arguments)
    entry: Callable[[argparse.Namespace], int] = parsed.run
    try:
        return entry(parsed)
    except BrokenPipeError:
        return INTERRUPTED
    finally:
        _flush()


def _flush() -> None:
    """Let go of what nobody reads any more: at its end, Python would complain of it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
