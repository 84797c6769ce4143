"""Which agents get which targets of a file. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from fnmatch import fnmatchcase

import msgspec

from collector.tables import AgentRow
from isochrone.config import Assignment, Endpoint, Module, Selector, Site, Targets
from isochrone.outcome import Prober


class Group(msgspec.Struct, frozen=True):
    """Agents of one region, at least one; `newest` is when the last of them was registered."""

    agents: tuple[AgentRow, ...]
    newest: datetime


class Groups:
    """Agents by region and by what selects them: each selector is asked once, and not once for each agent."""

    def __init__(self, agents: Iterable[AgentRow]) -> None:
        by_region: dict[int, list[AgentRow]] = {}
        for agent in agents:
            by_region.setdefault(agent.region.id, []).append(agent)
        self._all = {region: _group(members) for region, members in by_region.items()}
        self._found: dict[object, Mapping[int, Group]] = {}

    def of(self, selector: Selector) -> Mapping[int, Group]:
        """Return the agents that `selector` selects, by the id of their region."""
        key = (selector.names, selector.regions, tuple(sorted((selector.labels or {}).items())))
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._find(selector)
        return found

    def _find(self, selector: Selector) -> Mapping[int, Group]:
        found = {
            region: group
            for region, group in self._all.items()
            if _any_glob(selector.regions, group.agents[0].region.name)
        }
        if selector.names is None and not selector.labels:
            return found
        chosen = {region: [one for one in group.agents if selects(selector, one)] for region, group in found.items()}
        return {region: _group(members) for region, members in chosen.items() if members}


def _group(agents: Iterable[AgentRow]) -> Group:
    members = tuple(agents)
    return Group(members, max(agent.created_at for agent in members))


def share_of(document: Targets, agent: AgentRow) -> tuple[Assignment, ...]:
    """Return what of `document` falls to `agent`, in the file's order."""
    return tuple(
        assignment_of(item, name, module=document.modules[name])
        for item in items_of(document)
        if selects(item.agents, agent)
        for name in item.modules
        if name in document.modules
    )


def items_of(document: Targets) -> tuple[Endpoint | Site, ...]:
    """Return endpoints, then sites."""
    return (*document.endpoints, *document.sites)


def selects(selector: Selector, agent: AgentRow) -> bool:
    """Return whether every condition that the selector gives holds for the agent."""
    return (
        _any_glob(selector.names, agent.name)
        and _any_glob(selector.regions, agent.region.name)
        and all(agent.labels.get(key) == value for key, value in (selector.labels or {}).items())
    )


def _any_glob(globs: tuple[str, ...] | None, name: str) -> bool:
    return globs is None or any(fnmatchcase(name, glob) for glob in globs)


def assignment_of(item: Endpoint | Site, name: str, *, module: Module) -> Assignment:
    """Return what an agent is told of an endpoint or site with one of its modules."""
    if isinstance(item, Site):
        return Assignment(endpoint=item.name, module=name, url=item.url, options=module, ip_version=item.ip_version)
    inference = module.prober is Prober.INFERENCE
    return Assignment(
        endpoint=item.name,
        module=name,
        url=item.url,
        options=module,
        provider=item.provider,
        model=item.model,
        # A round trip needs no key, and what is not sent cannot leak.
        api_key=item.api_key if inference else None,
        price=item.price if inference else None,
        budget=item.budget if inference else None,
        ip_version=item.ip_version,
        http2=item.http2,
    )
