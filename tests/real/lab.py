"""The processes of the run against real servers: started one by one, stopped in reverse, none left behind."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final

POLL_SECONDS: Final = 0.2
STOP_SECONDS: Final = 20
TAIL_LINES: Final = 15


class LabError(RuntimeError):
    """Something of the laboratory itself did not work. The text says what, and ends with its log."""


class Process:
    """One child with a session of its own; what it writes goes to files in `folder`."""

    def __init__(self, name: str, command: Sequence[str], *, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.output = folder / f"{name}.out"
        self.log = folder / f"{name}.log"
        with self.output.open("ab") as output, self.log.open("ab") as log:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
                cwd=folder,
                env={**_clean_environment(), **environment},
            )

    @property
    def running(self) -> bool:
        """Tell whether it still runs."""
        return self._child.poll() is None

    def require(self) -> None:
        """Raise LabError if it has ended."""
        if not self.running:
            raise LabError(f"{self.name} ended with {self._child.returncode}:\n{self.tail()}")

    def tail(self) -> str:
        """Return the last lines of what it wrote."""
        lines = (
            self.log.read_text(errors="replace").splitlines() or self.output.read_text(errors="replace").splitlines()
        )
        return "\n".join(lines[-TAIL_LINES:])

    def kill(self) -> None:
        """End it and its children at once, as a crash would."""
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def stop(self) -> int:
        """Ask it to end, wait, kill what remains of its session; return its exit code."""
        self._child.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(STOP_SECONDS)
        self.kill()
        return self._child.returncode


class Lab:
    """Keeps every process that it started, and can name those that outlived it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[Process] = []

    def start(self, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Process:
        """Start a child that lives until `stop`."""
        process = Process(name, command, folder=self.folder, environment=environment or {})
        self._processes.append(process)
        return process

    def run(self, *command: str, environment: Mapping[str, str] | None = None, seconds: float = 60) -> str:
        """Run a command to its end and return its output; raise LabError when it fails."""
        done = self.attempt(*command, environment=environment, seconds=seconds)
        if done.returncode != 0:
            raise LabError(f"{' '.join(command[:3])} ended with {done.returncode}:\n{done.stderr.strip()}")
        return done.stdout

    def attempt(
        self, *command: str, environment: Mapping[str, str] | None = None, seconds: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, whatever the end."""
        try:
            return subprocess.run(
                command,
                check=False,
                capture_output=True,
                text=True,
                timeout=seconds,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                env={**_clean_environment(), **(environment or {})},
            )
        except subprocess.TimeoutExpired as exc:
            raise LabError(f"{' '.join(command[:3])} did not end within {seconds:.0f} s") from exc

    def survivors(self) -> list[str]:
        """Return the command lines of processes that still work in the laboratory's folder (Linux; else none)."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended meanwhile, or is somebody else's
                if (entry / "cwd").readlink() == self.folder:
                    found.append((entry / "cmdline").read_text(errors="replace").replace("\0", " ").strip())
        return found

    def stop(self) -> None:
        """Stop everything, last started first."""
        while self._processes:
            self._processes.pop().stop()


@contextmanager
def laboratory(folder: Path) -> Iterator[Lab]:
    """Give a laboratory whose processes end with the block."""
    lab = Lab(folder)
    try:
        yield lab
    finally:
        lab.stop()


def wait_for(what: str, ready: Callable[[], bool], *, seconds: float, process: Process | None = None) -> float:
    """Return the seconds until `ready()`; raise LabError when `seconds` pass or `process` ends before."""
    started = monotonic()
    while not ready():
        if process is not None:
            process.require()
        if monotonic() - started > seconds:
            tail = f":\n{process.tail()}" if process is not None else ""
            raise LabError(f"{what}: not within {seconds:.0f} s{tail}")
        sleep(POLL_SECONDS)
    return monotonic() - started


def free_port() -> int:
    """Return a port on loopback that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _clean_environment() -> dict[str, str]:
    """Return our environment without settings that would reach into the laboratory."""
    unwanted = ("ISOCHRONE_", "PYTHON", "LITELLM", "OPENAI_")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(unwanted) and not name.lower().endswith("_proxy")
    }
