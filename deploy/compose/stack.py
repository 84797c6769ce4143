"""`make compose-up` and `make compose-down`: the stack of docker-compose.yml, its secrets, and its agents let in.

`up` may be run again at any time: it makes what is missing and changes nothing else. Needs Python and Docker alone.
"""

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
SECRETS: Final = Path(__file__).resolve().parent / "secrets"
BUILT: Final = ("collector", "agent-eu-central")
"""Services whose images are all that is built here: the others take the same."""
HELPER_IMAGE: Final = "isochrone-collector:local"
READY_SECONDS: Final = 240.0
"""Longest wait for all health checks: a first start of Postgres and Grafana on a slow disk, threefold."""
AGENTS: Final = {"eu-central-1": "eu-central", "us-east-1": "us-east"}
"""Each agent's name and region; its service is `agent-<region>`."""

ADDRESSES: Final = """\
up: collector http://localhost:8420
    Grafana http://localhost:3000 (user admin; password: sudo cat deploy/compose/secrets/grafana_admin_password)
    Prometheus http://localhost:9090
    Alertmanager http://localhost:9093"""

ISOCHRONE: Final = 65532
POSTGRES: Final = 999
GRAFANA: Final = 472
READERS: Final = {
    "postgres_password": POSTGRES,
    "database_owner_password": POSTGRES,
    "database_grafana_password": POSTGRES,
    "collector_pgpass": ISOCHRONE,
    "grafana_database_password": GRAFANA,
    "grafana_admin_password": GRAFANA,
}
"""The user that each secret is for: nobody else may read its file."""


