"""The rules of a target file: builtins in, `Targets` or all problems out. Pure.

Every part is checked on its own, so that one run names every mistake: first its shape (`shape`), then, where the shape
is good, the rules across fields (`rules`). A key of an endpoint is never repeated in a message.
"""

from collections.abc import Mapping
from typing import Final

from isochrone.config import Targets
from isochrone.configcheck.rules import findings, method_fault
from isochrone.configcheck.shape import Path, Problem, ShapeChecker

MAX_PROBLEMS: Final = 100
"""Problems told at once."""


def check_targets(document: object, lines: Mapping[Path, int], name: str) -> Targets | list[Problem]:
    """Return the targets that `document` says, or its problems in the order of their lines.

    `lines` tells for each path the line (from 1) where it stands; `name` is the file, for the messages.
    """
    checker = ShapeChecker(lines, name)
    targets = checker.value((), document, Targets)
    for finding in findings(document, checker.built):
        checker.add(finding.path, finding.message, value=finding.value)
    if not checker.problems and isinstance(targets, Targets):
        return targets
    return sorted(checker.problems, key=lambda problem: problem.line or 0)[:MAX_PROBLEMS]


__all__ = ["Path", "Problem", "check_targets", "method_fault"]
