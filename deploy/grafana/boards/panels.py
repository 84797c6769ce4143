"""Panels as our dashboards use them: each asks its queries, has a unit, and says what it shows."""

from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import barchart, bargauge, common, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models

from deploy.grafana.boards.board import POSTGRES, PROMETHEUS

SECONDS: Final = "s"
SHARE: Final = "percentunit"
PER_SECOND: Final = "suffix: tok/s"
COUNT: Final = "short"
DOLLARS: Final = "currencyUSD"
AGO: Final = "dateTimeFromNow"
STEP: Final = "1m"
"""Of graphs: with it `$__rate_interval` is at least four minutes, four probes of the usual modules."""
GAP_MS: Final = 900_000.0
"""Over a longer silence no line is drawn."""

GREEN, YELLOW, ORANGE, RED, BLUE, PURPLE, GREY = (
    "#3fb27f", "#e5c04b", "#ef8c3b", "#e0556a", "#4c8dff", "#a274f0", "#8a93a6",
)  # fmt: skip
COMPONENTS: Final = {"network": BLUE, "model": PURPLE, "streaming": GREEN}
RTT_STEPS: Final = ((None, GREEN), (0.08, YELLOW), (0.15, ORANGE), (0.25, RED))
"""From where a conversation notices the way: 250 ms is half the world."""
TTFT_STEPS: Final = ((None, GREEN), (0.8, YELLOW), (2.0, RED))
"""Chat: good to 0.8 s, fair to 2 s."""
TOKEN_STEPS: Final = ((None, RED), (7.0, YELLOW), (20.0, GREEN))
"""Chat: 7 tokens per second is faster than people read, 20 is good."""
GOOD_SHARE_STEPS: Final = ((None, RED), (0.8, YELLOW), (0.95, GREEN))
BAD_SHARE_STEPS: Final = ((None, GREEN), (0.005, YELLOW), (0.05, RED))
BAD_COUNT_STEPS: Final = ((None, GREEN), (1.0, RED))
EFFICIENCY_STEPS: Final = ((None, RED), (0.25, YELLOW), (0.5, GREEN))

Steps = tuple[tuple[float | None, str], ...]
Value = models.DynamicConfigValue


@dataclass(frozen=True)
class SqlQuery(variants.Dataquery, Builder[variants.Dataquery]):
    """A query of Postgres: the SDK knows none. It is its own builder."""

    sql: str
    ref_id: str
    format: str

    def build(self) -> variants.Dataquery:
        """Return itself."""
        return self

    def to_json(self) -> dict[str, object]:
        """Return Grafana's form of it."""
        return {
            "refId": self.ref_id,
            "datasource": POSTGRES,
            "editorMode": "code",
            "format": self.format,
            "rawQuery": True,
            "rawSql": self.sql,
        }


def rows_of(sql: str, ref: str = "A") -> Builder[variants.Dataquery]:
    """Return a query whose rows are shown as a table."""
    return SqlQuery(sql=sql, ref_id=ref, format="table")


def series_of(sql: str, ref: str = "A") -> Builder[variants.Dataquery]:
    """Return a query of columns `time`, `metric` and a value."""
    return SqlQuery(sql=sql, ref_id=ref, format="time_series")


def graph_of(expr: str, legend: str, ref: str = "A") -> prometheus.Dataquery:
    """Return a query over the time shown."""
    return _asked(expr, ref).range().legend_format(legend)


def now_of(expr: str, legend: str = "__auto", ref: str = "A") -> prometheus.Dataquery:
    """Return a query of the end of the time shown."""
    return _asked(expr, ref).instant().legend_format(legend)


def cells_of(expr: str, ref: str = "A") -> prometheus.Dataquery:
    """Return a query of the end of the time shown, with a column for each label."""
    return now_of(expr, ref=ref).format(prometheus_models.PromQueryFormat.TABLE)


def _asked(expr: str, ref: str) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(expr).ref_id(ref).datasource(PROMETHEUS)
    return query.editor_mode(prometheus_models.QueryEditorMode.CODE)


