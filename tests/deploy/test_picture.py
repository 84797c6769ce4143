"""What the picture of a dashboard is made of: numbers as words, tables out of answers, axes."""

from datetime import UTC, datetime

import pytest

from deploy.grafana.picture.asking import Answer, Series, expanded
from deploy.grafana.picture.canvas import Canvas
from deploy.grafana.picture.courses import TICKS, round_top
from deploy.grafana.picture.fields import look_of
from deploy.grafana.picture.frames import frame_of
from deploy.grafana.picture.land import COLUMNS, ROWS, dots
from deploy.grafana.picture.words import ago, written

NOW = datetime(2026, 3, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.0834, "s", "83 ms"),
        (0.0042, "s", "4.2 ms"),
        (1.257, "s", "1.26 s"),
        (600.0, "s", "10 min"),
        (0.3629, "percentunit", "36.3%"),
        (76.4, "suffix: tok/s", "76.4 tok/s"),
        (3.0, "short", "3"),
        (12.5, "currencyUSD", "$12.50"),
        (0.0996, "currencyUSD", "$0.0996"),
    ],
)
def test_numbers_are_written_with_their_unit(value: float, unit: str, words: str) -> None:
    assert written(value, unit) == words


def test_a_moment_is_told_by_its_age() -> None:
    assert [ago(25), ago(600), ago(7_300)] == ["25 s ago", "10 min ago", "2 h ago"]


def test_windows_and_variables_are_filled_in() -> None:
    query = 'sum(rate(x{a=~"$agent_region"}[$__rate_interval])) / increase(y[$__range]) / $__range_s'
    wanted = 'sum(rate(x{a=~".+"}[120s])) / increase(y[3600s]) / 3600'
    assert expanded(query, rate_seconds=120, range_seconds=3_600) == wanted


@pytest.mark.parametrize(("greatest", "top"), [(0.0, 1.0), (0.71, 0.8), (0.8, 0.8), (0.32, 0.4), (81.0, 100.0)])
def test_an_axis_ends_so_that_its_ticks_are_round(greatest: float, top: float) -> None:
    assert round_top(greatest) == pytest.approx(top)
    assert TICKS == 4


def answer(ref: str, **values: float) -> Answer:
    series = tuple(
        Series(labels={"agent_region": name[:2], "endpoint": name[3:]}, points=((NOW, value),))
        for name, value in values.items()
    )
    return Answer(ref=ref, legend="", series=series)


def test_values_of_one_pair_stand_in_one_row() -> None:
    names = {"agent_region": "region", "Value #B": "floor"}
    organize = {"indexByName": {"Value #B": 0}, "renameByName": names, "excludeByName": {"endpoint": True}}
    panel = {
        "transformations": [{"id": "merge"}, {"id": "organize", "options": organize}],
        "options": {"sortBy": [{"displayName": "floor", "desc": True}]},
    }
    frame = frame_of(panel, [answer("A", eu_near=1.0, us_near=2.0), answer("B", eu_near=3.0, us_near=4.0)])
    assert frame.columns == ("floor", "region", "Value #A")
    assert [tuple(row[name] for name in frame.columns) for row in frame.rows] == [(4.0, "us", 2.0), (3.0, "eu", 1.0)]


def test_a_pair_that_was_not_measured_is_an_empty_cell_of_the_matrix() -> None:
    options = {"columnField": "endpoint", "rowField": "agent_region", "valueField": "Value"}
    panel = {"transformations": [{"id": "groupingToMatrix", "options": options}], "options": {}}
    frame = frame_of(panel, [answer("A", us_near=2.0, eu_near=1.0, eu_far=3.0)])
    assert frame.columns == ("agent_region\\endpoint", "far", "near")
    assert [[row.get(name) for name in frame.columns] for row in frame.rows] == [["eu", 3.0, 1.0], ["us", None, 2.0]]


def test_the_highest_threshold_that_is_reached_gives_the_colour() -> None:
    steps = [{"value": None, "color": "green"}, {"value": 0.5, "color": "red"}]
    panel = {"fieldConfig": {"defaults": {"unit": "s", "thresholds": {"steps": steps}}, "overrides": []}}
    look = look_of(panel)
    assert [look.color(value) for value in (0.1, 0.5, 9.0)] == ["green", "red", "red"]


def test_what_agents_and_endpoints_are_called_cannot_break_the_picture() -> None:
    canvas = Canvas()
    canvas.fitting(0, 0, "<script>&", width=100)
    assert "&lt;script&gt;&amp;" in canvas.document(width=1, height=1, title='"<')


def test_land_is_where_it_is() -> None:
    land = set(dots())
    assert all(int(row, 16) < 1 << COLUMNS for row in ROWS)
    near = {(round(latitude / 5), round(longitude / 5)) for latitude, longitude in land}
    places = {"Frankfurt": (50, 9), "Kansas": (39, -98), "Alice Springs": (-24, 134), "Lagos": (7, 4)}
    assert [name for name, (x, y) in places.items() if (round(x / 5), round(y / 5)) not in near] == []
    seas = {"Azores": (35, -40), "Hawaii": (30, -160), "Cape Horn": (-55, 20)}
    assert [name for name, (x, y) in seas.items() if (round(x / 5), round(y / 5)) in near] == []


def test_queries_with_a_label_more_join_by_what_they_have_in_common() -> None:
    more = Series(labels={"agent_region": "eu", "endpoint": "near", "version": "1"}, points=((NOW, 1.0),))
    panel = {"transformations": [{"id": "merge"}], "options": {}}
    frame = frame_of(panel, [Answer(ref="A", legend="", series=(more,)), answer("B", eu_near=2.0)])
    (row,) = frame.rows
    assert [row[name] for name in ("version", "Value #A", "Value #B")] == ["1", 1.0, 2.0]
