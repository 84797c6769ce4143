"""`make check-deploy`: hold the files of deploy/ and docker-compose.yml against the programs that judge them.

A program that is not installed is told and left out; where `ISOCHRONE_CI` is set, that is a failure.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
IN_CI: Final = "ISOCHRONE_CI"
"""Set by `.ci/run`, which installs the programs."""


class Check(NamedTuple):
    """A command that ends with 0 when all is well. Words with a `*` stand for the files that they match."""

    command: tuple[str, ...]
    install: str
    """Where the program comes from."""


CHECKS: Final = (
    Check(("hadolint", "deploy/Dockerfile"), "make install"),
    Check(
        ("check-jsonschema", "--quiet", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"), "make install"
    ),
    Check(("docker-compose", "config", "-q"), "Debian: docker-compose"),
    Check(("promtool", "check", "config", "deploy/prometheus/prometheus.yml"), "Debian: prometheus"),
    Check(
        ("promtool", "check", "rules", "--lint=all", "--lint-fatal", "deploy/prometheus/rules/*.yml"),
        "Debian: prometheus",
    ),
    Check(("amtool", "check-config", "deploy/alertmanager/alertmanager.yml"), "Debian: prometheus-alertmanager"),
)


def main() -> int:
    """Run all; return 1 if any fails, or cannot be run in CI."""
    passed = [passes(check) for check in CHECKS]  # every one, so that one run tells all
    return 0 if all(passed) else 1


def passes(check: Check, *, root: Path = ROOT) -> bool:
    """Tell whether a check passes or may be left out; print what it says otherwise."""
    command = expanded(check.command, root)
    if shutil.which(command[0]) is None:
        print(f"{command[0]} is not installed ({check.install}), so this is not checked: {' '.join(check.command)}")
        return not os.environ.get(IN_CI)
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        print(f"failed: {' '.join(check.command)}\n{done.stdout.rstrip()}")
    return done.returncode == 0


def expanded(command: Sequence[str], root: Path) -> list[str]:
    """Return the command with the files that its words stand for."""
    words: list[str] = []
    for word in command:
        words += sorted(str(path.relative_to(root)) for path in root.glob(word)) if "*" in word else [word]
    return words


if __name__ == "__main__":
    sys.exit(main())
