"""The Dockerfile keeps what its head promises: locked packages, a numeric user, health without a shell."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
STAGES = {
    stage.partition("\n")[0].rpartition(" AS ")[2]: stage for stage in re.split(r"^FROM ", TEXT, flags=re.MULTILINE)[1:]
}
IMAGES = ("agent", "collector")
IGNORED = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def instructions(stage: str, name: str) -> list[str]:
    return re.findall(rf"^{name} (.+)$", STAGES[stage], flags=re.MULTILINE)


def in_exec_form(words: str) -> list[str]:
    """Return the command; raise ValueError where a shell would read it."""
    command = json.loads(words[words.index("[") :])
    assert isinstance(command, list)
    return command


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_a_numeric_user_without_a_shell(image: str) -> None:
    assert instructions(image, "USER") == ["65532:65532"]
    assert in_exec_form(instructions(image, "ENTRYPOINT")[0]) == [f"isochrone-{image}"]
    assert len(in_exec_form(instructions(image, "CMD")[0])) == 1
    (health,) = instructions(image, "HEALTHCHECK")
    assert in_exec_form(health)[0] not in {"sh", "bash", "curl", "wget"}


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_takes_over_the_environment_alone(image: str) -> None:
    copied = instructions(image, "COPY")
    assert copied == [f"--from={image}-environment /opt/isochrone /opt/isochrone"]


def test_nothing_is_installed_but_what_a_lock_holds_by_hash() -> None:
    installs = re.findall(r"pip(?: --python \S+)? install ([^&\n]+)", TEXT)
    assert len(installs) == 5
    for words in installs:
        assert "--require-hashes -r locks/" in words or words.strip() == "--no-deps dist/*.whl"


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    copied = {
        source
        for stage in ("build", *(f"{image}-environment" for image in IMAGES))
        for line in instructions(stage, "COPY")
        for source in line.split()[:-1]
    }
    assert all((ROOT / source).exists() for source in copied)
    allowed = {line[1:] for line in IGNORED if line.startswith("!")}
    assert {"deploy/locks" if source.startswith("deploy/locks/") else source for source in copied} == allowed
    assert IGNORED[1] == "*"
