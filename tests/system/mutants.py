"""The real programs with one bug planted in them: what a test that cannot fail would let pass.

`python -m tests.system.mutants BUG ARGUMENT...` plants the bug and becomes the program. Each bug is one function put
in the place of another; if that other has moved, the program does not start and the test says so.
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from collector.processes import Program

ROOT = Path(__file__).parents[2]
LATE_SECONDS = 4.0
"""Longer than two flushes: at any moment something is acknowledged and not committed."""


def acknowledge_before_commit() -> None:
    """Answer at once, commit later."""
    from collector.api import batches  # noqa: PLC0415  only the mutant itself loads the program
    from collector.ingest import Ingested  # noqa: PLC0415  as above

    commit = batches.ingest
    later: set[asyncio.Task[object]] = set()

    async def commit_late(*arguments: Any, **more: Any) -> object:  # noqa: ANN401  hands on what it is given
        await asyncio.sleep(LATE_SECONDS)
        return await commit(*arguments, **more)

    async def at_once(*arguments: Any, **more: Any) -> Ingested:  # noqa: ANN401  as above
        later.add(asyncio.create_task(commit_late(*arguments, **more)))
        plan = more["plan"]
        return Ingested(plan=plan, accepted=len(plan.rows), duplicate=0, late=0, rejected=())

    batches.ingest = at_once  # type: ignore[assignment]


def no_duplicate_check() -> None:
    """Store a batch as often as it comes."""
    from collector.store import results  # noqa: PLC0415  as above

    insert = results._insert  # noqa: SLF001  the check has no other door

    async def always_new(cursor: Any, ledgers: Any) -> set[Any]:  # noqa: ANN401  as above
        await insert(cursor, ledgers)
        return {results._key(ledger) for ledger in ledgers}  # noqa: SLF001  as above

    results._insert = always_new  # noqa: SLF001  as above


def unlink_before_acknowledgement() -> None:
    """Delete a segment as soon as it is read for sending."""
    from agent.spool import Sealed, Spool  # noqa: PLC0415  as above

    read = Spool.read

    def read_and_delete(self: Spool, sealed: Sealed) -> Any:  # noqa: ANN401  as above
        segment = read(self, sealed)
        sealed.path.unlink()
        return segment

    Spool.read = read_and_delete  # type: ignore[method-assign]


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A bug, and the program that has it."""

    program: str
    plant: Callable[[], None]


MUTANTS = {
    "acknowledge-before-commit": Mutant(program="collector", plant=acknowledge_before_commit),
    "no-duplicate-check": Mutant(program="collector", plant=no_duplicate_check),
    "unlink-before-acknowledgement": Mutant(program="agent", plant=unlink_before_acknowledgement),
}


def concerns(bug: str, program: Program) -> bool:
    """Tell whether `program` is the one that has the bug."""
    return MUTANTS[bug].program == program.name


def plant(bug: str, program: Program) -> Program:
    """Return the program with the bug in it."""
    python, words = program.command[0], program.command[program.command.index("-m") + 2 :]
    return replace(
        program,
        command=(python, "-P", "-m", "tests.system.mutants", bug, *words),
        environment={**program.environment, "PYTHONPATH": str(ROOT)},
    )


def main(arguments: list[str]) -> int:
    """Plant the bug and run the program."""
    mutant = MUTANTS[arguments[0]]
    mutant.plant()
    if mutant.program == "agent":
        from agent.cli import main as program  # noqa: PLC0415  as above
    else:
        from collector.cli import main as program  # noqa: PLC0415  as above
    return program(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
