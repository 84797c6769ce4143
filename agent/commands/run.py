"""`isochrone-agent run`: measure and push until told to stop."""

import argparse
import asyncio
import os
import resource
import sys
from pathlib import Path
from typing import Final

from agent.config import ENVIRONMENT_PREFIX, SETTINGS, load_settings
from agent.errors import AgentError, ConfigError, SpoolLocked
from agent.redaction import fault_words

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_LOCKED: Final = 75
"""EX_TEMPFAIL of sysexits.h: another agent works on this spool."""

_HELP: Final = {
    "collector_url": "where the collector listens, as in https://collector.example.org",
    "credential_file": "the file that holds this agent's token",
    "state_dir": "the folder for the spool and the last known configuration",
    "spool_max_bytes": "most that the spool holds, as in 64MiB",
    "spool_max_age": "longest that a result waits, as in 7d",
    "max_in_flight": "inference streams at once",
    "flush_interval": "how long results are gathered, as in 10s; the collector's word goes before it",
    "allow": "origins that may be probed, separated by commas; none given: all that are public",
    "policy_file": "a TOML file with what bounds the collector, such as allow, keys and the day's ceilings",
    "allow_private": "networks and host names that may be probed though they are not public, separated by commas",
    "min_interval": "shortest interval, as in 10s: shorter ones are raised to it",
    "max_output_tokens": "most output tokens of one probe: more are lowered to it",
    "max_requests_per_day": "inference requests of this agent in a UTC day",
    "max_tokens_per_day": "tokens of this agent in a UTC day, input and output",
    "max_usd_per_day": "US dollars that this agent may spend in a UTC day",
    "min_usd_per_million_tokens": "what a million tokens cost at least, whatever the targets say",
    "ca_file": "PEM file of the authorities that the collector's certificate is checked against",
    "log_level": "DEBUG, INFO, WARNING or ERROR",
    "rotate_credential_every": "how old the credential gets before the agent replaces it, as in 30d",
}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("run", help="measure and push until told to stop")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="a TOML file with the agent's own settings")
    parser.add_argument("--json", action="store_true", help="print each result on stdout once it is on disk")
    for key in SETTINGS:
        name = f"--{key.replace('_', '-')}"
        parser.add_argument(name, dest=key, metavar="VALUE", help=f"{_HELP[key]} [{ENVIRONMENT_PREFIX}{key.upper()}]")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Return the exit code: 0 stopped, 1 failed, 2 wrong settings, 75 another agent works here."""
    from agent.app import run_agent  # noqa: PLC0415  `--help` of the whole program must not load the agent
    from agent.transport import AgentLoop  # noqa: PLC0415  as above

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the keys
    flags = {key: value for key in SETTINGS if (value := getattr(arguments, key)) is not None}
    try:
        settings = load_settings(os.environ, file=arguments.settings, flags=flags)
        with asyncio.Runner(loop_factory=AgentLoop) as runner:
            runner.run(run_agent(settings, show_results=arguments.json))
    except SpoolLocked as exc:
        return _fail(exc, EXIT_LOCKED)
    except ConfigError as exc:
        return _fail(exc, EXIT_USAGE)
    except AgentError as exc:
        return _fail(exc, EXIT_FAILED)
    except Exception as exc:  # noqa: BLE001  Python's own last words would show the text as it is
        return _fail(AgentError(f"ended by a fault of its own: {fault_words(exc)}"), EXIT_FAILED)
    return 0


def _fail(exc: AgentError, code: int) -> int:
    sys.stderr.write(f"isochrone-agent: {exc}\n")
    return code
