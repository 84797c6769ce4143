"""The table of what fires, as several dashboards show it."""

from typing import Final

from grafana_foundation_sdk.builders import table

from deploy.grafana.boards import promql
from deploy.grafana.boards.panels import AGO, COUNT, Value, cells_of, grid, renamed

COLUMNS: Final = {
    "severity": "severity",
    "alertname": "alert",
    "agent_region": "region",
    "endpoint": "endpoint",
    "model": "model",
    "cause": "cause",
    "Value": "since",
}
HIDDEN: Final = ("Time", "__name__", "job", "service", "scope", "connection", "probe", "window", "instance")
SEVERITIES: Final = {"critical": "red", "warning": "orange", "info": "blue"}


def firing(title: str, text: str, where: str) -> table.Panel:
    """Return the alerts that fire, with the moment since when."""
    expr = f'1000 * (ALERTS_FOR_STATE{{{where}}} and ignoring (alertstate) ALERTS{{alertstate="firing", {where}}})'
    colors = {name: {"color": color, "text": name} for name, color in SEVERITIES.items()}
    panel = (
        grid(title, text, COUNT)
        .with_target(cells_of(expr))
        .no_value("nothing fires")
        .override_by_name("since", [Value(id_val="unit", value=AGO)])
        .override_by_name(
            "severity",
            [
                Value(id_val="mappings", value=[{"type": "value", "options": colors}]),
                Value(id_val="custom.cellOptions", value={"type": "color-background", "mode": "basic"}),
                Value(id_val="custom.width", value=90),
            ],
        )
    )
    return renamed(panel, COLUMNS, hidden=HIDDEN)


def regressions(where: str = "", *, title: str = "Active regressions") -> table.Panel:
    """Return what fires about what users feel."""
    text = (
        "Alerts that fire because users wait longer, or are not served: since when, and what the cause is. "
        "Single regions are shown even where a wider alert mutes their message."
    )
    return firing(title, text, f'alertname=~"{promql.REGRESSIONS}"{where}')