def thresholds(steps: Steps) -> builders.ThresholdsConfig:
    """Return colours from values on."""
    return (
        builders.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=color) for value, color in steps])
    )


def by_thresholds() -> builders.FieldColor:
    """Return that thresholds choose the colour."""
    return builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS)


def fixed(color: str) -> Value:
    """Return that a field has this colour."""
    return Value(id_val="color", value={"mode": "fixed", "fixedColor": color})


def lines(title: str, text: str, unit: str) -> timeseries.Panel:
    """Return a graph of lines with a legend of last and greatest values."""
    return (
        timeseries.Panel()
        .title(title)
        .description(text)
        .datasource(PROMETHEUS)
        .unit(unit)
        .min(0)
        .interval(STEP)
        .span(12)
        .height(8)
        .line_width(2)
        .fill_opacity(6)
        .gradient_mode(kinds.GraphGradientMode.OPACITY)
        .show_points(kinds.VisibilityMode.AUTO)
        .span_nulls(GAP_MS)
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .legend(
            common.VizLegendOptions()
            .display_mode(kinds.LegendDisplayMode.TABLE)
            .placement(kinds.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING))
    )


def stacked(title: str, text: str, unit: str) -> timeseries.Panel:
    """Return a graph of areas that add up."""
    stacking = common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A")
    return lines(title, text, unit).stacking(stacking).fill_opacity(55).line_width(1)


def components(title: str, text: str) -> timeseries.Panel:
    """Return a graph of the parts of the wait, each in its colour; what is called `floor` is a line across."""
    panel = stacked(title, text, SECONDS)
    for name, color in COMPONENTS.items():
        panel.override_by_name(name, [fixed(color)])
    return panel.override_by_name("floor", dashes(RED))


def dashes(color: str) -> list[Value]:
    """Return the look of a line that is compared with: dashed, not stacked, over no area."""
    return [
        fixed(color),
        Value(id_val="custom.stacking", value={"mode": "none", "group": "floor"}),
        Value(id_val="custom.fillOpacity", value=0),
        Value(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 6]}),
        Value(id_val="custom.lineWidth", value=1),
    ]


