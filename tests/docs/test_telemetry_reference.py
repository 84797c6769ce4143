"""`docs/reference/telemetry.md` names every metric that exports send, with its unit and kind, and no other."""

import re
from pathlib import Path

from collector.telemetry import genai
from collector.telemetry.remotewrite import METRICS
from collector.telemetry.values import INSTRUMENTS

TEXT = (Path(__file__).parents[2] / "docs" / "reference" / "telemetry.md").read_text(encoding="utf-8")


def cells(pattern: str) -> list[list[str]]:
    return [
        [cell.strip(" `") for cell in line.strip("|").split("|")]
        for line in re.findall(pattern, TEXT, flags=re.MULTILINE)
    ]


def test_every_otlp_metric_stands_there_with_unit_and_kind() -> None:
    said = [row[:3] for row in cells(r"^\| `[a-z_.]+` \| `\S+` \| (?:histogram|sum) .*\|$")]
    assert said == [[one.name, one.unit, "histogram" if one.bounds else "sum"] for one in INSTRUMENTS]


def test_every_remote_write_metric_stands_there() -> None:
    assert [row[0] for row in cells(r"^\| `isochrone_result_.*\|$")] == list(METRICS)


def test_every_provider_name_stands_there() -> None:
    (row,) = cells(r"^\| `gen_ai\.provider\.name`.*\|$")
    assert set(re.findall(r"`([a-z_.]+)`", row[1] + "`")) == {
        *genai.PROVIDER_NAMES.values(),
        *genai.HOST_NAMES.values(),
    }
