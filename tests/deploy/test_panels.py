"""Every panel of every dashboard is asked as Grafana asks it, and shows something: real results of real processes."""

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any
from xml.etree import ElementTree as ET

import httpx
import psycopg
import pytest
from psycopg import sql as sqltext
from psycopg.rows import dict_row

from agent.simulator import Scenario
from deploy.grafana.boards.__main__ import FOLDER
from deploy.grafana.picture import asking
from deploy.grafana.picture.__main__ import picture_of
from deploy.grafana.picture.frames import frame_of
from isochrone.config import Budget, Duration, Location, Region
from isochrone.physics import great_circle_meters, rtt_floor_seconds
from tests.deploy import expanding
from tests.deploy.expanding import Target, targets_of, variables_of
from tests.deploy.planet import Living, Planet, Stand, living
from tests.postgres import TEMPLATE, Postgres
from tests.programs import need
from tests.system.monitoring import Monitoring

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

NAMES = ("overview", "time", "region", "endpoint", "placement", "results", "fleet", "cost")
PATIENCE_SECONDS = 90
STEP_SECONDS = 15
VIRGINIA = Location(region="us-east", latitude=38.95, longitude=-77.45)
DUBLIN = Location(region="eu-west", latitude=53.35, longitude=-6.26)
QUICK = Scenario(ttft=Duration(0.2), tpot=Duration(0.03), tokens=8)
LUMP = Scenario(ttft=Duration(0.2), tpot=Duration(0.03), tokens=8, coalesce=8)
"""What a proxy that buffers makes of it: results with a flag."""
PLANET = Planet(
    regions=(
        Region(name="eu", latitude=50.1, longitude=8.7, country="DE", weight=0.5),
        Region(name="us", latitude=40.7, longitude=-74.0, country="US", weight=0.5),
    ),
    stands=(
        Stand(name="far", model="model-1", location=VIRGINIA, scenario=QUICK, modules=("rtt", "chat", "warm")),
        Stand(name="broken", model="model-1", location=DUBLIN, scenario=Scenario(status=500)),
        Stand(name="dear", model="model-2", location=DUBLIN, scenario=QUICK, budget=Budget(tokens_per_day=120)),
        Stand(name="lumpy", model="model-2", location=DUBLIN, scenario=LUMP),
        Stand(name="site", location=DUBLIN),
    ),
)
"""One endpoint works, one fails, the budget of one is soon used up, one answers in one lump; and a bare site."""


