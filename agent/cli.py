"""The command line `isochrone-agent`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Final

from agent.commands import check_config, probe, run, simulate
from agent.telemetry import package_version

COMMANDS: Final = (run, probe, simulate, check_config)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code; 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="isochrone-agent", description="Measures how long users wait for an AI endpoint, from where they are."
    )
    parser.add_argument("--version", action="version", version=f"isochrone-agent {package_version()}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(subparsers)
    parsed = parser.parse_args(arguments)
    entry: Callable[[argparse.Namespace], int] = parsed.run
    return entry(parsed)


if __name__ == "__main__":
    sys.exit(main())
