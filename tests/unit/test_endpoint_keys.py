"""A configuration says where an endpoint's key stands; the agent gives away, and waits for, nothing else."""

import io
import os
from pathlib import Path

import pytest

from agent.app import Keys
from agent.config import Private
from agent.config.credentials import MAX_KEY_BYTES
from agent.errors import ConfigError
from agent.telemetry import LOG, set_up_logging
from isochrone.config import ApiKey

TOKEN = "isoa_k3y_" + "x" * 40


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    (tmp_path / "state" / "spool").mkdir(parents=True)
    (tmp_path / "state" / "config.json").write_text("{}")
    (tmp_path / "credential").write_text(f"{TOKEN}\n")
    private = Private(credential_file=tmp_path / "credential", state_dir=tmp_path / "state")
    return Keys(set_up_logging(stream=io.StringIO()), private)


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def refusal(keys: Keys, path: Path | str) -> str:
    with pytest.raises(ConfigError) as refused:
        keys.resolve(ApiKey(file=str(path)))
    assert TOKEN not in str(refused.value)
    return str(refused.value)


def test_a_key_is_one_line_of_an_ordinary_file(keys: Keys, tmp_path: Path) -> None:
    written(tmp_path / "key", b"sk-abc.def\n")
    assert keys.resolve(ApiKey(file=str(tmp_path / "key"))) == "sk-abc.def"
    (tmp_path / "link").symlink_to(tmp_path / "key")
    assert keys.resolve(ApiKey(file=str(tmp_path / "link"))) == "sk-abc.def"


def test_a_key_from_the_environment_or_that_it_is_missing(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "abc")
    assert keys.resolve(ApiKey(env="SOME_KEY")) == "abc"
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(ConfigError, match="SOME_KEY is not there or empty"):
        keys.resolve(ApiKey(env="SOME_KEY"))


def test_a_key_never_stands_in_the_log(tmp_path: Path) -> None:
    written(tmp_path / "key", b"plain-looking-words")
    stream = io.StringIO()
    private = Private(credential_file=tmp_path / "none", state_dir=tmp_path / "state")
    key = Keys(set_up_logging(stream=stream), private).resolve(ApiKey(file=str(tmp_path / "key")))
    LOG.error("the key is %s", key)
    assert key not in stream.getvalue()


def test_the_agents_own_credential_is_no_key_by_whatever_name(keys: Keys, tmp_path: Path) -> None:
    own = tmp_path / "credential"
    (tmp_path / "soft").symlink_to(own)
    (tmp_path / "hard").hardlink_to(own)
    names = (own, tmp_path / "soft", tmp_path / "hard", tmp_path / "state" / ".." / "credential")
    with own.open() as file:
        for path in (*names, f"/proc/self/root{own}", f"/proc/self/fd/{file.fileno()}"):
            assert "the agent's own" in refusal(keys, path)


def test_nothing_in_the_state_folder_is_a_key(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "state" / "spool" / "one").write_text("word")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "state")
    for path in ("state/config.json", "state/spool/one", "elsewhere/spool/one"):
        assert "the agent's own" in refusal(keys, tmp_path / path)


def test_a_pipe_a_device_and_a_folder_are_refused_without_waiting(keys: Keys, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", "/dev/null", tmp_path):
        assert "is no ordinary file" in refusal(keys, path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"two\nlines", b"a\0b", b"\xff\xfe", b"na\xc3\xafve", b"x" * (MAX_KEY_BYTES + 1)],
)
def test_what_is_no_key_is_refused(keys: Keys, tmp_path: Path, content: bytes) -> None:
    assert "the key alone, on one line" in refusal(keys, written(tmp_path / "key", content))


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o666])
def test_a_key_that_everybody_may_read_or_write_is_refused_with_what_mends_it(
    keys: Keys, tmp_path: Path, mode: int
) -> None:
    path = written(tmp_path / "key", b"sk-abc", mode)
    assert refusal(keys, path).endswith(f"everybody may read its file (mode {mode:04o}): chmod 600 {path}")
    path.chmod(0o440)  # a group may read it: so containers are handed theirs
    assert keys.resolve(ApiKey(file=str(path))) == "sk-abc"


@pytest.mark.parametrize("path", ["/nowhere/key", "/proc/self/environ", "/proc/self/mem", "a\0b", "x" * 900, ""])
def test_what_cannot_be_read_is_told(keys: Keys, path: str) -> None:
    assert "no key for this endpoint" in refusal(keys, path)