def document(name: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What Grafana asks."""

    prometheus: Monitoring
    postgres: str
    """Its URL, as a user who may read the views."""

    async def answers(self, target: Target, values: expanding.Values) -> bool:
        """Tell whether a query has data; raise when it is none."""
        if target.is_sql:
            rows = await asyncio.to_thread(self.rows, expanding.sql(target.text, values))
            return any(value is not None for row in rows for value in row.values())
        # What stands in for nothing shall not hide that there is nothing.
        text = expanding.promql(target.text.removesuffix(" or vector(0)"))
        return await self._has_samples(text, is_range=bool(target.query.get("range")))

    async def choices(self, variable: dict[str, Any]) -> list[str]:
        """Return the values that a variable offers."""
        query = variable["query"]
        if variable["type"] == "custom":
            return str(query).split(",")
        if isinstance(query, str):
            rows = await asyncio.to_thread(self.rows, expanding.sql(query, {}))
            return [str(next(iter(row.values()))) for row in rows]
        match = re.fullmatch(r"label_values\((.*), (\w+)\)", query["query"])
        assert match is not None, query
        found = await asyncio.to_thread(self.prometheus.query, expanding.promql(match[1]))
        return sorted({one["metric"].get(match[2], "") for one in found})

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Return what Postgres answers."""
        with psycopg.connect(self.postgres, row_factory=dict_row) as connection:
            return connection.execute(query.encode()).fetchall()

    async def _has_samples(self, query: str, *, is_range: bool) -> bool:
        if not is_range:
            found = await asyncio.to_thread(self.prometheus.query, query)
            values = [float(one["value"][1]) for one in found]
        else:
            values = await asyncio.to_thread(self._course, query)
        return any(not math.isnan(value) for value in values)

    def _course(self, query: str) -> list[float]:
        url = f"http://{self.prometheus.prometheus}/api/v1/query_range"
        now = datetime.now(UTC).timestamp()
        span = {"query": query, "start": now - expanding.RANGE_SECONDS, "end": now, "step": STEP_SECONDS}
        answer = httpx.get(url, params=span, trust_env=False, timeout=10).json()
        assert answer["status"] == "success", f"{query}: {answer}"
        return [float(value) for one in answer["data"]["result"] for _, value in one["values"]]


@pytest.fixture(scope="module")
def planet_url(postgres: Postgres) -> Iterator[str]:
    """Give one database for all, and in it a dashboards' user `grafana`."""
    url = postgres.new_database(TEMPLATE)
    postgres.execute(sqltext.SQL("CREATE ROLE grafana LOGIN IN ROLE isochrone_read"))
    yield url
    postgres.drop_database(url)
    postgres.execute(sqltext.SQL("DROP ROLE grafana"))


@pytest.fixture(scope="module")
async def planet(planet_url: str) -> AsyncIterator[Living]:
    need("prometheus", "prometheus-alertmanager", package="prometheus prometheus-alertmanager")
    with TemporaryDirectory(prefix="isochrone-planet-") as folder:
        async with living(PLANET, Path(folder), planet_url) as world:
            yield world


@pytest.fixture
def sources(planet: Living, planet_url: str) -> Sources:
    return Sources(prometheus=planet.seen, postgres=planet_url.replace("//postgres", "//grafana"))


@pytest.mark.parametrize("name", NAMES)
async def test_every_query_of_a_dashboard_brings_data(sources: Sources, name: str) -> None:
    board = document(name)
    missing = list(targets_of(board))
    assert missing
    began = monotonic()
    while missing and monotonic() - began < PATIENCE_SECONDS:
        values = {word: await sources.choices(variable) for word, variable in variables_of(board).items()}
        missing = [target for target in missing if not await sources.answers(target, values)]
        await asyncio.sleep(0.5)
    assert [target.name for target in missing] == []
    assert all(values.values()), values


@pytest.mark.parametrize("name", ["Regressions", "Other alerts"])
async def test_alerts_are_drawn_over_the_graphs(sources: Sources, name: str) -> None:
    annotation = next(one for one in document("overview")["annotations"]["list"] if one["name"] == name)
    target = Target(panel=name, query={"expr": annotation["expr"], "range": True, "refId": "A"})
    began = monotonic()
    while not await sources.answers(target, {}):
        assert monotonic() - began < PATIENCE_SECONDS
        await asyncio.sleep(0.5)


async def test_a_new_configuration_is_a_query_that_prometheus_takes(sources: Sources) -> None:
    annotation = document("overview")["annotations"]["list"][2]
    target = Target(panel=annotation["name"], query={"expr": annotation["expr"], "range": True, "refId": "A"})
    assert await sources.answers(target, {}) in (True, False)


async def test_the_floor_of_the_placement_dashboard_is_that_of_physics(sources: Sources) -> None:
    board = document("placement")
    values = {word: await sources.choices(variable) for word, variable in variables_of(board).items()}
    (target,) = (one for one in targets_of(board) if one.panel == "Candidates by measured round trip")
    rows = await asyncio.to_thread(sources.rows, expanding.sql(target.text, values))
    regions = {region.name: region for region in PLANET.regions}
    places = {stand.name: stand.location for stand in PLANET.stands}
    assert {(row["region"], row["candidate"]) for row in rows} == {(one, two) for one in regions for two in places}
    for row in rows:
        region, place = regions[row["region"]], places[row["candidate"]]
        assert place.latitude is not None
        assert place.longitude is not None
        meters = great_circle_meters(
            region.latitude, region.longitude, latitude_b=place.latitude, longitude_b=place.longitude
        )
        assert row["floor"] == pytest.approx(rtt_floor_seconds(meters), rel=1e-6)
        assert row["round trip"] > row["floor"]
    ranked = {(row["region"], row["rank"]): row["candidate"] for row in rows}
    assert ranked["us", 1] == "far"
    assert ranked["eu", 1] != "far"


async def test_the_rows_of_joined_tables_are_whole(sources: Sources) -> None:
    """What several queries bring stands in one row for each pair or agent, in the columns that the panel names."""
    span = asking.Span(until=datetime.now(UTC), seconds=expanding.RANGE_SECONDS)
    server = asking.Prometheus(f"http://{sources.prometheus.prometheus}", span)
    panels = [panel for name in NAMES for panel in expanding.panels_of(document(name))]
    joined = [panel for panel in panels if any(step["id"] == "merge" for step in panel.get("transformations", ()))]
    assert len(joined) >= 4
    for panel in joined:
        answers = [await asyncio.to_thread(server.ask, target) for target in panel["targets"]]
        frame = frame_of(panel, answers)
        (told,) = (step["options"] for step in panel["transformations"] if step["id"] == "organize")
        names = [new for name in told["indexByName"] for new in [told["renameByName"].get(name, name)]]
        assert list(frame.columns) == names, panel["title"]
        keys = [tuple(value for value in row.values() if isinstance(value, str)) for row in frame.rows]
        assert len(set(keys)) == len(keys), panel["title"]
        assert any(None not in row.values() and len(row) == len(names) for row in frame.rows), panel["title"]


async def test_the_picture_of_the_overview_has_every_panel(sources: Sources) -> None:
    board = document("overview")
    span = asking.Span(until=datetime.now(UTC), seconds=expanding.RANGE_SECONDS)
    drawn = await asyncio.to_thread(picture_of, board, f"http://{sources.prometheus.prometheus}", span)
    words = {element.text for element in ET.fromstring(drawn).iter()}  # noqa: S314  our own
    assert {panel["title"] for panel in board["panels"]} <= words
    assert {"eu", "us", "far"} <= words
    assert "no data" not in words
