"""A real Prometheus and a real Alertmanager with our configuration, and the webhook that Alertmanager calls.

The files are those of `deploy/`, with addresses of this machine and with shorter times: a minute of the rules becomes
about a second. `SHORTER` is the whole list, in the order in which it is applied; what is compared with a number of
seconds stands there too. Shares, factors and counts stay what they are.
"""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from collector.config import Listen
from collector.processes import Child, Program
from collector.up import ask
from tests.scripted_http import Reply, Request, serving

LOOPBACK = "127.0.0.1"
DEPLOY = Path(__file__).parents[2] / "deploy"
WINDOW_SECONDS = 8
SHORTER = (
    # A baseline after 18 s: 6 s to wait, 12 means. A day's median is one of a minute.
    ("[1d:5m] offset 1h", "[1m:1s] offset 6s"),
    ("keep_firing_for: 5m", "keep_firing_for: 6s"),
    ("interval: 2m", "interval: 1s"),
    ("for: 15m", "for: 10s"),
    ("for: 10m", "for: 6s"),
    ("for: 5m", "for: 1s"),
    ("for: 2m", "for: 2s"),
    ("for: 1m", "for: 1s"),
    ("[5m]", f"[{WINDOW_SECONDS}s]"),
    ("[10m]", "[20s]"),
    ("[15m]", "[15s]"),
    ("[30m]", "[30s]"),
    ("[1h]", "[30s]"),
    ("[6h]", "[60s]"),
    # How long an agent may be silent. It reports every second here, every ten seconds elsewhere.
    ("> 120", "> 7"),
    # How long a collector must have run until an agent's silence counts.
    ("uptime_seconds:max < 300", "uptime_seconds:max < 12"),
)
ROUTES = (
    ("group_wait: 30s", "group_wait: 2s"),
    ("group_interval: 5m", "group_interval: 2s"),
    ("1m", "1s"),
    ("2m", "2s"),
)


def shortened(text: str, pairs: tuple[tuple[str, str], ...]) -> str:
    """Return `text` with each pair's first replaced by its second."""
    for long, short in pairs:
        text = text.replace(long, short)
    return text


@dataclass(frozen=True, kw_only=True)
class Told:
    """One alert as the webhook got it."""

    status: str
    labels: dict[str, str]
    annotations: dict[str, str]


@dataclass
class Receiver:
    """Keeps what Alertmanager sends."""

    told: list[Told] = field(default_factory=list)
    beats: int = 0
    """Calls of the heartbeat."""

    def __call__(self, request: Request) -> Reply:
        if request.path == "/heartbeat":
            self.beats += 1
            return Reply()
        for alert in json.loads(request.body)["alerts"]:
            self.told.append(Told(status=alert["status"], labels=alert["labels"], annotations=alert["annotations"]))
        return Reply()

    def find(self, status: str, name: str, **labels: str) -> Told | None:
        """Return the newest alert of this name and these labels that was told to be firing or resolved."""
        wanted = {"alertname": name, **labels}.items()
        found = [one for one in self.told if one.status == status and wanted <= one.labels.items()]
        return found[-1] if found else None


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """Both programs, and what the webhook heard."""

    receiver: Receiver
    prometheus: Listen
    alertmanager: Listen

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the answer of an instant query."""
        answer = self._ask(self.prometheus, "/api/v1/query", query=expression)
        return list(answer["data"]["result"])

    def value(self, expression: str) -> float | None:
        """Return the value of a query with one answer; None: it has none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    def types(self) -> dict[str, str]:
        """Return the type of every metric. OpenMetrics, which Prometheus asks for, names counters without _total."""
        told = {name: one[0]["type"] for name, one in self._ask(self.prometheus, "/api/v1/metadata")["data"].items()}
        return told | {f"{name}_total": kind for name, kind in told.items() if kind == "counter"}

    def muted(self) -> set[tuple[str, str, str]]:
        """Return the name, region and endpoint of the alerts that Alertmanager holds back."""
        alerts = self._ask(self.alertmanager, "/api/v2/alerts", active="false", inhibited="true")
        labels = [alert["labels"] for alert in alerts]
        return {(one["alertname"], one.get("agent_region", ""), one.get("endpoint", "")) for one in labels}

    def _ask(self, listen: Listen, path: str, **parameters: str) -> Any:  # noqa: ANN401  each call has its own answer
        answer = httpx.get(f"http://{listen}{path}", params=parameters, trust_env=False, timeout=10)
        return answer.raise_for_status().json()


@asynccontextmanager
async def monitoring(folder: Path, collector: Listen) -> AsyncIterator[Monitoring]:
    """Run both programs beside a collector."""
    receiver = Receiver()
    async with serving(receiver) as webhook:
        prometheus, alertmanager = (ask.reserve(Listen(LOOPBACK, 0)) for _ in range(2))
        write_files(folder, {"collector:8420": str(collector), "alertmanager:9093": str(alertmanager)}, webhook)
        children = [Child(program=program) for program in _programs(folder, prometheus, alertmanager)]
        try:
            for child in children:
                await child.start()
            yield Monitoring(receiver=receiver, prometheus=prometheus, alertmanager=alertmanager)
        finally:
            for child in children:
                await child.kill()


def write_files(folder: Path, addresses: dict[str, str], webhook: str) -> None:
    """Write our configuration with shorter times and other addresses."""
    rules = folder / "rules"
    rules.mkdir(parents=True)
    for path in (DEPLOY / "prometheus" / "rules").glob("*.yml"):
        (rules / path.name).write_text(shortened(path.read_text(encoding="utf-8"), SHORTER), encoding="utf-8")
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    text = re.sub(r"_interval: \d+s", "_interval: 1s", shortened(text, tuple(addresses.items())))
    (folder / "prometheus.yml").write_text(text, encoding="utf-8")
    text = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8")
    text = shortened(text, (*ROUTES, ("http://localhost:9099", webhook)))
    (folder / "alertmanager.yml").write_text(text, encoding="utf-8")


def _programs(folder: Path, prometheus: Listen, alertmanager: Listen) -> tuple[Program, Program]:
    first = (
        "prometheus-alertmanager",
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={alertmanager}",
        "--cluster.listen-address=",
    )
    second = (
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={prometheus}",
        # What fires before Prometheus has looked for Alertmanager (5 s) is sent again after this.
        "--rules.alert.resend-delay=5s",
    )
    return _program(folder, first, alertmanager), _program(folder, second, prometheus)


def _program(folder: Path, command: tuple[str, ...], listen: Listen) -> Program:
    async def ready(_pid: int) -> bool:
        return await ask.get(listen, "/-/ready") is not None

    return Program(
        name=command[0], command=command, environment={}, log=folder / f"{command[0]}.log", ready=ready, stop_seconds=10
    )
