"""Our own side of the laboratory: Postgres, collector and agent as separate processes, as an operator starts them."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg

from tests.real.lab import Lab, Process, free_port, wait_for
from tests.real.servers import DIRECT, status

BIN: Final = Path(sys.executable).parent
AGENT: Final = str(BIN / "isochrone-agent")
COLLECTOR: Final = str(BIN / "isochrone-collector")
REGION: Final = "laboratory"
START_SECONDS: Final = 60
MAX_RESULTS: Final = 1_000
"""What one question for results may bring."""


class Product:
    """One collector on a real Postgres and one agent that reports to it."""

    def __init__(self, lab: Lab, *, database_url: str) -> None:
        self.database_url = database_url
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._lab = lab
        self._environment = {
            "ISOCHRONE_DATABASE_URL": database_url,
            "ISOCHRONE_LISTEN": f"127.0.0.1:{port}",
            "ISOCHRONE_FLUSH_SECONDS": "1",
        }
        self._credential = lab.folder / "agent.credential"
        self._agent: Process | None = None

    def start_collector(self, targets: str) -> float:
        """Migrate, load the target file, register the agent, serve; return the seconds until it was ready."""
        file = self._lab.folder / "targets.yml"
        file.write_text(targets)
        self.collector("migrate")
        self.collector("targets", "apply", str(file))
        self.collector("agents", "add", "lab-1", "--region", REGION, "--credential-file", str(self._credential))
        process = self._lab.start("collector", (COLLECTOR, "serve"), environment=self._environment)
        return wait_for(
            "the collector", lambda: status(f"{self.url}/readyz") == 200, seconds=START_SECONDS, process=process
        )

    def collector(self, *arguments: str) -> str:
        """Run a command of the collector to its end."""
        return self._lab.run(COLLECTOR, *arguments, environment=self._environment)

    def start_agent(self, keys: Mapping[str, str]) -> Process:
        """Start the agent; `keys` are the secrets that its targets name."""
        environment = {
            "ISOCHRONE_COLLECTOR_URL": self.url,
            "ISOCHRONE_CREDENTIAL_FILE": str(self._credential),
            "ISOCHRONE_STATE_DIR": str(self._lab.folder / "agent"),
            "ISOCHRONE_ALLOW_PRIVATE": "127.0.0.0/8",
            **keys,
        }
        self._agent = self._lab.start("agent", (AGENT, "run", "--json"), environment=environment)
        return self._agent

    def stop_agent(self) -> int:
        """Ask the agent to end, as a service manager does; return its exit code."""
        return 0 if self._agent is None else self._agent.stop()

    def recorded(self) -> list[dict[str, Any]]:
        """Return the results that the agent said it recorded."""
        if self._agent is None:
            return []
        # The last line may still be being written.
        lines = self._agent.output.read_text().rpartition("\n")[0].splitlines()
        return [json.loads(line) for line in lines]

    def results(self, **query: str) -> list[dict[str, Any]]:
        """Return what GET /v1/results answers."""
        asked = "&".join(f"{name}={value}" for name, value in {"limit": str(MAX_RESULTS), **query}.items())
        answer = json.loads(self.get(f"/v1/results?{asked}"))
        found: list[dict[str, Any]] = answer["results"] if isinstance(answer, dict) else answer
        return found

    def summary(self) -> list[dict[str, Any]]:
        """Return the rows of GET /v1/summary."""
        rows: list[dict[str, Any]] = json.loads(self.get("/v1/summary?window=1h"))["rows"]
        return rows

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of `name` that carry these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in self.get("/metrics").splitlines() if line.startswith((name + "{", name + " "))]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(label in line for label in wanted))

    def get(self, path: str) -> str:
        """Return the body of a GET on the collector."""
        with DIRECT.open(self.url + path, timeout=15) as response:
            text: str = response.read().decode()
            return text

    def query(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a statement on the database itself."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(statement.encode(), parameters).fetchall()
