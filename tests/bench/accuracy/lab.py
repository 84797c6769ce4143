"""The door to the lab: runs clients and our prober in it, and returns what they said beside what happened."""

import importlib
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Final, Self

from tests.bench.accuracy.clients import Client
from tests.bench.accuracy.conditions import TIMELINE, Cell
from tests.bench.accuracy.packets import Packet, answers_ms, handshakes_ms, least_ms
from tests.bench.accuracy.prepare import Missing
from tests.bench.accuracy.scores import Score, score

_STARTS: Final = 3
_SECONDS: Final = 150
_RESPONDER_PORT: Final = 8_080
_LATE_NS: Final = 900_000_000
"""A SYN-ACK after this answered the second SYN (RFC 6298 2.1: one second), or is itself a second one."""


@dataclass(frozen=True, kw_only=True)
class Pinged:
    """What the prober printed, and what became of its packets."""

    results: Sequence[Mapping[str, Any]]
    said: str
    """Its standard error."""
    wan: Mapping[str, Mapping[str, int]]
    """By direction, `ab` to the server: `packets`, `lost`."""
    handshakes: int
    lost_handshakes: int
    """Those whose first SYN or its answer was lost."""
    handshakes_ms: float | None
    """Median round trip of the packets of handshakes; None: there was none."""
    answers_ms: float | None
    """The same from each request to its answer."""
    echoes_ms: float | None
    """The same of ICMP echoes."""


class Lab:
    """The namespaces, the path between them and the truth server; gone at the end of the `with`."""

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(folder))  # the lab's modules import one another by these names
        self._bench = importlib.import_module("bench")
        self._truth = importlib.import_module("lab.truth")
        kind = importlib.import_module("lab.lab")
        self._spec = importlib.import_module("lab.timeline").resolve(dict(TIMELINE))
        self._host: str = kind.DC_IP
        self._device = "wan0"
        self._lab = kind.Lab(default_timeline=self._spec, tls=True)
        self._startup: dict[str, float] = {}

    def __enter__(self) -> Self:
        """Set the lab up; raise Missing when this host does not let it."""
        try:
            self._lab.__enter__()
        except (OSError, ValueError, RuntimeError) as exc:
            raise Missing(f"the lab did not start ({exc}); may this host make network namespaces?") from exc
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process of the lab."""
        self._lab.__exit__(kind, value, trace)

    @contextmanager
    def responder(self) -> Iterator[str]:
        """Run a server beside the truth server whose own time is next to nothing; give its address."""
        command = [sys.executable, str(Path(__file__).with_name("responder.py")), self._host, str(_RESPONDER_PORT)]
        with subprocess.Popen(self._lab.inside("dc", *command), stdout=subprocess.PIPE, text=True) as process:
            try:
                if process.stdout is None or process.stdout.readline() != "ready\n":
                    raise Missing(f"the responder did not start on {self._host}:{_RESPONDER_PORT}")
                yield f"http://{self._host}:{_RESPONDER_PORT}"
            finally:
                process.terminate()

    def url(self, *, tls: bool) -> str:
        """Return the truth server's address, without a path."""
        return f"https://{self._host}:8443" if tls else f"http://{self._host}:8000"

    def measure(self, client: Client, cell: Cell) -> Score:
        """Run one client under one condition."""
        startup_seconds = self._startup_seconds(client)
        self._lab.wan_path(cell.rtt_ms, cell.loss_percent / 100)
        printed = Path(self._lab.dir) / "printed"
        try:
            found = self._bench.run_cell(
                self._lab, list(client.command), self._plan(cell), cell.hogs, startup_seconds, printed
            )
            errors = [str(row["error"]) for row in self._bench.parse_rows(printed.read_text()) if row.get("error")]
        except (RuntimeError, ValueError) as exc:  # the capture lost packets, or the client printed no JSON
            return Score(client=client.name, cell=cell, judged=0, stalled=0, trouble=str(exc))
        said = [*errors, *found["stderr"].splitlines()]
        return score(client.name, cell, {**found, "said": said, "least_ms": least_ms(self._packets())})

    def ping(self, commands: Sequence[Sequence[str]], *, rtt_ms: int, loss_percent: int) -> Pinged:
        """Run our prober, several at once."""
        self._lab.wan_path(rtt_ms, loss_percent / 100)
        self._lab.fresh()
        self._lab.wan_stats()
        together = " & ".join(shlex.join(command) for command in commands)
        with self._echoes() as echoes_ns:
            run = self._lab.run_client(
                ["sh", "-c", f"trap 'kill 0' TERM; {together} & wait"],
                timeout=_SECONDS,
                env={"SSL_CERT_FILE": self._lab.ca_file},
            )
        wan = self._lab.wan_stats()
        self._lab.finish()
        packets = self._packets()
        found = [one for known in self._truth.load_capture(self._lab.cap_path).values() for one in known]
        return Pinged(
            results=[json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")],
            said=run.stderr,
            wan=wan,
            handshakes=len(found),
            lost_handshakes=sum(one.synack_ns is None or one.synack_ns - one.syn_ns > _LATE_NS for one in found),
            handshakes_ms=handshakes_ms(packets),
            answers_ms=answers_ms(packets),
            echoes_ms=median(echoes_ns) / 1e6 if echoes_ns else None,
        )

    def _packets(self) -> list[Packet]:
        """Read the last capture, which has been finished."""
        data = Path(self._lab.cap_path).read_bytes()
        record = self._truth.RECORD
        whole = len(data) // record.size * record.size
        return [Packet(*fields) for fields in record.iter_unpack(data[:whole])]

    @contextmanager
    def _echoes(self) -> Iterator[list[int]]:
        """Watch the client's device; give a list that holds the round trips of all ICMP echoes when the `with` ends."""
        command = [sys.executable, str(Path(__file__).with_name("echoes.py")), self._device]
        took: list[int] = []
        with subprocess.Popen(
            self._lab.inside("user", *command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise Missing(f"the watch of ICMP echoes did not start on {self._device}")
            try:
                yield took
            finally:
                said, _ = process.communicate()
            took += json.loads(said)

    def _plan(self, cell: Cell | None) -> dict[str, Any]:
        """Return what the client shall do; nothing without a cell."""
        tls = cell is not None and cell.tls
        plan: dict[str, Any] = self._bench.make_plan(
            base_url=f"{self.url(tls=tls)}/v1",
            ca_file=self._lab.ca_file if tls else None,
            http2=cell is not None and cell.http2,
            concurrency=0 if cell is None else cell.streams,
            per_lane=0 if cell is None else cell.per_lane,
            spec=self._spec,
            warm=cell is not None,
        )
        return plan

    def _startup_seconds(self, client: Client) -> float:
        """Return the CPU time that the client takes to start and end."""
        if client.name not in self._startup:
            empty = json.dumps(self._plan(None))
            self._startup[client.name] = median(
                self._lab.run_client(list(client.command), empty, timeout=60).cpu_s for _ in range(_STARTS)
            )
        return self._startup[client.name]
