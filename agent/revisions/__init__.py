"""Revisions of the configuration on the agent: files that outlive a crash, and the trial that a new one stands."""

from agent.revisions.files import ConfigCache, Failed, Fetched, Start
from agent.revisions.probation import Watch, fault, probation_seconds

__all__ = ("ConfigCache", "Failed", "Fetched", "Start", "Watch", "fault", "probation_seconds")
