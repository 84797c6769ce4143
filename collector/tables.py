"""The small tables as the database has them: regions, agents, endpoints, targets, revisions."""

from datetime import datetime
from typing import Final

import msgspec

from collector.auth import AccessToken, Credential
from isochrone.outcome import Connection

ALL_PERCENT: Final = 100


class RegionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A user population; coordinates are None until a target file names it."""

    id: int
    name: str
    latitude: float | None = None
    longitude: float | None = None
    country: str | None = None
    weight: float | None = None


class AgentRow(msgspec.Struct, frozen=True, kw_only=True):
    """An agent, as it was registered."""

    id: int
    name: str
    region: RegionRow
    labels: dict[str, str]
    created_at: datetime


class EndpointRow(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint or a site (no provider, no model) as the newest target file has it."""

    id: int
    name: str
    url: str
    provider: str | None
    model: str | None
    endpoint_region: str | None
    latitude: float | None
    longitude: float | None
    simulated: bool


class TargetRow(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint with a module and the model of that time."""

    id: int
    endpoint: str
    module: str
    model: str | None
    connection: Connection | None
    created_at: datetime


class RevisionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A target file as it was applied; `document` is canonical JSON."""

    revision: int
    document: str
    applied_at: datetime
    share_percent: int = 100
    """Of the agents that get it; below 100 it is a canary, as long as it is the newest."""
    halted: bool = False
    """A canary that was taken back."""

    @property
    def released(self) -> bool:
        """Whether it was given to every agent."""
        return self.share_percent >= ALL_PERCENT and not self.halted


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """All that a registry is made of, as the database has it. Revisions: newest first, canaries among them."""

    agents: tuple[AgentRow, ...] = ()
    regions: tuple[RegionRow, ...] = ()
    credentials: tuple[Credential, ...] = ()
    access_tokens: tuple[AccessToken, ...] = ()
    endpoints: tuple[EndpointRow, ...] = ()
    targets: tuple[TargetRow, ...] = ()
    revisions: tuple[RevisionRow, ...] = ()
