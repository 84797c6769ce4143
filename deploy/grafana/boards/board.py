"""What all dashboards share: where data comes from, variables, links, annotations, and the order on the grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.boards import promql

PROMETHEUS: Final = models.DataSourceRef(type_val="prometheus", uid="$datasource")
POSTGRES: Final = models.DataSourceRef(type_val="grafana-postgresql-datasource", uid="$postgres")
TAG: Final = "isochrone"
PREFIX: Final = "isochrone-"
MODELS: Final = 'label_values(isochrone_endpoint_info{model!="", endpoint=~"$endpoint"}, model)'

Variable = Builder[models.VariableModel]
Panel = Builder[models.Panel]


@dataclass(frozen=True)
class Row:
    """A heading, and what stands under it until the next."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, kw_only=True)
class Board:
    """One dashboard before it is built."""

    uid: str
    """Without the prefix."""
    title: str
    description: str
    variables: Sequence[Variable]
    """Beside the data sources."""
    rows: Sequence[Row]
    since: str = "now-1h"
    refresh: str = "30s"
    needs_postgres: bool = False

    def build(self) -> models.Dashboard:
        """Return Grafana's dashboard."""
        builder = (
            builders.Dashboard(self.title)
            .uid(PREFIX + self.uid)
            .description(self.description)
            .tags([TAG])
            .readonly()
            .timezone("browser")
            .time(self.since, "now")
            .refresh(self.refresh)
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .link(_others())
        )
        sources = [_source("datasource", "Prometheus", PROMETHEUS)]
        if self.needs_postgres:
            sources.append(_source("postgres", "Postgres", POSTGRES))
        built = builder.variables([*sources, *self.variables]).build()
        built.annotations = models.AnnotationContainer(list_val=[*ANNOTATIONS])
        built.panels = _placed(self.rows)
        return built


class Annotation(models.AnnotationQuery):
    """A query of Prometheus, with the words that the SDK has no fields for."""

    def __init__(self, name: str, expr: str, *, color: str, title: str, text: str) -> None:
        super().__init__(name=name, datasource=PROMETHEUS, icon_color=color, expr=expr)
        self._words = {"titleFormat": title, "textFormat": text, "step": "60s"}

    def to_json(self) -> dict[str, object]:
        """Return Grafana's form of it."""
        return super().to_json() | self._words


ANNOTATIONS: Final = (
    Annotation(
        "Regressions",
        f'ALERTS{{alertstate="firing", alertname=~"{promql.REGRESSIONS}"}}',
        color="orange",
        title="{{alertname}}: {{agent_region}} {{endpoint}}",
        text="cause: {{cause}}, {{severity}}",
    ),
    Annotation(
        "Other alerts",
        f'ALERTS{{alertstate="firing", service="isochrone", severity!="none", alertname!~"{promql.REGRESSIONS}"}}',
        color="red",
        title="{{alertname}}",
        text="{{agent_region}} {{agent}} {{endpoint}} {{job_name}}, {{severity}}",
    ),
    Annotation(
        "New configuration",
        "max(changes(isochrone_config_revision[2m])) > 0",
        color="blue",
        title="New configuration",
        text="a revision of the targets was applied",
    ),
)


def label(name: str, text: str, query: str, *, all_value: str | None = ".+") -> Variable:
    """Return a variable of several values that Prometheus' labels give."""
    return _several(name, text, all_value).datasource(PROMETHEUS).query({"query": query, "refId": name, "qryType": 1})


def column(name: str, text: str, query: str) -> Variable:
    """Return a variable of several values that a query of Postgres gives: SQL takes no pattern for all."""
    return _several(name, text, None).datasource(POSTGRES).query(query)


def _several(name: str, text: str, all_value: str | None) -> builders.QueryVariable:
    variable = (
        builders.QueryVariable(name)
        .label(text)
        .multi(multi=True)
        .include_all(include_all=True)
        .current(models.VariableOption(text=["All"], value=["$__all"], selected=True))
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.NATURAL_ASC)
    )
    return variable if all_value is None else variable.all_value(all_value)


def choice(name: str, text: str, values: Sequence[str]) -> Variable:
    """Return a variable of one value out of those given, the first at first."""
    options = [
        models.VariableOption(text=value, value=value, selected=number == 0) for number, value in enumerate(values)
    ]
    return builders.CustomVariable(name).label(text).values(",".join(values)).options(options).current(options[0])


REGION: Final = label("agent_region", "Region", "label_values(isochrone_agent_region_info, agent_region)")
ENDPOINT: Final = label("endpoint", "Endpoint", "label_values(isochrone_endpoint_info, endpoint)")
MODEL: Final = label("model", "Model", MODELS)
CONNECTION: Final = label("connection", "Connection", "label_values(isochrone_ttft_seconds_count, connection)")


def _source(name: str, text: str, source: models.DataSourceRef) -> Variable:
    return builders.DatasourceVariable(name).label(text).type(source.type_val or "")


def _others() -> Builder[models.DashboardLink]:
    return (
        builders.DashboardLink("Isochrone")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(as_dropdown=True)
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
    )


WIDTH: Final = 24
"""Columns of Grafana's grid."""


def _placed(rows: Sequence[Row]) -> list[models.Panel | models.RowPanel]:
    """Put panels from left to right, and into the next line where one is full."""
    placed: list[Any] = []
    top = 0
    for row in rows:
        heading = builders.Row(row.title).grid_pos(models.GridPos(x=0, y=top, w=WIDTH, h=1)).build()
        placed.append(heading)
        top += 1
        left = height = 0
        for panel in (one.build() for one in row.panels):
            size = panel.grid_pos or models.GridPos(w=WIDTH, h=8)
            if left + size.w > WIDTH:
                left, top, height = 0, top + height, 0
            panel.grid_pos = models.GridPos(x=left, y=top, w=size.w, h=size.h)
            left, height = left + size.w, max(height, size.h)
            placed.append(panel)
        top += height
    for number, panel in enumerate(placed, start=1):
        panel.id_val = number
    return placed
