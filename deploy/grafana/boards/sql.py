"""Pieces of queries of Postgres. Grafana fills in its macros, whose arguments may hold no parentheses."""

from typing import Final

from isochrone.physics import EARTH_RADIUS_METERS, FIBRE_FRACTION, LIGHT_METERS_PER_SECOND

REGIONS: Final = "agent_region IN (${agent_region:sqlstring})"
ENDPOINTS: Final = "endpoint IN (${endpoint:sqlstring})"
PAIRS: Final = f"{REGIONS} AND {ENDPOINTS}"
SECONDS_PER_RADIAN: Final = 4 * EARTH_RADIUS_METERS / (FIBRE_FRACTION * LIGHT_METERS_PER_SECOND)
"""There and back at the speed of light in glass, for each radian of half the angle between the two places."""
FLOOR: Final = f"""{SECONDS_PER_RADIAN:.12g} * asin(least(1, sqrt(
    power(sin(radians(p.latitude - r.latitude) / 2), 2)
    + cos(radians(r.latitude)) * cos(radians(p.latitude)) * power(sin(radians(p.longitude - r.longitude) / 2), 2)
)))"""
"""Shortest possible round trip in seconds between `r` and `p` (isochrone/physics.py); null without coordinates."""
RECENT: Final = "date_trunc('hour', now()) - interval '1 hour'"
"""Until then hours are rolled up; what is younger is taken from minutes."""


def rollups(signal: str) -> str:
    """Return a query of a signal's values over the time shown: of hours that are over, and of the minutes since."""
    columns = "bucket, agent_region, endpoint, count, sum, min, p95, sent, lost"
    levels = (("v_hour", "<"), ("v_minute", ">="))
    parts = (
        f"SELECT {columns} FROM {view} WHERE $__timeFilter(bucket) AND bucket {comparison} {RECENT}"
        f" AND prober = 'rtt' AND signal = '{signal}' AND count > 0 AND {PAIRS}"
        for view, comparison in levels
    )
    return "\n    UNION ALL ".join(parts)


CANDIDATES: Final = f"""WITH places AS (
    SELECT endpoint, max(endpoint_region) AS place, max(latitude) AS latitude, max(longitude) AS longitude
    FROM v_endpoint GROUP BY endpoint
), regions AS (
    SELECT agent_region, max(weight) AS weight, max(latitude) AS latitude, max(longitude) AS longitude
    FROM v_agent WHERE removed_at IS NULL GROUP BY agent_region
), measured AS (
    SELECT agent_region, endpoint, sum(sum) / sum(count) AS rtt, sum(p95 * count) / sum(count) AS slow,
        min(min)::float8 AS least, sum(lost)::float8 / nullif(sum(sent), 0) AS loss, sum(count) AS probes
    FROM (
    {rollups("rtt")}
    ) AS value GROUP BY agent_region, endpoint
), candidates AS (
    SELECT m.*, p.place, r.weight, {FLOOR} AS floor,
        rank() OVER (PARTITION BY m.agent_region ORDER BY m.rtt) AS rank
    FROM measured m JOIN places p USING (endpoint) JOIN regions r USING (agent_region)
)
"""
"""Candidates: the pairs that were measured, with round trip, floor and rank in their region."""
