"""`docs/reference/http.md` names every route, problem and field of the collector's interface, and no other."""

import re
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from collector.api import asking, enrolment, exports
from collector.api.context import ROTATE_HEADER
from collector.api.problems import PROBLEMS
from collector.api.series import (
    LONGEST_BASELINE_SECONDS,
    LONGEST_SECONDS,
    MAX_POINTS,
    MAX_VALUES,
    PLENTY,
    STEPS,
    By,
    Series,
    SeriesAnswer,
    Signal,
    Statistic,
)
from collector.api.summary import Summary, SummaryRow
from collector.app import create_app
from collector.config import Settings
from collector.export import FORMATS
from collector.export.parquet import GROUP_ROWS
from collector.fleet import AgentState, AgentWarning, FleetRow
from collector.identity import Enrolled, Enrolment
from collector.ingest import RejectReason
from isochrone.batch import MAX_BODY_BYTES, MAX_INFLATED_BYTES, MAX_RESULTS, MEDIA_TYPE, Ack
from isochrone.durations import format_duration
from tests.collecting import batch_of, inference_result, running_collector

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "http.md"
TEXT = PAGE.read_text(encoding="utf-8")
NOT_FOR_PEOPLE = {"/docs/oauth2-redirect"}
"""FastAPI's own, part of /docs."""

ASKED = {
    "calling_agent": "agent",
    "joining": "join token",
    "may_read": "reader",
    "may_scrape": "reader",
    "may_administer": "administrator",
}
"""Who may call, by the dependency of the route."""


