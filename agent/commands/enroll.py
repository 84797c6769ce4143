"""`isochrone-agent enroll`: join a collector with a join token, and keep the credential in a file."""

import argparse
import asyncio
import os
import shlex
import sys
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from agent.config import default_state_dir, load_settings
from agent.config.tokens import read_join_token
from agent.errors import AgentError, ConfigError, DeliveryError
from isochrone.names import check_name

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
STANDARD_INPUT: Final = "-"
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    text = "join a collector with a join token; writes this agent's credential"
    parser = subparsers.add_parser("enroll", help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("--collector", required=True, metavar="URL", help="as in https://collector.example.org")
    parser.add_argument(
        "--join-token-file", required=True, metavar="FILE", help="the file that holds the token; - for standard input"
    )
    parser.add_argument("--name", required=True, metavar="NAME", help="what this agent shall be called")
    parser.add_argument("--credential-file", type=Path, metavar="FILE", help="written with mode 0600, never replaced")
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="PEM file of the authorities to trust")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Return the exit code: 0 joined, 1 not let in or no answer, 2 wrong usage."""
    try:
        return asyncio.run(_enroll(arguments))
    except ConfigError as exc:
        return _fail(str(exc), EXIT_USAGE)
    except DeliveryError as exc:
        return _fail(f"no answer: {exc}: run the same command again, it goes on where this one ended", EXIT_FAILED)
    except AgentError as exc:
        return _fail(str(exc), EXIT_FAILED)


async def _enroll(arguments: argparse.Namespace) -> int:
    from agent.push.credentials import CredentialFiles  # noqa: PLC0415  `--help` must not load the agent
    from agent.push.enrolment import enroll  # noqa: PLC0415  as above
    from agent.spool.files import make_folder  # noqa: PLC0415  as above
    from agent.transport import CollectorClient  # noqa: PLC0415  as above

    url, path = _checked(arguments)
    if arguments.credential_file is None:
        make_folder(path.parent)
    token = read_join_token(None if arguments.join_token_file == STANDARD_INPUT else Path(arguments.join_token_file))
    client = CollectorClient(url, verify_file=arguments.ca_file)
    try:
        known = await enroll(client, CredentialFiles(path), join_token=token, name=arguments.name)
    finally:
        await client.close()
    row = {"agent": known.agent, "agent_region": known.agent_region, "credential_file": str(path)}
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(row).decode() + "\n")
    else:
        sys.stdout.write(f"agent {known.agent} joined, in {known.agent_region}: credential in {path}\n")
        sys.stdout.write(f"next: {_next(arguments, url, path)}\n")
    return 0


def _checked(arguments: argparse.Namespace) -> tuple[str, Path]:
    """Return URL and path; raise ConfigError for what `run` would not take either."""
    try:
        check_name(arguments.name, place="--name")
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc
    given: Path | None = arguments.credential_file
    path = default_state_dir(os.environ) / "credential" if given is None else given.expanduser()
    flags = {"collector_url": arguments.collector, "credential_file": str(path)}
    url = load_settings({}, file=None, flags=flags).collector_url
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        sys.stderr.write("isochrone-agent: warning: http:// sends the join token unencrypted: use https://\n")
    return url, path


def _next(arguments: argparse.Namespace, url: str, path: Path) -> str:
    words = ["isochrone-agent", "run", "--collector-url", url, "--credential-file", str(path)]
    words += [] if arguments.ca_file is None else ["--ca-file", str(arguments.ca_file)]
    return shlex.join(words)


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"isochrone-agent: {text}\n")
    return code
