"""`isochrone-collector up` as a person starts it: a process with a terminal's signals, and all that belongs to it."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

from collector.config import Listen
from collector.up import ask

MARKER = "XDG_SYSTEM_TEST"
"""`up` hands XDG_* to every process."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A living process, as /proc tells it."""

    parent: int
    born: str
    command: str
    environment: list[bytes]


def facts_of(pid: int) -> Facts | None:
    """Return what /proc says; None for a process that is gone, a zombie, or not ours to look at."""
    place = Path("/proc") / str(pid)
    try:
        state, parent, *rest = (place / "stat").read_text().rpartition(")")[2].split()
        command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        environment = (place / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return None if state == "Z" else Facts(parent=int(parent), born=rest[17], command=command, environment=environment)


class Household:
    """One run of `up`. Every process of it carries a marker in its environment, by which it is found."""

    def __init__(self, data: Path, *arguments: str, full_disk: bool = False) -> None:
        self.listen = ask.reserve(Listen("127.0.0.1", 0))
        self.data = data
        self._mark = uuid4().hex
        self._seen: set[tuple[int, str]] = set()
        self.stdout, self.stderr = data.parent / f"{self._mark}.out", data.parent / f"{self._mark}.err"
        self.stdout.touch()
        with Path("/dev/full" if full_disk else self.stdout).open("wb") as out, self.stderr.open("wb") as err:
            self.process = subprocess.Popen(
                command("--data", str(data), "--listen", str(self.listen), *arguments),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=os.environ | {MARKER: self._mark, "PYTHONUNBUFFERED": "1"},
            )

    def said(self) -> str:
        """Return everything that it wrote, for people and for programs."""
        return self.stdout.read_text() + self.stderr.read_text()

    def processes(self) -> dict[int, str]:
        """Return its living processes, id and command: those with the mark, those below them, and all seen before.

        Postgres' children write their title over their environment, so they are known by their parent alone.
        """
        numbers = (int(place.name) for place in Path("/proc").iterdir() if place.name.isdigit())
        everybody = {pid: facts for pid in numbers if (facts := facts_of(pid))}
        mark = f"{MARKER}={self._mark}".encode()
        known = {
            pid for pid, facts in everybody.items() if mark in facts.environment or (pid, facts.born) in self._seen
        }
        while more := {pid for pid, facts in everybody.items() if facts.parent in known} - known:
            known |= more
        self._seen |= {(pid, everybody[pid].born) for pid in known}
        return {pid: everybody[pid].command for pid in known}

    def pid_of(self, words: str) -> int:
        """Return the process whose command holds `words`."""
        (pid,) = (pid for pid, command in self.processes().items() if words in command)
        return pid

    def get(self, path: str) -> bytes | None:
        """Return the body of a 200 answer of the collector, else None."""
        connection = http.client.HTTPConnection(self.listen.host, self.listen.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return body if answer.status == http.HTTPStatus.OK else None

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the rows of the summary by endpoint; empty while there is no answer."""
        body = self.get("/v1/summary?window=1h")
        return {} if body is None else {row["endpoint"]: row for row in json.loads(body)["rows"]}

    def until(self, condition: Callable[[], bool], *, what: str, seconds: float = 60) -> None:
        """Wait until `condition` holds; fail with what the process said."""
        deadline = monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"ended before {what}:\n{self.said()}"
            assert monotonic() < deadline, f"waited {seconds:g} s in vain for {what}:\n{self.said()}"
            sleep(0.2)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send the signal and return the exit code."""
        self.processes()
        self.process.send_signal(number)
        return self.process.wait(60)

    def until_nobody_is_left(self) -> None:
        deadline = monotonic() + 20
        while left := self.processes():
            assert monotonic() < deadline, f"still there: {left}"
            sleep(0.1)

    def sweep(self) -> None:
        """End what a failed test left."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)


def command(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "collector.cli", "up", *arguments)


@contextmanager
def household(data: Path, *arguments: str, full_disk: bool = False) -> Iterator[Household]:
    """Give a run of `up`; whatever happens, nothing of it stays. With a full disk its stdout takes nothing."""
    home = Household(data, *arguments, full_disk=full_disk)
    try:
        yield home
    finally:
        home.sweep()


def is_measured(row: dict[str, Any]) -> bool:
    """Return whether the row has a round trip, a first token and a rate."""
    names = ("rtt_seconds", "ttft_seconds", "tokens_per_second")
    return all(row[name] is not None and (row[name]["p50"] or 0) > 0 for name in names)


def plain(text: str) -> str:
    """Return `text` without colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
