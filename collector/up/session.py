"""One run of `up`: start, show, stop. First signal: stop in order. Second: kill, and say so."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final, TextIO

from collector.config import DEFAULT_LISTEN, parse_listen
from collector.embedded import EmbeddedError, FolderBusy
from collector.errors import CollectorError, SettingsError, TargetsRefused
from collector.live import Part, Screen, Summary, View, decode_summary
from collector.processes import State
from collector.up import ask
from collector.up.data import default_data, read_token
from collector.up.stack import Options, Stack

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

WINDOW: Final = "5m"
SHOW_SECONDS: Final = 1.0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_BUSY: Final = 75
"""EX_TEMPFAIL (sysexits.h): another `up` has the folder."""
EXIT_KILLED: Final = 130
"""As shells tell a second Ctrl-C: not all was stopped in order."""
ECHO_SECONDS: Final = 0.5
"""make(1) hands a SIGTERM on that its whole group got already: what comes so soon is the same word said twice."""
_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `up` to the command line."""
    parser = subparsers.add_parser(
        "up",
        help="run everything on this machine: Postgres, collector, agent and, without --targets, simulated endpoints",
    )
    parser.add_argument(
        "--targets", type=Path, metavar="FILE", help="what to probe (default: three simulated endpoints)"
    )
    parser.add_argument("--confirm", action="store_true", help="take away most of what is probed, if need be")
    parser.add_argument(
        "--listen", default=DEFAULT_LISTEN, metavar="HOST:PORT", help="the collector's address (%(default)s)"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="where data stay (default: ~/.local/share/isochrone)")
    parser.add_argument("--json", action="store_true", help="print results as lines of JSON; the rest goes to stderr")
    parser.set_defaults(run=_command)


def _command(arguments: argparse.Namespace) -> int:
    try:
        listen = parse_listen(arguments.listen)
    except ValueError as exc:
        sys.stderr.write(f"isochrone-collector up: --listen {arguments.listen!r}: {exc}\n")
        return EXIT_USAGE
    data = arguments.data or default_data(os.environ)
    return up(
        Options(
            listen=listen,
            data=data.absolute(),
            targets=arguments.targets,
            as_json=arguments.json,
            confirmed=arguments.confirm,
        )
    )


def up(options: Options) -> int:
    """Run until told to stop and return the exit code."""
    screen = Screen(_sturdy(sys.stderr if options.as_json else sys.stdout), lines_only=options.as_json)
    try:
        return asyncio.run(_Session(Stack(options=options, screen=screen)).run())
    except CollectorError as exc:
        for line in exc.problems if isinstance(exc, TargetsRefused) else (str(exc),):
            sys.stderr.write(f"isochrone-collector up: {line}\n")
        return _exit_code(exc)
    except KeyboardInterrupt:  # before our own handling stood
        return EXIT_KILLED


def _exit_code(exc: CollectorError) -> int:
    if isinstance(exc, FolderBusy):
        return EXIT_BUSY
    return EXIT_USAGE if isinstance(exc, SettingsError | EmbeddedError) else EXIT_FAILED


class _Sturdy(FileIO):
    """A file that loses what cannot be written: a full disk, or a reader who left, must not stop what we run."""

    def write(self, data: "ReadableBuffer") -> int | None:  # type: ignore[override]  # FileIO says int
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _sturdy(file: TextIO) -> TextIO:
    return TextIOWrapper(
        BufferedWriter(_Sturdy(file.fileno(), "w", closefd=False)), encoding=file.encoding, errors="replace"
    )


class _Session:
    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._screen = stack.screen
        self._signals = 0
        self._last_signal = 0.0
        self._work: asyncio.Task[None] | None = None
        self._deaths_told: dict[str, int] = {}
        self._losses_told: set[str] = set()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in _ENDS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup(1) has its way
                loop.add_signal_handler(number, self._on_signal, number)
        try:
            await self._unless_told(self._start_and_show(), told=0)
        finally:
            self._screen.end_table()
            code = await self._end()
        return code

    def _on_signal(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP:
            self._screen.be_quiet()
        now = monotonic()
        if self._signals and now - self._last_signal < ECHO_SECONDS:
            return
        self._last_signal = now
        self._signals += 1
        if self._work is not None:
            self._work.cancel()

    async def _unless_told(self, work: Coroutine[None, None, None], *, told: int) -> bool:
        """Do `work` until one more than `told` signals have come; return whether it was done to the end."""
        if self._signals > told:
            work.close()
            return False
        self._work = asyncio.create_task(work)
        try:
            await self._work
        except asyncio.CancelledError:
            return False
        return True

    async def _end(self) -> int:
        if self._stack.children:
            self._screen.say("stopping (Ctrl-C again kills)")
        if await self._unless_told(self._stack.stop(), told=1):
            return 0
        self._screen.warn("told again: killing what still runs; what was recorded stays on disk")
        self._work = None
        await self._stack.kill()
        return EXIT_KILLED

    async def _start_and_show(self) -> None:
        await self._stack.start()
        for what, where in () if self._screen.lives else self._addresses():  # else they stand under the table
            self._screen.say(f"  {what:<8} {where}")
        while True:
            self._tell_deaths()
            self._tell_lost_lines()
            self._screen.show(await self._view())
            await asyncio.sleep(SHOW_SECONDS)

    def _tell_deaths(self) -> None:
        for child in self._stack.children:
            name = child.program.name
            if child.deaths > self._deaths_told.get(name, 0):
                self._deaths_told[name] = child.deaths
                self._screen.warn(f"{name} {child.last_end}: starting it again (log: {child.program.log})")

    def _tell_lost_lines(self) -> None:
        for child in self._stack.children:
            name = child.program.name
            if child.lost_lines and name not in self._losses_told:
                self._losses_told.add(name)
                self._screen.warn(f"{child.program.log} cannot be written, lines are lost: is the disk full?")

    def _addresses(self) -> tuple[tuple[str, str], ...]:
        base = f"http://{self._stack.door}"
        return (
            ("page", f"{base}/"),
            ("metrics", f"{base}/metrics"),
            ("calls", f"{base}/docs"),
            ("data", str(self._stack.options.data)),
        )

    async def _view(self) -> View:
        return View(summary=await self._summary(), parts=self._parts(), addresses=self._addresses())

    async def _summary(self) -> Summary | None:
        body = await ask.get(self._stack.door, f"/v1/summary?window={WINDOW}", token=read_token(os.environ))
        with suppress(ValueError):
            return None if body is None else decode_summary(body)
        return None

    def _parts(self) -> tuple[Part, ...]:
        return tuple(
            Part(
                name=child.program.name,
                running=child.state is State.RUNNING,
                restarts=child.restarts,
                last_end=child.last_end,
            )
            for child in self._stack.children
        )
