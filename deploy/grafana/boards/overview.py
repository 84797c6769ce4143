"""Overview: how well each region is served now, by which endpoint, and what is wrong."""

from typing import Final

from grafana_foundation_sdk.builders import common, geomap, table
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import geomap as geomap_models

from deploy.grafana.boards.alerts import regressions
from deploy.grafana.boards.board import ENDPOINT, PROMETHEUS, REGION, Board, Panel, Row
from deploy.grafana.boards.panels import (
    BAD_COUNT_STEPS,
    BAD_SHARE_STEPS,
    BLUE,
    COUNT,
    DOLLARS,
    EFFICIENCY_STEPS,
    GOOD_SHARE_STEPS,
    PER_SECOND,
    RTT_STEPS,
    SECONDS,
    SHARE,
    TOKEN_STEPS,
    TTFT_STEPS,
    by_thresholds,
    cells_of,
    graph_of,
    grid,
    lines,
    matrix,
    merged,
    now_of,
    number,
    renamed,
    shown_as,
    thresholds,
)
from deploy.grafana.boards.promql import RANGE, coverage, failed, floor, mean, quantile, total

ENDS: Final = "agent_region, endpoint"
RTT: Final = mean("isochrone_network_rtt_seconds", ENDS, over=RANGE)
"""Not a quantile: bounds of buckets would hide what one site is nearer than another."""
TTFT: Final = quantile(0.5, "isochrone_ttft_seconds", ENDS, over=RANGE)
TOKENS: Final = quantile(0.5, "isochrone_output_tokens_per_second", ENDS, over=RANGE)
BEST: Final = f"bottomk by (agent_region) (1, {TTFT})"
"""The endpoint that answers a region first."""
REGION_PLACES: Final = 'max by (agent_region, country, latitude, longitude) (isochrone_agent_region_info{latitude!=""})'
ENDPOINT_PLACES: Final = (
    "max by (endpoint, model, endpoint_region, latitude, longitude)"
    ' (isochrone_endpoint_info{endpoint=~"$endpoint", latitude!=""})'
)


def of_best(value: str) -> str:
    """Return the value between each region and its best endpoint."""
    return f"({value}) and on ({ENDS}) {BEST}"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        uid="overview",
        title="Isochrone / Overview",
        description="How long users wait for AI endpoints, region by region, and what is wrong now.",
        variables=[REGION, ENDPOINT],
        rows=[
            Row("Now", _numbers()),
            Row("Where the users are", [_map(), _best()]),
            Row("From each region to each endpoint", _matrices()),
            Row("What is wrong", [regressions().height(6)]),
            Row("Course", _courses()),
        ],
    )


def _numbers() -> list[Panel]:
    fires = 'ALERTS{alertstate="firing", service="isochrone", severity!="none"}'
    return [
        number("Alerts", "Alerts of Isochrone's rules that fire now.", COUNT, steps=BAD_COUNT_STEPS)
        .with_target(now_of(f"count({fires}) or vector(0)")),
        number("Failures", "Share of probes that failed over the time shown, of those that were tried.", SHARE,
               steps=BAD_SHARE_STEPS).decimals(2)
        .with_target(now_of(failed("", over=RANGE))),
        number("Time to first token", "Half of the first tokens came sooner.", SECONDS, steps=TTFT_STEPS)
        .with_target(now_of(quantile(0.5, "isochrone_ttft_seconds", "", over=RANGE))),
        number("Tokens per second", "Half of the answers were written faster.", PER_SECOND,
               steps=TOKEN_STEPS).decimals(0)
        .with_target(now_of(quantile(0.5, "isochrone_output_tokens_per_second", "", over=RANGE))),
        number("Coverage", "Share of the probes that the agents' schedules called for whose results came in.", SHARE,
               steps=GOOD_SHARE_STEPS).decimals(1)
        .with_target(now_of(coverage("", over=RANGE))),
        number("Spent", "What probes cost over the time shown, by the prices of the target file.", DOLLARS)
        .with_target(now_of(total("isochrone_probe_cost_usd_total", "", 'endpoint=~"$endpoint"', over=RANGE))),
    ]  # fmt: skip