def section(heading: str) -> str:
    return TEXT.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def table(heading: str) -> list[list[str]]:
    """Return the cells of the rows under `heading` whose first cell is in code."""
    lines = re.findall(r"^\| `.*\|$", section(heading), flags=re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def words(heading: str) -> list[str]:
    return [word for cells in table(heading) for word in re.findall(r"`([^`]+)`", cells[0])]


def app_routes() -> dict[str, Route]:
    """Return the routes of the app by call, as `GET /metrics`."""
    app = create_app(Settings(database_url="postgresql://nobody@127.0.0.1:1/none"))
    found: dict[str, Route] = {}
    for route in flat(app.routes):
        if route.path not in NOT_FOR_PEOPLE:
            for method in (route.methods or set()) - {"HEAD"}:
                found[f"{method} {route.path}"] = route
    return found


def flat(routes: list[object]) -> list[Route]:
    """Return the routes with those of routers inside; newer releases of FastAPI keep a router whole."""
    found: list[Route] = []
    for route in routes:
        inner = getattr(route, "original_router", None)
        found += [route] if isinstance(route, Route) else flat(list(inner.routes)) if inner is not None else []
    return found


def asked(route: Route) -> str:
    """Return who may call, by what the route depends on."""
    if not isinstance(route, APIRoute):
        return "anybody"
    names = {getattr(one.call, "__name__", "") for one in route.dependant.dependencies}  # codespell:ignore dependant
    return next((who for name, who in ASKED.items() if name in names), "anybody")


def parameter_names(route: Route) -> set[str]:
    assert isinstance(route, APIRoute)
    return asking.parameters(route.dependant)  # codespell:ignore dependant


def test_the_routes_stand_in_the_reference_and_no_other() -> None:
    assert sorted(cells[0].strip("`") for cells in table("Routes")) == sorted(app_routes())


def test_who_may_call_a_route_stands_beside_it() -> None:
    routes = app_routes()
    said = {cells[0].strip("`"): cells[1] for cells in table("Routes")}
    assert said == {call: asked(routes[call]) for call in said}


def test_the_problems_stand_in_the_reference_in_their_order() -> None:
    said = {cells[0].strip("`"): (int(cells[1]), cells[2]) for cells in table("Problems")}
    assert list(said.items()) == list(PROBLEMS.items())


def test_every_status_of_a_route_but_success_is_a_problem() -> None:
    statuses = {int(status) for cells in table("Routes") for status in cells[3].split(", ")}
    assert statuses - {200, 304} <= {status for status, _ in PROBLEMS.values()}


def test_the_fields_of_a_summary_row_stand_in_the_reference_and_no_other() -> None:
    assert sorted(words("GET /v1/summary")) == sorted(SummaryRow.__struct_fields__)
    assert all(f'"{name}"' in section("GET /v1/summary") for name in Summary.__struct_fields__)


def test_the_signals_statistics_and_fields_of_series_stand_in_the_reference_and_no_other() -> None:
    said = section("GET /v1/series")
    fields = {*SeriesAnswer.__struct_fields__, *Series.__struct_fields__}
    parameters = parameter_names(app_routes()["GET /v1/series"])
    assert set(words("GET /v1/series")) == set(SeriesAnswer.__struct_fields__) | parameters
    assert all(f"`{word}`" in said for word in (*Signal, *Statistic, *By, *fields, *map(format_duration, STEPS)))
    assert f"at most {MAX_POINTS:,} points" in said
    assert f"more than {MAX_VALUES:,} steps" in said
    assert f"at most {PLENTY} points" in said
    longest = (LONGEST_SECONDS / 86_400, LONGEST_BASELINE_SECONDS / 86_400)
    assert "at most {:g} days apart, {:g} by hour of day".format(*longest) in said


def test_the_bounds_of_exports_stand_in_the_reference() -> None:
    said = section("GET /v1/export")
    assert set(words("GET /v1/export")) == parameter_names(app_routes()["GET /v1/export"])
    assert all(f"`{name}`" in said for name in FORMATS)
    assert f"pieces of {exports.PIECE_ROWS:,} rows" in said
    assert f"some {GROUP_ROWS:,} rows" in said
    assert f"nothing for {exports.TAKE_SECONDS:g} s" in said


def test_the_fields_of_an_agent_its_states_and_warnings_stand_in_the_reference_and_no_other() -> None:
    parameters = {"window"}
    states = {state.value for state in AgentState}
    said = set(words("GET /v1/agents")) - parameters
    assert said - states == set(FleetRow.__struct_fields__)
    assert states <= said
    assert all(f"`{warning.value}`" in section("GET /v1/agents") for warning in AgentWarning)


def test_the_fields_of_an_acknowledgement_stand_in_the_reference_in_their_order() -> None:
    assert words("POST /v1/batches") == list(Ack.__struct_fields__)


def test_the_bounds_of_a_batch_and_the_reasons_of_a_refusal_stand_in_the_reference() -> None:
    said = section("POST /v1/batches")
    assert f"{MAX_BODY_BYTES // 1024} KiB as sent" in said
    assert f"{MAX_INFLATED_BYTES // 1024**2} MiB inflated" in said
    assert f"{MAX_RESULTS} results" in said
    assert f"`{MEDIA_TYPE}`" in said
    assert all(f"`{reason.value}`" in said for reason in RejectReason if reason is not RejectReason.INVALID)


def test_what_an_agent_says_when_it_joins_and_what_it_is_told_stand_in_the_reference() -> None:
    assert words("POST /v1/agents/enroll") == [*Enrolment.__struct_fields__, "agent", "agent_region"]
    assert set(Enrolled.__struct_fields__) == {"agent", "agent_region", "key_id"}
    assert f"at most {enrolment.MAX_BYTES // 1024} KiB" in section("POST /v1/agents/enroll")
    assert f"`{ROTATE_HEADER}: 1`" in section("GET and PUT /v1/agent/credential")


def test_the_parameters_of_the_queries_stand_in_the_reference() -> None:
    routes = app_routes()
    for call, heading in (
        ("GET /v1/results", "GET /v1/results"),
        ("GET /v1/summary", "GET /v1/summary"),
        ("GET /v1/agents", "GET /v1/agents"),
        ("GET /v1/series", "GET /v1/series"),
        ("GET /v1/export", "GET /v1/export"),
    ):
        assert all(f"`{name}`" in section(heading) for name in parameter_names(routes[call]))


@pytest.mark.anyio
async def test_the_fields_of_a_result_stand_in_the_reference_and_no_other(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result()]))
        (result,) = (await collector.client.get("/v1/results")).json()["results"]
    queries = parameter_names(app_routes()["GET /v1/results"])
    assert set(words("GET /v1/results")) == set(result) | queries