class Failed(Exception):
    """What went wrong, and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 1 with one line that says why it failed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="stack.py", description="The stack of docker-compose.yml.")
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    commands.add_parser("up", help="start everything, or what is missing of it")
    down = commands.add_parser("down", help="stop everything")
    down.add_argument("--volumes", action="store_true", help="and remove all data")
    options = parser.parse_args(arguments)
    try:
        up() if options.command == "up" else compose("down", *(["--volumes"] if options.volumes else []))
    except Failed as exc:
        print(f"compose: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def up() -> None:
    """Make secrets and images, start the collector, let the agents in, then start all the rest."""
    write_secrets(SECRETS)
    compose("build", *BUILT)
    hand_over(SECRETS)
    compose("up", "-d", "collector")
    wait_until_well("collector")
    known = {row["agent"] for row in json.loads(ask_collector("agents", "list", "--json"))}
    for name, region in AGENTS.items():
        if name not in known:
            enroll(name, region)
    compose("up", "-d")
    print("waiting until every health check passes", flush=True)
    wait_until_well()
    print(ADDRESSES)


def enroll(name: str, region: str) -> None:
    """Let an agent in: it makes its own credential, in its own volume. The join token is in no file and no argument."""
    token = ask_collector("agents", "join-token", "--name", name, "--region", region, "--ttl", "10m")
    joining = ("--collector", "http://collector:8420", "--name", name)
    files = ("--join-token-file", "-", "--credential-file", "/var/lib/isochrone/credential")
    said = compose_said("run", "--rm", "--no-deps", "-T", f"agent-{region}", "enroll", *joining, *files, given=token)
    print(said.partition("\n")[0])


# --- secrets


def write_secrets(folder: Path) -> None:
    """Make the folder with all secrets, each for its owner alone; one that is there must be whole."""
    if folder.exists():
        missing = sorted(name for name in READERS if not (folder / name).exists())
        if missing:
            raise Failed(
                f"{folder} lacks {', '.join(missing)}: put the file back, or begin anew: make compose-down "
                f"ARGS=--volumes, and remove the folder"
            )
        return
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    for name, text in new_secrets().items():
        descriptor = os.open(fresh / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
    fresh.rename(folder)  # all or nothing: half of the passwords would lock the other half out


def new_secrets() -> dict[str, str]:
    """Return the text of each secret; two of them stand in two files, for either side."""
    owner, grafana = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    return {
        "postgres_password": secrets.token_urlsafe(32),
        "database_owner_password": owner,
        "database_grafana_password": grafana,
        "collector_pgpass": f"postgres:5432:isochrone:isochrone:{owner}",
        "grafana_database_password": grafana,
        "grafana_admin_password": secrets.token_urlsafe(16),
    }


def hand_over(folder: Path) -> None:
    """Give each secret to the user that reads it in its container. Docker Desktop does so by itself."""
    others = {name: user for name, user in READERS.items() if (folder / name).stat().st_uid != user}
    if not others or sys.platform != "linux":
        return
    if os.geteuid() == 0:
        for name, user in others.items():
            os.chown(folder / name, user, -1)
    else:
        _hand_over_by_docker(folder, others)


def _hand_over_by_docker(folder: Path, users: Mapping[str, int]) -> None:
    """Change owners as root of a container: who may use Docker may do so, and needs no sudo."""
    work = "; ".join(("import os", *(f"os.chown({name!r}, {user}, -1)" for name, user in users.items())))
    box = ("--rm", "--user", "0:0", "--network", "none", "--cap-drop", "ALL")
    rights = ("--cap-add", "CHOWN", "--cap-add", "DAC_OVERRIDE")
    place = ("-v", f"{folder}:/secrets", "-w", "/secrets", "--entrypoint", "python3", HELPER_IMAGE)
    run("docker", "run", *box, *rights, *place, "-c", work)


# --- docker


def wait_until_well(*services: str) -> None:
    """Return when every container is healthy, or ended with 0 as it should; raise Failed that names the others.

    No service named: all of them.
    """
    deadline = time.monotonic() + READY_SECONDS
    while waiting := [words for one in containers(*services) if (words := ailment(one)) is not None]:
        if time.monotonic() > deadline:
            raise Failed(
                f"not well after {READY_SECONDS:.0f} s: {'; '.join(waiting)}: docker compose logs SERVICE tells why"
            )
        time.sleep(1)


def containers(*services: str) -> Iterator[dict[str, Any]]:
    """Yield what Docker knows of each container."""
    if names := compose_said("ps", "-q", *services).split():
        yield from json.loads(run("docker", "inspect", *names))


def ailment(container: Mapping[str, Any]) -> str | None:
    """Return why a container, as Docker tells of it, is not well; None when it is."""
    state = container["State"]
    ended_well = state["Status"] == "exited" and state["ExitCode"] == 0
    health = state.get("Health", {}).get("Status", "healthy")
    if ended_well or (state["Status"] == "running" and health == "healthy"):
        return None
    service = container["Config"]["Labels"]["com.docker.compose.service"]
    return f"{service} is {state['Status'] if state['Status'] != 'running' else health}"


def ask_collector(*words: str) -> str:
    """Return what a command of the collector says, run beside it in its container."""
    return compose_said("exec", "-T", "collector", "isochrone-collector", *words)


def compose(*words: str) -> None:
    """Run Compose and let it show what it does; raise Failed."""
    command = (*_program(), *words)
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        raise Failed(f"{' '.join(command)} failed: see above, and docker compose logs SERVICE")


def compose_said(*words: str, given: str | None = None) -> str:
    """Return what Compose prints; `given` is its standard input."""
    return run(*_program(), *words, given=given)


def run(*command: str, given: str | None = None) -> str:
    """Return what a program prints; raise Failed with its complaint."""
    done = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Failed(f"{' '.join(command[:6])} … failed: {said[-1] if said else f'exit code {done.returncode}'}")
    return done.stdout


def _program() -> tuple[str, ...]:
    """Return Compose v2 where Docker has it, else v1."""
    if shutil.which("docker") is None:
        raise Failed("docker is not installed: see https://docs.docker.com/engine/install/")
    v2 = ("docker", "compose")
    if subprocess.run((*v2, "version"), capture_output=True, check=False).returncode == 0:
        return v2
    if shutil.which("docker-compose") is None:
        raise Failed("Docker has no Compose: install the package docker-compose-plugin or docker-compose")
    return ("docker-compose",)


if __name__ == "__main__":
    sys.exit(main())