def number(title: str, text: str, unit: str, *, steps: Steps = ((None, BLUE),)) -> stat.Panel:
    """Return a big number over its course."""
    return (
        stat.Panel()
        .title(title)
        .description(text)
        .datasource(PROMETHEUS)
        .unit(unit)
        .span(4)
        .height(4)
        .thresholds(thresholds(steps))
        .color_scheme(by_thresholds())
        .color_mode(kinds.BigValueColorMode.VALUE)
        .graph_mode(kinds.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def grid(title: str, text: str, unit: str) -> table.Panel:
    """Return a table whose columns are sorted and filtered by a click."""
    return (
        table.Panel()
        .title(title)
        .description(text)
        .datasource(PROMETHEUS)
        .unit(unit)
        .span(24)
        .height(9)
        .filterable(filterable=True)
        .cell_height(kinds.TableCellHeight.SM)
    )


def matrix(title: str, text: str, *, unit: str, steps: Steps, expr: str) -> table.Panel:
    """Return regions against endpoints, each cell with the colour of its value and a way to its region's dashboard."""
    return crossed(grid(title, text, unit), unit, steps).with_target(cells_of(expr))


def crossed(panel: table.Panel, unit: str, steps: Steps) -> table.Panel:
    """Let a table of `agent_region`, `endpoint` and `Value` be a coloured matrix."""
    return (
        panel.unit(unit)
        .span(8)
        .decimals(0)
        .filterable(filterable=False)
        .thresholds(thresholds(steps))
        .color_scheme(by_thresholds())
        .cell_options(kinds.TableColoredBackgroundCellOptions(mode=kinds.TableCellBackgroundDisplayMode.BASIC))
        .no_value("-")
        .with_transformation(
            models.DataTransformerConfig(
                id_val="groupingToMatrix",
                options={
                    "columnField": "endpoint",
                    "rowField": "agent_region",
                    "valueField": "Value",
                    "emptyValue": "null",
                },
            )
        )
        .override_by_name(
            "agent_region\\endpoint",
            [
                Value(id_val="custom.cellOptions", value={"type": "auto"}),
                Value(id_val="displayName", value="from \\ to"),
            ],
        )
        .data_links(
            [
                builders.DashboardLink("${__data.fields[0]} to ${__field.name}").url(
                    "/d/isochrone-region?var-agent_region=${__data.fields[0]}&var-endpoint=${__field.name}"
                    "&${__url_time_range}"
                )
            ]
        )
    )


def bars(title: str, text: str, unit: str) -> bargauge.Panel:
    """Return one bar for each series of an instant query."""
    return (
        bargauge.Panel()
        .title(title)
        .description(text)
        .datasource(PROMETHEUS)
        .unit(unit)
        .min(0)
        .span(12)
        .height(8)
        .orientation(kinds.VizOrientation.HORIZONTAL)
        .display_mode(kinds.BarGaugeDisplayMode.GRADIENT)
        .color_scheme(by_thresholds())
        .thresholds(thresholds(((None, BLUE),)))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def split_bars(title: str, text: str, *, row: str, expr: str) -> barchart.Panel:
    """Return one bar for each value of the label `row`, made of the parts of the wait."""
    panel = (
        barchart.Panel()
        .title(title)
        .description(text)
        .datasource(PROMETHEUS)
        .unit(SECONDS)
        .min(0)
        .span(12)
        .height(9)
        .orientation(kinds.VizOrientation.HORIZONTAL)
        .stacking(kinds.StackingMode.NORMAL)
        .fill_opacity(80)
        .line_width(0)
        .with_target(cells_of(expr))
        .with_transformation(
            models.DataTransformerConfig(
                id_val="groupingToMatrix",
                options={"columnField": "component", "rowField": row, "valueField": "Value", "emptyValue": "zero"},
            )
        )
    )
    for name, color in COMPONENTS.items():
        panel.override_by_name(name, [fixed(color)])
    return panel


def heat(title: str, text: str, expr: str) -> heatmap.Panel:
    """Return how often which value came, by the bounds of a histogram."""
    query = graph_of(expr, "{{le}}").format(prometheus_models.PromQueryFormat.HEATMAP)
    return (
        heatmap.Panel()
        .title(title)
        .description(text)
        .datasource(PROMETHEUS)
        .unit(SECONDS)
        .interval("2m")
        .span(12)
        .height(9)
        .y_axis(heatmap.YAxisConfig().unit(SECONDS))
        .scale_distribution(common.ScaleDistributionConfig().type(kinds.ScaleDistribution.LINEAR))
        .hide_legend()
        .with_target(query)
    )


def renamed(panel: table.Panel, names: dict[str, str], *, hidden: tuple[str, ...] = ("Time",)) -> table.Panel:
    """Put columns into the order of `names`, each with its new name, and leave out those that are hidden."""
    return panel.with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": dict.fromkeys(hidden, True),
                "indexByName": {name: place for place, name in enumerate(names)},
                "renameByName": {name: new for name, new in names.items() if name != new},
            },
        )
    )


def merged(panel: table.Panel) -> table.Panel:
    """Join the rows of several queries that have the same labels."""
    return panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))


def shown_as(unit: str, steps: Steps | None = None) -> list[Value]:
    """Return the unit of a column, and its colours."""
    values = [Value(id_val="unit", value=unit)]
    if steps is None:
        return values
    colors = [{"value": value, "color": color} for value, color in steps]
    return [
        *values,
        Value(id_val="thresholds", value={"mode": "absolute", "steps": colors}),
        Value(id_val="color", value={"mode": "thresholds"}),
        Value(id_val="custom.cellOptions", value={"type": "color-text"}),
    ]
