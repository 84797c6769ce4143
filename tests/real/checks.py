"""The tally of a run: every expectation told as it is met or missed, and whether one result of a probe is plausible."""

from collections.abc import Mapping
from typing import Any, Final

ORDER: Final = ("dns", "tcp", "tls", "request_started", "request_sent", "headers", "first_event", "first_token")
"""Marks that must not run backwards; `first_token`, `last_token` and `end` follow."""
ROUNDING_SECONDS: Final = 2e-6


class Tally:
    """Counts expectations and prints each."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0

    def expect(self, sentence: str, *, met: bool, detail: object = "") -> bool:
        """Print and count one expectation; return whether it was met."""
        self.passed += met
        self.failed += not met
        said = f" ({detail})" if detail != "" else ""
        print(f"  {'ok  ' if met else 'FAIL'} {sentence}{said}", flush=True)
        return met

    def verdict(self) -> str:
        """Return the last line of the run."""
        word = "PASS" if self.failed == 0 else "FAIL"
        return f"{word}: {self.passed} of {self.passed + self.failed} expectations met"


def faults_of_inference(result: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a good inference result, in the wire's field names: nothing, if it is plausible."""
    if result["outcome"] != "ok":
        return [f"outcome {result['outcome']}: {result.get('reason')}"]
    marks = _marks(result)
    expected = ["rtt_seconds", "ttft_seconds"]
    if "buffered" not in result["flags"]:  # a stream that came at once has no rate, and says so
        expected.append("tokens_per_second")
    faults = [name for name in expected if not _positive(result, name)]
    passed = [marks[name] for name in (*ORDER, "last_token", "end") if marks.get(name) is not None]
    if passed != sorted(passed):
        faults.append(f"marks run backwards: {marks}")
    if not _positive(result.get("tokens") or {}, "output"):
        faults.append("no tokens")
    if (result.get("connection") == "cold") != bool(result.get("setup_seconds")):
        faults.append(f"a {result.get('connection')} connection with a setup of {result.get('setup_seconds')} s")
    return faults + _component_faults(result)


def _component_faults(result: Mapping[str, Any]) -> list[str]:
    parts = result.get("components")
    duration = result.get("duration_seconds")
    if parts is None or duration is None:
        return ["no components"]
    total = sum(parts.values())
    # Half a single-precision digit, for numbers that went through the database.
    if abs(total - duration) > ROUNDING_SECONDS + 1e-6 * duration:
        return [f"components sum to {total}, the duration is {duration}"]
    return []


def _marks(result: Mapping[str, Any]) -> Mapping[str, Any]:
    marks: Mapping[str, Any] = result.get("marks") or {}
    return marks


def _positive(values: Mapping[str, Any], name: str) -> bool:
    value = values.get(name)
    return value is not None and value > 0
