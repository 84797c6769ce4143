"""Child processes: started apart from our terminal, watched, started again when they die, stopped in order.

Rules:
- a child leads a session of its own: Ctrl-C in the terminal reaches us alone, and we decide the order of stopping;
- on Linux the kernel kills a child when we die without a farewell (PR_SET_PDEATHSIG): `kill -9` leaves nothing behind;
- a child that dies unasked is started again after a growing pause;
- what it writes to stderr goes to a log of bounded size, and its last lines into the error when it cannot start.
"""

import asyncio
import ctypes
import errno
import os
import signal
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from io import FileIO
from pathlib import Path
from time import monotonic
from typing import Final

from collector.errors import CollectorError

LOG_BYTES: Final = 1024 * 1024
"""A child's log; one older of the same size is kept beside it."""
TAIL_LINES: Final = 8
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 15.0
GOOD_RUN_SECONDS: Final = 30.0
"""A child that ran so long has earned the shortest pause again."""
LAST_WORDS_SECONDS: Final = 1.0
"""After a child's end, its log may still be held open by its own children."""
POLL_SECONDS: Final = 0.05
LONG_START_SECONDS: Final = 3.0
"""After that a person wants to know why it takes so long."""
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


class ChildFailed(CollectorError):
    """A child could not start. The text tells how it ended and what it said last."""


class State(StrEnum):
    """What a child is doing."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    """It died; it will be started again after a pause."""
    STOPPED = "stopped"


async def _at_once(_pid: int) -> bool:
    return True


def _to_nobody(_text: str) -> None:
    """Tell nothing."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """How to start one child, how to know that it works, and how to end it."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    ready: Callable[[int], Awaitable[bool]] = _at_once
    """Told the process id; asked until it says yes."""
    ready_seconds: float | None = 30.0
    """After that its start has failed; None: as long as it lives."""
    long_start: str | None = None
    """What to tell a person when it is not ready after LONG_START_SECONDS."""
    user: int | None = None
    """User id to run as; None: our own."""
    group: int | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 5.0
    """After that it is killed."""
    orphan_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends it when we die."""
    stdout: int = asyncio.subprocess.DEVNULL
    """A file descriptor, or one of subprocess' constants."""


class BoundedLog:
    """A log file that moves to `NAME.1` when it is full.

    A line that cannot be written (the disk is full) is lost and counted. Nothing is raised: who stops reading a child
    that writes blocks it for ever.
    """

    def __init__(self, path: Path, *, max_bytes: int = LOG_BYTES) -> None:
        self.lost = 0
        """Lines that did not reach the file."""
        self._path = path
        self._max_bytes = max_bytes
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._file: FileIO | None = None
        with suppress(OSError):
            self._open()

    def write(self, data: bytes) -> None:
        """Append `data`, one line or a part of one."""
        text = data.decode(errors="replace").rstrip()
        if text:
            self._lines.append(text)
        try:
            self._append(data)
        except OSError:
            self.lost += 1

    def last_lines(self) -> list[str]:
        """Return the last lines of this run of the program."""
        return list(self._lines)

    def forget(self) -> None:
        """Let `last_lines` begin anew: another run starts."""
        self._lines.clear()

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    def _append(self, data: bytes) -> None:
        file = self._file or self._open()
        if file.tell() + len(data) > self._max_bytes:
            self.close()
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            file = self._open()
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, "a part of the line was written")

    def _open(self) -> FileIO:
        # Without a buffer: it would keep what a full disk refused, and refuse to be closed.
        self._file = file = self._path.open("ab", buffering=0)
        return file


