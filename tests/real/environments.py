"""Environments with programs of others: built once by plain pip, kept outside the repository, told apart by content.

An environment's folder carries a digest of its recipe; a file inside, written last, says that it is complete. A build
that was cut off is begun anew. Two runs at once wait for one another.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from time import monotonic
from typing import Final

from packaging.requirements import Requirement

LLAMA: Final = ("llama-cpp-python[server]==0.3.36", "gguf==0.19.0")
LITELLM: Final = "litellm==1.109.1"
LITELLM_EXTRA: Final = "proxy"
TAKEN_AT_ANY_VERSION: Final = frozenset({"certifi", "litellm-enterprise", "litellm-proxy-extras"})
"""What LiteLLM pins to releases of its own day: a mirror may not have them yet, and an older one does as well."""
BUILD_SECONDS: Final = 45 * 60
"""llama.cpp compiles for 5 to 15 minutes on two cores."""
PROGRESS_SECONDS: Final = 15
_COMPLETE: Final = ".complete"
_TAIL_LINES: Final = 20


class BuildFailed(RuntimeError):
    """An environment could not be built. The text says which step, and ends with what pip said."""


def cache_folder() -> Path:
    """Return where environments are kept: ISOCHRONE_CACHE, XDG_CACHE_HOME or ~/.cache."""
    root = os.environ.get("ISOCHRONE_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root).expanduser().resolve() / "isochrone-real"


def llama_python() -> Path:
    """Return the interpreter that has the model server and the package that writes models."""
    return environment("llama", recipe=LLAMA, install=_install_llama)


def litellm_python() -> Path:
    """Return the interpreter that has the gateway."""
    return environment("litellm", recipe=(LITELLM, LITELLM_EXTRA), install=_install_litellm)


def environment(name: str, *, recipe: Sequence[str], install: Callable[["Pip"], None]) -> Path:
    """Return the interpreter of the environment that `recipe` describes; `install` fills it the first time."""
    said = "\n".join((*recipe, sys.version, platform.machine()))
    folder = cache_folder() / f"{name}-{hashlib.sha256(said.encode()).hexdigest()[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if (folder / _COMPLETE).exists():
            print(f"{name}: ready in {folder}", flush=True)
        else:
            _build(name, folder, install)
    return folder / "bin" / "python"


class Pip:
    """Installs into one environment and tells how long it has been at it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.log = folder / "build.log"

    def install(self, *arguments: str) -> None:
        """Run `pip install` with `arguments`; raise BuildFailed with its last lines."""
        python = str(self.folder / "bin" / "python")
        self.run("pip", python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments)

    def run(self, step: str, *command: str) -> None:
        """Run one step of the build to its end; its output goes to the log."""
        started = monotonic()
        with self.log.open("ab") as log:
            child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
            try:
                self._wait(child, step=step, started=started)
            finally:
                child.kill()
                child.wait()
        if child.returncode != 0:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
            raise BuildFailed(f"{self.name}: {step} ended with {child.returncode}. Its last lines:\n{tail}")

    def _wait(self, child: "subprocess.Popen[bytes]", *, step: str, started: float) -> None:
        while (passed := monotonic() - started) < BUILD_SECONDS:
            try:
                child.wait(PROGRESS_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"{self.name}: {step}, {monotonic() - started:.0f} s …", flush=True)
            else:
                return
        raise BuildFailed(f"{self.name}: {step} did not end within {passed:.0f} s; see {self.log}")

    def requirements(self, distribution: str) -> list[Requirement]:
        """Return what an installed distribution asks for."""
        site = next((self.folder / "lib").glob("python3*/site-packages"))
        (found,) = distributions(name=distribution, path=[str(site)])
        return [Requirement(line) for line in found.requires or ()]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(name: str, folder: Path, install: Callable[[Pip], None]) -> None:
    print(f"{name}: building in {folder} (once)", flush=True)
    started = monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    pip = Pip(name, folder)
    pip.run("venv", sys.executable, "-m", "venv", str(folder))
    install(pip)
    (folder / _COMPLETE).touch()
    print(f"{name}: built in {monotonic() - started:.0f} s", flush=True)


def _install_llama(pip: Pip) -> None:
    if not any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++")):
        raise BuildFailed("llama: no C++ compiler found; install one (Debian: apt-get install g++)")
    print("llama: the model server is compiled from source; that takes 5 to 15 minutes", flush=True)
    pip.install(*LLAMA)


def _install_litellm(pip: Pip) -> None:
    """Install the wheel, then what it asks for, less the pins that a mirror cannot serve."""
    pip.install("--no-deps", LITELLM)
    pip.install(*map(_relaxed, filter(_wanted, pip.requirements("litellm"))))


def _wanted(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": LITELLM_EXTRA})


def _relaxed(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    specifier = "" if requirement.name in TAKEN_AT_ANY_VERSION else str(requirement.specifier)
    return f"{requirement.name}{extras}{specifier}"
