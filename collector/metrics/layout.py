"""What a registry says of places: worked out at once, in a thread. Pure."""

import msgspec

from collector.registry import AgentRow, Assigned, EndpointRow, RegionRow, Registry
from isochrone.physics import great_circle_meters

Place = tuple[int, int]
"""Agent region and target, by id."""


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What stands where."""

    places: dict[Place, Assigned]
    """Every target of every region, with one of its agents."""
    distances: dict[tuple[str, str], float]
    """Meters, by region and endpoint; without pairs of which a place is not known."""
    endpoints: tuple[tuple[str, ...], ...]
    """Label values of `isochrone_endpoint_info`."""
    regions: tuple[tuple[str, ...], ...]
    """Label values of `isochrone_agent_region_info`."""
    agents: dict[int, tuple[str, str]]
    """Label values of what an agent says of itself, by its id."""


def layout_of(registry: Registry) -> Layout:
    """Return what the live metrics show of a registry."""
    places = {(one.agent.region.id, one.target.id): one for one in registry.places()}
    pairs = {(one.agent.region.id, one.endpoint.id): one for one in places.values()}
    endpoints = {one.endpoint.id: one.endpoint for one in pairs.values()}
    distances = {
        (one.agent.region.name, one.endpoint.name): distance_meters(one.agent.region, one.endpoint)
        for one in pairs.values()
    }
    return Layout(
        places=places,
        distances={pair: distance for pair, distance in distances.items() if distance is not None},
        endpoints=tuple(_endpoint_labels(endpoint) for endpoint in endpoints.values()),
        regions=tuple(_region_labels(region) for region in registry.rows.regions),
        agents={agent.id: agent_labels(agent) for agent in registry.rows.agents},
    )


def distance_meters(region: RegionRow, endpoint: EndpointRow) -> float | None:
    """Return the distance on the ground; None unless both places are known."""
    if region.latitude is None or region.longitude is None or endpoint.latitude is None or endpoint.longitude is None:
        return None
    return great_circle_meters(
        region.latitude, region.longitude, latitude_b=endpoint.latitude, longitude_b=endpoint.longitude
    )


def agent_labels(agent: AgentRow) -> tuple[str, str]:
    """Return the label values of what an agent says of itself."""
    return agent.name, agent.region.name


def _endpoint_labels(endpoint: EndpointRow) -> tuple[str, ...]:
    words = (endpoint.name, endpoint.model, endpoint.provider, endpoint.endpoint_region)
    place = (endpoint.latitude, endpoint.longitude)
    return (*(word or "" for word in words), *map(_text, place), "true" if endpoint.simulated else "false")


def _region_labels(region: RegionRow) -> tuple[str, ...]:
    return region.name, region.country or "", *map(_text, (region.latitude, region.longitude, region.weight))


def _text(number: float | None) -> str:
    return "" if number is None else f"{number:g}"
