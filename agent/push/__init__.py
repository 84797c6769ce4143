"""Talking to the collector: sealed segments out, acknowledgements and configuration in."""

from agent.push.answer import Action, Verb, action
from agent.push.backoff import Backoff
from agent.push.remote import ConfigPoller
from agent.push.sender import Sender
from agent.push.wait import Client, Timing
from agent.revisions import ConfigCache

__all__ = ["Action", "Backoff", "Client", "ConfigCache", "ConfigPoller", "Sender", "Timing", "Verb", "action"]
