"""The floor of a round trip, against places whose distance is known."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.physics import EARTH_RADIUS_METERS, great_circle_meters, rtt_floor_seconds

PLACES = {
    "Frankfurt": (50.1109, 8.6821),
    "Ashburn": (39.0438, -77.4874),
    "Sydney": (-33.8688, 151.2093),
    "Singapore": (1.3521, 103.8198),
}
latitudes = st.floats(-90, 90)
longitudes = st.floats(-180, 180)
points = st.tuples(latitudes, longitudes)
HALF_WAY_ROUND = math.pi * EARTH_RADIUS_METERS


def distance(a: tuple[float, float], b: tuple[float, float]) -> float:
    return great_circle_meters(*a, latitude_b=b[0], longitude_b=b[1])


@pytest.mark.parametrize(
    ("a", "b", "kilometres"),
    [
        ("Frankfurt", "Ashburn", 6_547),
        ("Frankfurt", "Singapore", 10_257),
        ("Sydney", "Singapore", 6_308),
        ("Ashburn", "Sydney", 15_700),
    ],
)
def test_distances_of_cities_are_those_of_the_atlas(a: str, b: str, kilometres: float) -> None:
    assert distance(PLACES[a], PLACES[b]) == pytest.approx(kilometres * 1_000, rel=0.01)


@pytest.mark.parametrize(
    ("a", "b", "share_of_circumference"),
    [
        ((0, 0), (0, 90), 0.25),
        ((0, 0), (0, 180), 0.5),
        ((90, 0), (-90, 0), 0.5),
        ((90, 12), (90, -99), 0.0),
        ((0, 179), (0, -179), 2 / 360),
    ],
)
def test_arcs_of_the_globe(a: tuple[float, float], b: tuple[float, float], share_of_circumference: float) -> None:
    expected = share_of_circumference * 2 * math.pi * EARTH_RADIUS_METERS
    assert distance(a, b) == pytest.approx(expected, abs=1e-3)


@given(points, points)
def test_a_distance_is_the_same_both_ways_and_never_more_than_half_way_round(
    a: tuple[float, float], b: tuple[float, float]
) -> None:
    assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-3)
    assert 0 <= distance(a, b) <= HALF_WAY_ROUND * (1 + 1e-9)


@given(points)
def test_a_place_is_no_distance_from_itself(a: tuple[float, float]) -> None:
    assert distance(a, a) == 0


@given(points, points, points)
def test_a_detour_is_never_shorter(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> None:
    # Near the antipode the haversine loses half its digits: a metre of 20,000 km.
    assert distance(a, c) <= distance(a, b) + distance(b, c) + 1.0


def test_a_thousand_kilometres_of_fibre_take_ten_milliseconds_there_and_back() -> None:
    assert rtt_floor_seconds(1_000_000) == pytest.approx(0.010007, rel=1e-4)


def test_no_distance_has_no_floor() -> None:
    assert rtt_floor_seconds(0) == 0
