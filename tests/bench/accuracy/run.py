"""`make bench-accuracy`: our agent held against the packet-level truth of a lab, beside what others would use.

Exit code 0 when every expectation is met, 1 when one is missed or could not be measured, 2 when this host cannot run
the lab. Progress goes to stderr, the tables to stdout.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Final

from tests.bench.accuracy.clients import COMMAND_PREFIX, OURS, PEERS, chosen
from tests.bench.accuracy.conditions import QUICK, WHOLE
from tests.bench.accuracy.lab import Lab
from tests.bench.accuracy.prepare import Missing, copy_of_lab, data_folder, require_host
from tests.bench.accuracy.session import BESIDE_OTHERS, PARTS, Session
from tests.real.environments import BuildFailed

_INTERRUPTED: Final = 130
_TERMINATED: Final = 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Set the lab up, measure, judge, and leave nothing behind."""
    given = _given(arguments)
    started = monotonic()
    try:
        session = _measured(given)
    except (Missing, BuildFailed) as exc:
        print(f"bench-accuracy: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return _INTERRUPTED
    session.print_tables()
    if given.json is not None:
        session.write(given.json)
    print(f"{session.verdict()}, {monotonic() - started:.0f} s")
    return 0 if session.met() else 1


def _measured(given: argparse.Namespace) -> Session:
    require_host()
    source = data_folder()
    with TemporaryDirectory(prefix="isochrone-accuracy-") as folder:
        copy = copy_of_lab(source, Path(folder))
        parts = given.parts or PARTS
        everybody = [OURS, *PEERS] if BESIDE_OTHERS & set(parts) else [OURS]
        clients = chosen(given.client or everybody, lab=copy, judge=given.judge)
        session = Session(QUICK if given.quick else WHOLE, clients)
        with Lab(copy) as lab:
            session.measure(lab, parts)
        if "memory" in parts:
            session.weigh_memory()
        return session


def _given(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench-accuracy ARGS=...", description="hold the agent's times against those of the packets"
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)}; none: all")
    parser.add_argument("--quick", action="store_true", help="few conditions, three minutes")
    parser.add_argument(
        "--client",
        action="append",
        metavar="NAME",
        help=f"repeatable; of: {', '.join((OURS, *PEERS))}, or {COMMAND_PREFIX}COMMAND that speaks the lab's interface",
    )
    parser.add_argument("--judge", metavar="COMMAND", help="hold this command to what is expected of our agent")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement, one object a line")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.parts) - set(PARTS)):
        parser.error(f"no part {unknown[0]!r}; there are: {', '.join(PARTS)}")
    known = {OURS, *PEERS}
    if strange := [name for name in given.client or () if name not in known and not name.startswith(COMMAND_PREFIX)]:
        parser.error(f"no client {strange[0]!r}; there are: {', '.join(sorted(known))}, and {COMMAND_PREFIX}COMMAND")
    return given


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))  # unwinds, so that the lab is taken down
    sys.exit(main())