def _map() -> geomap.Panel:
    best = f"min by (agent_region) ({TTFT})"
    ends = f"{REGION_PLACES} * on (agent_region) group_right (country, latitude, longitude) ({best})"
    return (
        geomap.Panel()
        .title("Regions and endpoints")
        .datasource(PROMETHEUS)
        .description(
            "Each region in the colour of its best time to first token; squares are endpoints and sites. "
            "Regions without coordinates in the target file are missing."
        )
        .unit(SECONDS)
        .span(14)
        .height(13)
        .thresholds(thresholds(TTFT_STEPS))
        .color_scheme(by_thresholds())
        .view(geomap.MapViewConfig().id("zero").lat(20).lon(0).zoom(2))
        .controls(geomap.ControlsOptions().show_zoom(show_zoom=True).show_attribution(show_attribution=True))
        .basemap(common.MapLayerOptions().type("default").name("Map"))
        .layers([_markers("Endpoints", "B", shape="square", size=8), _markers("Regions", "A", shape="circle", size=12)])
        .tooltip(geomap.TooltipOptions().mode(geomap_models.TooltipMode.DETAILS))
        .with_target(cells_of(ends, "A"))
        .with_target(cells_of(ENDPOINT_PLACES, "B"))
        .with_transformation(_numbers_of_words("latitude", "longitude"))
    )


def _markers(name: str, ref: str, *, shape: str, size: int) -> common.MapLayerOptions:
    color = {"fixed": BLUE} if ref == "B" else {"field": f"Value #{ref}"}
    style = {
        "color": color,
        "opacity": 0.85,
        "size": {"fixed": size, "min": 2, "max": 15},
        "symbol": {"mode": "fixed", "fixed": f"img/icons/marker/{shape}.svg"},
        "text": {"mode": "field", "field": "endpoint" if ref == "B" else "agent_region"},
        "textConfig": {"fontSize": 11, "offsetY": 16},
    }
    place = common.FrameGeometrySource().mode(kinds.FrameGeometrySourceMode.COORDS)
    return (
        common.MapLayerOptions()
        .type("markers")
        .name(name)
        .config({"showLegend": False, "style": style})
        .location(place.latitude("latitude").longitude("longitude"))
        .filter_data({"id": "byRefId", "options": ref})
        .tooltip(tooltip=True)
    )


def _numbers_of_words(*fields: str) -> models.DataTransformerConfig:
    conversions = [{"targetField": field, "destinationType": "number"} for field in fields]
    return models.DataTransformerConfig(id_val="convertFieldType", options={"conversions": conversions, "fields": {}})


def _best() -> table.Panel:
    efficiency = f"({floor()}) / on ({ENDS}) ({RTT})"
    panel = (
        grid(
            "Best endpoint of each region",
            "The endpoint whose first token comes soonest; its round trip beside the floor, which is light in straight "
            "fibre, and how near it comes: 100 % is not to be had, 50 % is good.",
            SECONDS,
        )
        .span(10)
        .height(13)
        .with_target(cells_of(BEST, "A"))
        .with_target(cells_of(of_best(RTT), "B"))
        .with_target(cells_of(of_best(floor()), "C"))
        .with_target(cells_of(of_best(efficiency), "D"))
        .override_by_name("TTFT", shown_as(SECONDS, TTFT_STEPS))
        .override_by_name("round trip", shown_as(SECONDS, RTT_STEPS))
        .override_by_name("efficiency", shown_as(SHARE, EFFICIENCY_STEPS))
        .sort_by([common.TableSortByFieldState().display_name("TTFT").desc(desc=True)])
    )
    names = {
        "agent_region": "region", "endpoint": "best endpoint", "Value #A": "TTFT",
        "Value #B": "round trip", "Value #C": "floor", "Value #D": "efficiency",
    }  # fmt: skip
    return renamed(merged(panel), names)


def _matrices() -> list[Panel]:
    told = "Median over the time shown. A click leads to the pair."
    return [
        matrix(
            "Round trip",
            "Mean of rtt probes over the time shown. A click leads to the pair.",
            unit=SECONDS,
            steps=RTT_STEPS,
            expr=RTT,
        ),
        matrix("Time to first token", f"On an open connection. {told}", unit=SECONDS, steps=TTFT_STEPS, expr=TTFT),
        matrix("Tokens per second", f"After the first token. {told}", unit=PER_SECOND, steps=TOKEN_STEPS, expr=TOKENS),
    ]


def _courses() -> list[Panel]:
    ttft = quantile(0.5, "isochrone_ttft_seconds", "agent_region")
    rtt = mean("isochrone_network_rtt_seconds", "agent_region")
    return [
        lines("Time to first token", "Half of each region's first tokens came sooner.", SECONDS)
        .with_target(graph_of(ttft, "{{agent_region}}")),
        lines("Round trip", "Mean round trip of each region to the endpoints chosen.", SECONDS)
        .with_target(graph_of(rtt, "{{agent_region}}")),
        lines("Failures", "Share of each endpoint's probes that failed, of those that were tried.", SHARE)
        .with_target(graph_of(failed("endpoint"), "{{endpoint}}")),
        lines("Fleet coverage", "Share of the probes that schedules called for whose results came in.", SHARE).max(1)
        .with_target(graph_of(coverage(), "{{agent_region}}")),
    ]  # fmt: skip
