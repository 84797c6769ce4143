"""The floor of a round trip: light in fibre along the great circle. Pure."""

from math import asin, cos, radians, sin, sqrt
from typing import Final

EARTH_RADIUS_METERS: Final = 6_371_008.8
"""Mean radius (IUGG)."""
LIGHT_METERS_PER_SECOND: Final = 299_792_458.0
FIBRE_FRACTION: Final = 2 / 3
"""Speed of light in glass over that in vacuum: refractive index about 1.5."""
HAVERSINE_ERROR: Final = 0.006
"""A sphere differs from the WGS84 ellipsoid by no more of the distance (measured: 0.56 %)."""
FLOOR_SLACK_SECONDS: Final = 0.001
"""For the clock, and for where in a city the ends stand: 1 ms is 100 km there and back."""


def great_circle_meters(latitude_a: float, longitude_a: float, /, *, latitude_b: float, longitude_b: float) -> float:
    """Return the distance along the surface in metres (haversine; all four in degrees)."""
    phi_a, phi_b = radians(latitude_a), radians(latitude_b)
    half_phi, half_lambda = (phi_b - phi_a) / 2, radians(longitude_b - longitude_a) / 2
    h = sin(half_phi) ** 2 + cos(phi_a) * cos(phi_b) * sin(half_lambda) ** 2
    return 2 * EARTH_RADIUS_METERS * asin(min(1.0, sqrt(h)))


def rtt_floor_seconds(distance_meters: float) -> float:
    """Return the shortest round trip over `distance_meters` of straight fibre: 2 d / (2/3 c)."""
    return 2 * distance_meters / (FIBRE_FRACTION * LIGHT_METERS_PER_SECOND)


def is_below_floor(rtt_seconds: float, *, floor_seconds: float) -> bool:
    """Return whether a round trip is shorter than light in fibre allows, beyond the doubt of the reckoning."""
    return rtt_seconds < floor_seconds * (1 - HAVERSINE_ERROR) - FLOOR_SLACK_SECONDS
