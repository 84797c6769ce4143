"""The floor between two places: found, held against the round trip, and silent where a place is unknown."""

from datetime import UTC, datetime

import msgspec
import pytest

from agent.floor import JSON_FIELDS, Ends, Floor, Place, Source, find_ends, flagged, json_fields, judge, parse_place
from isochrone.outcome import Flag, Outcome, Prober, RttMethod
from isochrone.physics import FLOOR_SLACK_SECONDS, HAVERSINE_ERROR, is_below_floor
from isochrone.result import Pings, Result

FRANKFURT = Place(words="Frankfurt", latitude=50.1109, longitude=8.6821)
ASHBURN = Place(words="Ashburn", latitude=39.0458, longitude=-77.4874)
FLOOR = 0.0655
"""Frankfurt to Ashburn and back: 6,547 km each way."""


def result(rtt_seconds: float | None = 0.09, **fields: object) -> Result:
    good = Result(
        seq=0,
        endpoint="e",
        module="m",
        prober=Prober.INFERENCE,
        started_at=datetime(2026, 1, 2, tzinfo=UTC),
        started_boottime_seconds=1,
        outcome=Outcome.OK,
        rtt_seconds=rtt_seconds,
        flags=(Flag.RETRANSMITS,),
    )
    return msgspec.structs.replace(good, **fields)


def between(found: Result) -> Floor:
    return judge(found, Ends(here=FRANKFURT, there=ASHBURN, source=Source.GIVEN))


@pytest.mark.parametrize(
    ("text", "latitude", "longitude"),
    [
        ("50.11,8.68", 50.11, 8.68),
        ("-33.87, 151.21", -33.87, 151.21),
        ("0,0", 0, 0),
        ("90,-180", 90, -180),
        ("aws/eu-central-1", 50.1109, 8.6821),
        ("eastus", 37.3719, -79.8164),
    ],
)
def test_a_place_is_told_in_degrees_or_by_a_region(text: str, latitude: float, longitude: float) -> None:
    place = parse_place(text)
    assert (place.latitude, place.longitude) == (latitude, longitude)


@pytest.mark.parametrize(
    "text", ["91,0", "0,181", "nan,0", "0,inf", "1,2,3", "a,b", ",", "50.11;8.68", "eu-centrl-1", ""]
)
def test_what_is_no_place_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no (place|region)") as caught:
        parse_place(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("rtt_ms", "below"),
    [(90, False), (66, False), (65, False), (64.2, False), (64.0, True), (20, True), (0.03, True)],
)
def test_a_round_trip_below_the_floor_is_told_beyond_one_millisecond_of_doubt(rtt_ms: float, *, below: bool) -> None:
    """0.994 x 65.52 - 1 = 64.13 ms."""
    floor = between(result(rtt_ms / 1000))
    assert floor.floor_seconds == pytest.approx(FLOOR, rel=0.001)
    assert floor.distance_meters == pytest.approx(6_547_000, rel=0.001)
    assert floor.efficiency == pytest.approx(FLOOR / (rtt_ms / 1000), rel=0.001)
    assert floor.below is below


@pytest.mark.parametrize(
    ("name", "rtt_ms", "below"),
    [("aws/us-east-1", 64.0, False), ("aws/us-east-1", 63.8, True), ("gcp/us-east4", 63.8, False)],
)
def test_a_region_may_stand_elsewhere_in_its_city_or_further_where_lists_are_coarse(
    name: str, rtt_ms: float, *, below: bool
) -> None:
    """25 km are 0.25 ms of the floor, 150 km 1.5 ms."""
    floor = judge(result(rtt_ms / 1000), Ends(here=FRANKFURT, there=parse_place(name), source=Source.GIVEN))
    assert floor.below is below


def test_the_slack_is_a_millisecond_and_the_error_of_a_sphere() -> None:
    least = 0.1 * (1 - HAVERSINE_ERROR) - FLOOR_SLACK_SECONDS
    assert not is_below_floor(least, floor_seconds=0.1)
    assert is_below_floor(least - 1e-9, floor_seconds=0.1)
    assert not is_below_floor(0.0, floor_seconds=0.001)


def test_the_least_sample_is_held_against_the_floor_and_the_median_is_told_as_efficiency() -> None:
    pings = Pings(method=RttMethod.TCP, sent=3, lost=0, min_seconds=0.06, median_seconds=0.131, max_seconds=0.2)
    floor = between(result(0.131, prober=Prober.RTT, pings=pings))
    assert floor.below
    assert floor.efficiency == pytest.approx(0.5, rel=0.001)


def test_a_failure_has_a_floor_and_no_verdict() -> None:
    floor = between(result(None, outcome=Outcome.CONNECT, reason="refused"))
    assert floor.floor_seconds == pytest.approx(FLOOR, rel=0.001)
    assert (floor.efficiency, floor.below) == (None, False)


def test_the_flag_is_set_only_below_and_the_others_stay() -> None:
    assert flagged(result(0.09), between(result(0.09))).flags == (Flag.RETRANSMITS,)
    assert flagged(result(0.02), between(result(0.02))).flags == (Flag.BELOW_FLOOR, Flag.RETRANSMITS)


BEDROCK = "bedrock-runtime.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("host", "there", "served", "words", "source"),
    [
        (BEDROCK, FRANKFURT, "East US", "Frankfurt", Source.GIVEN),
        (BEDROCK, None, "East US", "aws/us-east-1, Ashburn", Source.HOST),
        ("api.example", None, "East US", "azure/eastus, Virginia", Source.SERVED_REGION),
        ("api.example", None, "global", None, None),
        ("api.example", None, "edge:IAD", None, None),
        ("api.example", None, None, None, None),
    ],
)
def test_the_endpoint_stands_where_it_was_told_else_guessed_else_where_it_says(  # noqa: PLR0917  a row of the table
    host: str, there: Place | None, served: str | None, words: str | None, source: Source | None
) -> None:
    ends = find_ends(host, here=FRANKFURT, there=there)
    floor = judge(result(served_region=served), ends)
    assert (None if floor.there is None else floor.there.words) == words
    assert floor.source is source
    assert (floor.floor_seconds is None) is (words is None)


def test_json_tells_every_field_null_where_it_is_unknown() -> None:
    assert json_fields(Floor()) == dict.fromkeys(JSON_FIELDS)
    told = json_fields(between(result()))
    assert tuple(told) == JSON_FIELDS
    assert told["endpoint_location_source"] == "given"
    assert told["network_rtt_floor_seconds"] == pytest.approx(FLOOR, rel=0.001)
