"""One run: measures what its schedule says, tells how far it is, and collects what was found."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tests.bench.accuracy import report, round_trips, weights
from tests.bench.accuracy.clients import HTTPX, OURS, PEERS, Client, peer_versions
from tests.bench.accuracy.conditions import Cell, Schedule
from tests.bench.accuracy.lab import Lab
from tests.bench.accuracy.scores import Score
from tests.bench.accuracy.verdicts import Finding, RoundTrips, missed, of_round_trips, of_scores

PARTS: Final = ("cells", "losses", "round-trips", "cpu", "memory")
BESIDE_OTHERS: Final = frozenset({"cells", "cpu"})
"""Parts in which other clients are measured too."""


class Session:
    """Collects scores, round trips, findings and troubles."""

    def __init__(self, schedule: Schedule, clients: Sequence[Client]) -> None:
        self._schedule = schedule
        self._clients = clients
        self.scores: list[Score] = []
        self.round_trips: list[RoundTrips] = []
        self.weights: list[Finding] = []
        self.troubles: list[str] = []

    def measure(self, lab: Lab, parts: Sequence[str]) -> None:
        """Measure the parts that need the lab."""
        if "cells" in parts:
            for cell in self._schedule.cells:
                self._measure_cell(lab, cell)
        if "losses" in parts:
            for cell in self._schedule.lossy:
                self._measure_cell(lab, cell)
        if "round-trips" in parts and self._judged() is not None:
            for row in round_trips.measure(lab, self._schedule):
                _say(f"{row.where}: {row.lost} of {row.sent} lost, median {report.number(row.median_ms)} ms")
                self.round_trips.append(row)
        if "cpu" in parts:
            self._weigh_cpu(lab)

    def _measure_cell(self, lab: Lab, cell: Cell) -> None:
        beside = cell in self._schedule.beside
        for client in self._clients:
            if client.judged or beside or self._judged() is None:
                self.scores.append(self._measure_once_or_twice(lab, client, cell))

    def _measure_once_or_twice(self, lab: Lab, client: Client, cell: Cell) -> Score:
        """Measure again what is missed: a fault of the client comes again, a jolt of the machine does not."""
        score = _measured(lab, client, cell)
        if client.judged and missed(score):
            _say(f"{cell.name}, {client.name}: missed; once more")
            score = _measured(lab, client, cell)
        return score

    def _judged(self) -> Client | None:
        return next((client for client in self._clients if client.judged), None)

    def _weigh_cpu(self, lab: Lab) -> None:
        by_name = {client.name: client for client in self._clients}
        if self._judged() is None:
            return
        if not {OURS, HTTPX} <= by_name.keys():
            self.troubles.append(f"CPU time: it is compared with {HTTPX}, which takes no part")
            return
        ours, peer = by_name[OURS], by_name[HTTPX]
        findings, troubles = weights.cpu(
            self._schedule, lambda cell: (_measured(lab, ours, cell), _measured(lab, peer, cell))
        )
        self.weights += findings
        self.troubles += troubles

    def weigh_memory(self) -> None:
        """Measure the agent's memory, without the lab."""
        if self._judged() is None:
            return
        _say("memory: the agent alone, half a minute ...")
        findings, troubles = weights.memory()
        self.weights += findings
        self.troubles += troubles

    def findings(self) -> list[Finding]:
        """Return everything that is held against a limit."""
        ours = [score for score in self.scores if score.client == OURS]
        return [*of_scores(ours), *of_round_trips(self.round_trips), *self.weights]

    def print_tables(self) -> None:
        """Print what was found, then what was expected."""
        if self.scores:
            _print(report.cells(self.scores))
        if self.round_trips:
            _print(report.round_trips(self.round_trips))
        findings = self.findings()
        if findings:
            _print(report.verdicts(findings))
        for finding in findings:
            if not finding.met:
                print(f"missed: {finding.what}: {report.number(finding.measured)} {finding.unit} ({finding.where})")
        for trouble in self._all_troubles():
            print(f"not measured: {trouble}")
        if PEERS.keys() & {client.name for client in self._clients}:
            print(f"beside: {peer_versions()}")

    def _all_troubles(self) -> list[str]:
        cells = [f"{one.cell.name}, {one.client}: {one.trouble}" for one in self.scores if one.trouble is not None]
        paths = [f"{one.where}: {one.trouble}" for one in self.round_trips if one.trouble is not None]
        return [*cells, *paths, *self.troubles]

    def met(self) -> bool:
        """Tell whether everything was measured and nothing is missed; a peer's trouble is its own."""
        own = [one for one in self.scores if one.client == OURS and one.trouble is not None]
        paths = [one for one in self.round_trips if one.trouble is not None]
        return not own and not paths and not self.troubles and all(finding.met for finding in self.findings())

    def verdict(self) -> str:
        """Return the last line."""
        findings = self.findings()
        if not findings and self.met():
            return "nothing was judged"
        missed_count = sum(not finding.met for finding in findings)
        troubles = len(self._all_troubles())
        return f"{'PASS' if self.met() else 'FAIL'}: {len(findings) - missed_count} of {len(findings)} met" + (
            f", {troubles} not measured" if troubles else ""
        )

    def write(self, path: Path) -> None:
        """Write every measurement, one object a line."""
        path.write_text("".join(f"{json.dumps(one)}\n" for one in self._objects()), encoding="utf-8")

    def _objects(self) -> Iterator[dict[str, object]]:
        yield from ({"kind": "cell", **asdict(one)} for one in self.scores)
        yield from ({"kind": "round_trips", **asdict(one)} for one in self.round_trips)
        for one in self.findings():
            measured = None if one.measured == float("inf") else one.measured
            yield {"kind": "finding", **one.fields(), "measured": measured}


def _measured(lab: Lab, client: Client, cell: Cell) -> Score:
    score = lab.measure(client, cell)
    found = (
        f"TTFT p99 {report.number(score.ttft_p99_ms)} ms, tokens {report.number(score.token_p99_ms)} ms, "
        f"CPU {report.number(score.cpu_ms_per_stream)} ms a stream, {score.stalled} stalled"
    )
    _say(f"{cell.name}, {client.name}: {score.trouble or found}")
    return score


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print(text: str) -> None:
    print(f"{text}\n", flush=True)