@dataclass(kw_only=True)
class Child:
    """One supervised process. Make and start it in the main thread: the kernel ties it to the thread that forks."""

    program: Program
    tell: Callable[[str], None] = _to_nobody
    """Takes a line for a person."""
    state: State = State.STOPPED
    deaths: int = 0
    """How often it died unasked."""
    restarts: int = 0
    last_end: str | None = None
    """How it ended when it last died unasked."""
    _process: asyncio.subprocess.Process | None = None
    _keeper: asyncio.Task[None] | None = None
    _pump: asyncio.Task[None] | None = None
    _log: BoundedLog | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def pid(self) -> int | None:
        """Process id (also of its session); None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def lost_lines(self) -> int:
        """Lines of its log that could not be written."""
        return 0 if self._log is None else self._log.lost

    async def start(self) -> None:
        """Start it and return when it is ready; raise ChildFailed when it ends or is not ready in time.

        When this is cancelled the process lives on, half started: `stop` ends it in its own way, as a database needs.
        """
        self._log = BoundedLog(self.program.log)
        try:
            await self._spawn()
            await self._until_ready()
        except Exception:
            await self.kill()
            raise
        self.state = State.RUNNING
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.program.name}")

    async def stop(self) -> bool:
        """Ask it to end, kill it when it does not. Return False when it had to be killed."""
        await self._let_go()
        self._signal(self.program.stop_signal)
        polite = await self._ended_within(self.program.stop_seconds)
        await self.kill()
        return polite

    async def kill(self) -> None:
        """End it at once, if it runs, and with it all in its process group.

        After an end of its own, what it left behind is not looked for: its group's number may be another's by then.
        """
        await self._let_go()
        if self.pid is not None:
            self._signal_group(signal.SIGKILL)
            await self._ended_within(LONGEST_PAUSE_SECONDS)
        await self._finish(self._pump)
        if self._log is not None:
            self._log.close()
        self.state = State.STOPPED

    async def _let_go(self) -> None:
        """End the keeper, so that nothing starts it again."""
        self._stopping.set()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})

    async def _spawn(self) -> None:
        program = self.program
        self.state = State.STARTING
        try:
            self._process = await asyncio.create_subprocess_exec(
                *program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=program.stdout,
                stderr=asyncio.subprocess.PIPE,
                env=program.environment,
                start_new_session=True,
                preexec_fn=_tie_to_parent(program.orphan_signal),
                user=program.user,
                group=program.group,
                extra_groups=None if program.user is None else [],
            )
        except OSError as exc:
            raise ChildFailed(f"{program.name} cannot be started: {exc}") from exc
        self._pump = asyncio.create_task(self._write_log(self._process), name=f"log of {program.name}")

    async def _write_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None  # noqa: S101  for the type checker: asked for in _spawn
        assert self._log is not None  # noqa: S101  as above
        while line := await _line(process.stderr):
            self._log.write(line)

    async def _until_ready(self) -> None:
        began, news = monotonic(), self.program.long_start
        limit = self.program.ready_seconds
        while limit is None or monotonic() - began < limit:
            pid = self.pid
            if pid is None:
                raise ChildFailed(await self._why(self._end()))
            if await self.program.ready(pid):
                return
            if news is not None and monotonic() - began > LONG_START_SECONDS:
                self.tell(news)
                news = None
            await asyncio.sleep(POLL_SECONDS)
        raise ChildFailed(await self._why(f"was not ready within {limit:g} s"))

    async def _keep(self) -> None:
        """Start it again whenever it ends, until told to stop."""
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            began = monotonic()
            await self._wait()
            if self._stopping.is_set():
                return
            pause = FIRST_PAUSE_SECONDS if monotonic() - began > GOOD_RUN_SECONDS else pause
            self.state, self.last_end = State.WAITING, self._end()
            self.deaths += 1
            await self._finish(self._pump)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
                return
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            await self._start_again()

    async def _start_again(self) -> None:
        self.restarts += 1
        if self._log is not None:
            self._log.forget()
        try:
            await self._spawn()
            await self._until_ready()
        except ChildFailed:
            if self.pid is not None:
                self._signal_group(signal.SIGKILL)
            return
        self.state = State.RUNNING

    async def _wait(self) -> None:
        if self._process is not None:
            await self._process.wait()

    async def _ended_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _finish(self, task: asyncio.Task[None] | None) -> None:
        """Let `task` end by itself for a moment, then cancel it."""
        if task is None:
            return
        await asyncio.wait({task}, timeout=LAST_WORDS_SECONDS)
        task.cancel()
        await asyncio.wait({task})

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _signal_group(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _end(self) -> str:
        code = None if self._process is None else self._process.returncode
        return "ended" if code is None else describe_end(code)

    async def _why(self, what: str) -> str:
        await self._finish(self._pump)
        said = [] if self._log is None else self._log.last_lines()
        lines = "".join(f"\n    {line}" for line in said)
        return f"{self.program.name} {what} (log: {self.program.log}){lines}"


def describe_end(code: int) -> str:
    """Return how a process ended, for a person; `code` as subprocess gives it (negative: a signal)."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


async def _line(stream: asyncio.StreamReader) -> bytes:
    """Return the next line, or a part of one that is longer than the reader's limit; b"" at the end."""
    try:
        return await stream.readline()
    except ValueError:  # the reader drops what it held: a line of 64 KiB is no news for a person
        return b"(a line too long for this log)\n"


def _tie_to_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Return what the child runs before it becomes the program; None where the kernel has no such tie."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def tie() -> None:
        # After subprocess has changed the user: a change of credentials would cut the tie (prctl(2)).
        prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # we died between the fork and the tie
            os._exit(1)

    return tie
