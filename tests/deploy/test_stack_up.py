"""`make compose-up`, with a program in the place of Docker that writes down how it was called."""

import json
import os
import sys
from pathlib import Path

import pytest

from deploy.compose import stack

FAKE = """#!{python} -IS
import json, os, sys
words = sys.argv[1:]
given = sys.stdin.read() if "enroll" in words else ""
with open({calls!r}, "a") as file:
    file.write(json.dumps([words, given]) + "\\n")
if words[:2] == ["compose", "ps"]:
    print("id-1")
elif words[:1] == ["inspect"]:
    labels = {{"com.docker.compose.service": "collector"}}
    print(json.dumps([{{"State": {{"Status": "running", "ExitCode": 0}}, "Config": {{"Labels": labels}}}}]))
elif "list" in words:
    print(json.dumps([{{"agent": name}} for name in {known!r}]))
elif "join-token" in words:
    print("isoj_secret-of-" + words[words.index("--name") + 1])
elif "enroll" in words:
    print("agent joined\\nnext: ...")
"""


Calls = list[tuple[list[str], str]]
"""The words of each call, and what came on its standard input."""


def calls_of_up(folder: Path, *, known: tuple[str, ...] = ()) -> Calls:
    """Run `up` and return each call."""
    program, calls = folder / "docker", folder / "calls"
    program.write_text(FAKE.format(python=sys.executable, calls=str(calls), known=known))
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        patch.setattr(stack, "SECRETS", folder / "secrets")
        assert stack.main(["up"]) == 0
    return [(words, given) for words, given in map(json.loads, calls.read_text().splitlines())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("first")


@pytest.fixture(scope="module")
def calls(folder: Path) -> Calls:
    return calls_of_up(folder)


def test_each_agent_joins_with_a_token_that_is_in_no_argument(calls: Calls) -> None:
    joined = {words[words.index("--name") + 1]: given for words, given in calls if "enroll" in words}
    assert joined == {name: f"isoj_secret-of-{name}\n" for name in stack.AGENTS}
    assert not [words for words, _ in calls if "isoj_" in " ".join(words)]


def test_an_agent_that_is_known_is_not_let_in_again(tmp_path: Path) -> None:
    calls = calls_of_up(tmp_path, known=("eu-central-1",))
    assert [words[words.index("--name") + 1] for words, _ in calls if "join-token" in words] == ["us-east-1"]


def test_agents_start_after_they_were_let_in(calls: Calls) -> None:
    order = [" ".join(words) for words, _ in calls]
    everything = order.index("compose up -d")
    assert (
        order.index("compose up -d collector") < max(n for n, one in enumerate(order) if "enroll" in one) < everything
    )
    assert any(one.startswith("compose ps") for one in order[everything:]), "nobody looked whether all is well"


def test_no_secret_is_in_an_argument(calls: Calls, folder: Path) -> None:
    values = {path.read_text().strip().rpartition(":")[2] for path in (folder / "secrets").iterdir()}
    assert len(values) == 4
    assert not [value for value in values for words, _ in calls if value in " ".join(words)]
