"""A scripted endpoint: tries an agent without a model or a key, and is the truth in tests."""

from agent.simulator.script import Scenario, Script, Silence, load_script
from agent.simulator.server import Simulator

__all__ = ["Scenario", "Script", "Silence", "Simulator", "load_script"]
