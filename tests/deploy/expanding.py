"""What Grafana makes of a query before it asks: variables and macros, filled in as its data sources do."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.grafana.picture import asking

RATE_SECONDS = 120
RANGE_SECONDS = 3_600
INTERVAL = "5m"
INTERVAL_SECONDS = 300
PROMETHEUS = {"type": "prometheus", "uid": "$datasource"}
POSTGRES = {"type": "grafana-postgresql-datasource", "uid": "$postgres"}

Values = Mapping[str, Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Target:
    """One query of one panel."""

    panel: str
    query: dict[str, Any]

    @property
    def text(self) -> str:
        return str(self.query.get("expr") or self.query["rawSql"])

    @property
    def is_sql(self) -> bool:
        return "rawSql" in self.query

    @property
    def name(self) -> str:
        return f"{self.panel} {self.query['refId']}"


def panels_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels that show something."""
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def targets_of(document: dict[str, Any]) -> Iterator[Target]:
    """Yield every query of a dashboard."""
    for panel in panels_of(document):
        for query in panel["targets"]:
            yield Target(panel=panel["title"], query=query)


def variables_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the variables of a dashboard by name, data sources aside."""
    return {one["name"]: one for one in document["templating"]["list"] if one["type"] != "datasource"}


def promql(text: str) -> str:
    """Return a query of Prometheus with all values of every variable chosen."""
    return _whole(asking.expanded(text, rate_seconds=RATE_SECONDS, range_seconds=RANGE_SECONDS))


def sql(text: str, values: Values) -> str:
    """Return a query of Postgres that asks for the last hour (postgres/macros.go of Grafana)."""
    text = text.replace("$__interval", INTERVAL)
    text = re.sub(r"\$\{(\w+):sqlstring\}", lambda match: _quoted(values[match[1]]), text)
    text = re.sub(
        r"\$__timeFilter\(([^()]*)\)",
        rf"\1 BETWEEN now() - interval '{RANGE_SECONDS} seconds' AND now()",
        text,
    )
    text = re.sub(
        rf"\$__timeGroupAlias\(([^(),]*),{INTERVAL}\)",
        rf'floor(extract(epoch from \1)/{INTERVAL_SECONDS})*{INTERVAL_SECONDS} AS "time"',
        text,
    )
    return _whole(re.sub(r"\$([a-z]+)", lambda match: values[match[1]][0], text))


def _quoted(values: Sequence[str]) -> str:
    return ",".join("'" + value.replace("'", "''") + "'" for value in values)


def _whole(text: str) -> str:
    assert "$" not in text, f"Grafana knows no such variable or macro: {text}"
    return text
