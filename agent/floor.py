"""How far a round trip is from the speed of light: places and a result in, the floor and the verdict out. Pure.

    floor = 2 d / (2/3 c)      efficiency = floor / rtt      below: the least rtt < 0.994 floor' - 1 ms

floor' is that of d less what both places are in doubt by: nothing for coordinates, a city or more for a region.

An agent knows no locations: they are told to `isochrone-agent probe`, which alone uses this. The endpoint's is what was
told, else the region in its host name, else the region that the provider says it answered from. An edge is none of
these: its address is shared by many places.
"""

from enum import StrEnum
from typing import Final

import msgspec

from isochrone import catalogue
from isochrone.names import Latitude, Longitude
from isochrone.outcome import Flag
from isochrone.physics import great_circle_meters, is_below_floor, rtt_floor_seconds
from isochrone.result import Result

JSON_FIELDS: Final = (
    "endpoint_location_source",
    "great_circle_distance_meters",
    "network_rtt_floor_seconds",
    "efficiency",
)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where something stands, in degrees."""

    words: str
    latitude: Latitude
    longitude: Longitude
    doubt_meters: float = 0.0
    """How far from there it may stand."""


class Source(StrEnum):
    """How the endpoint's place is known."""

    GIVEN = "given"
    HOST = "host"
    """A guess: the region stands in the host name."""
    SERVED_REGION = "served_region"
    """The provider's word."""


class Ends(msgspec.Struct, frozen=True, kw_only=True):
    """This machine, and the endpoint if it is known before it answers."""

    here: Place
    there: Place | None = None
    source: Source | None = None


class Floor(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one result; all None where the endpoint's place is unknown."""

    there: Place | None = None
    source: Source | None = None
    distance_meters: float | None = None
    floor_seconds: float | None = None
    rtt_seconds: float | None = None
    """The least round trip that was seen; None for a failure."""
    efficiency: float | None = None
    """Floor over the result's `rtt_seconds`: 1 is light in straight fibre."""
    below: bool = False
    """No light in fibre is so fast: an edge ended the connection, or a place is wrong."""


def parse_place(text: str) -> Place:
    """Return the place that `text` tells, `LAT,LON` in degrees or a region's name; raise ValueError naming it."""
    if "," not in text:
        return _of(_region(text))
    try:
        latitude, longitude = (float(part) for part in text.split(","))
        place = {"words": text.replace(" ", ""), "latitude": latitude, "longitude": longitude}
        return msgspec.convert(place, Place)  # refuses what lies off the globe, NaN too
    except (ValueError, msgspec.ValidationError) as exc:
        raise ValueError(f"{text!r} is no place: write LAT,LON in degrees, as in 50.11,8.68, or a region") from exc


def _region(text: str) -> catalogue.Region:
    try:
        return catalogue.find(text)
    except ValueError as exc:
        raise ValueError(f"{exc} (write LAT,LON in degrees, or a region as in aws/eu-central-1)") from exc


def find_ends(host: str, *, here: Place, there: Place | None = None) -> Ends:
    """Return both ends: an endpoint that is not given is guessed from `host`."""
    if there is not None:
        return Ends(here=here, there=there, source=Source.GIVEN)
    guessed = catalogue.guess(host)
    return Ends(here=here) if guessed is None else Ends(here=here, there=_of(guessed), source=Source.HOST)


def judge(result: Result, ends: Ends) -> Floor:
    """Return the floor between the ends, and what it says of the result's round trip."""
    there, source = ends.there, ends.source
    if there is None and result.served_region is not None:
        served = catalogue.match(result.served_region)
        there, source = (None, None) if served is None else (_of(served), Source.SERVED_REGION)
    if there is None:
        return Floor()
    here = ends.here
    distance = great_circle_meters(
        here.latitude, here.longitude, latitude_b=there.latitude, longitude_b=there.longitude
    )
    floor_seconds = rtt_floor_seconds(distance)
    least_seconds = _least(result)
    nearest_seconds = rtt_floor_seconds(max(0.0, distance - here.doubt_meters - there.doubt_meters))
    return Floor(
        there=there,
        source=source,
        distance_meters=distance,
        floor_seconds=floor_seconds,
        rtt_seconds=least_seconds,
        efficiency=floor_seconds / result.rtt_seconds if result.rtt_seconds else None,
        below=least_seconds is not None and is_below_floor(least_seconds, floor_seconds=nearest_seconds),
    )


def flagged(result: Result, floor: Floor) -> Result:
    """Return the result with the flag `below_floor` where it is so."""
    if not floor.below:
        return result
    return msgspec.structs.replace(result, flags=tuple(sorted({*result.flags, Flag.BELOW_FLOOR})))


def json_fields(floor: Floor) -> dict[str, object]:
    """Return what `--json` tells of the floor, by name; None where it is unknown."""
    values = (floor.source, floor.distance_meters, floor.floor_seconds, floor.efficiency)
    return dict(zip(JSON_FIELDS, values, strict=True))


def _of(region: catalogue.Region) -> Place:
    return Place(
        words=f"{region.name}, {region.city}",
        latitude=region.latitude,
        longitude=region.longitude,
        doubt_meters=region.doubt_meters,
    )


def _least(result: Result) -> float | None:
    return result.rtt_seconds if result.pings is None else result.pings.min_seconds
