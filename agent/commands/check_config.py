"""`isochrone-agent check-config FILE`: what a settings file (.toml) or a target file (.yml) says, or what is wrong."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from agent.config import FILE_SETTINGS, SETTINGS, read_settings, with_policy
from agent.errors import ConfigError
from isochrone.config import Endpoint, Site, Targets
from isochrone.durations import format_duration

EXIT_WRONG: Final = 2


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("check-config", help="check a settings file (.toml) or a target file (.yml)")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Return the exit code: 0 good, 2 wrong."""
    check = _CHECKS.get(arguments.file.suffix)
    if check is None:
        return _wrong(f"{arguments.file}: neither settings (.toml) nor targets (.yml, .yaml) by its name")
    try:
        lines = check(arguments.file)
    except (ConfigError, ValueError) as exc:
        return _wrong(str(exc))
    except OSError as exc:
        return _wrong(f"{arguments.file}: cannot be read: {exc.strerror}")
    sys.stdout.write("\n".join([f"{arguments.file}: good", *lines]) + "\n")
    return 0


def describe_settings(values: Mapping[str, object]) -> list[str]:
    """Return a table of what a settings file says, and of what it leaves to the environment."""
    elsewhere = dict.fromkeys(SETTINGS, "- (default, or environment)") | dict.fromkeys(FILE_SETTINGS, "- (default)")
    return table([(key, _shown(values[key]) if key in values else words) for key, words in elsewhere.items()])


def describe_targets(targets: Targets) -> list[str]:
    """Return a table of what would be probed: endpoints and sites with their modules."""
    rows: list[tuple[str, ...]] = [("target", "module", "prober", "every", "timeout")]
    probed: tuple[Endpoint | Site, ...] = (*targets.endpoints, *targets.sites)
    for target in probed:
        for name in target.modules:
            module = targets.modules[name]
            times = (format_duration(module.interval), format_duration(module.timeout))
            rows.append((target.name, name, module.prober.value, *times))
    return table(rows)


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return rows as lines with aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _settings(path: Path) -> list[str]:
    return describe_settings(with_policy(read_settings(path)))


def _targets(path: Path) -> list[str]:
    from isochrone.configfile import load_targets  # noqa: PLC0415  YAML is loaded only where a YAML file is read

    return describe_targets(load_targets(path.read_text(encoding="utf-8", errors="replace"), str(path)))


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name} to {_shown(part)}" for name, part in value.items()) or "none may be sent"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _wrong(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return EXIT_WRONG


_CHECKS: Final[dict[str, Callable[[Path], list[str]]]] = {".toml": _settings, ".yml": _targets, ".yaml": _targets}
