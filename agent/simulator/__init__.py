"""A scripted endpoint: tries an agent without a model or a key, and is the truth in tests."""

from agent.simulator.loopback import LOOPBACK_PEM, server_context
from agent.simulator.script import Scenario, Script, Silence, load_script
from agent.simulator.server import Simulator
from agent.simulator.witness import Seen

__all__ = ["LOOPBACK_PEM", "Scenario", "Script", "Seen", "Silence", "Simulator", "load_script", "server_context"]
