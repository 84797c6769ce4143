"""What the bench needs of this host, and its own copy of the lab, built there: the lab's folder is never changed."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[3]
TOOLS: Final = {
    "gcc": "gcc",
    "make": "make",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "taskset": "util-linux",
    "openssl": "openssl",
}
"""Command, and the package that has it in Debian."""
CPUS: Final = frozenset({0, 1})
"""The lab's servers run on the first, the client on the second."""
TUN: Final = Path("/dev/net/tun")


class Missing(RuntimeError):
    """This host cannot run the bench. The text says in one line what is missing."""


def data_folder() -> Path:
    """Return the folder of the lab: ISOCHRONE_BENCH_DATA/accuracy, by default beside the project."""
    given = os.environ.get("ISOCHRONE_BENCH_DATA")
    folder = (Path(given).expanduser() if given else ROOT.parent / "shared") / "accuracy"
    if not (folder / "bench.py").is_file():
        raise Missing(
            f"no lab in {folder}; ISOCHRONE_BENCH_DATA must name the folder that holds accuracy/ (with bench.py in it)"
        )
    return folder


def require_host() -> None:
    """Raise Missing when the host lacks something that the lab needs."""
    if not hasattr(os, "sched_getaffinity"):
        raise Missing("the lab needs Linux")
    if os.geteuid() != 0:
        raise Missing("the lab needs root (network namespaces, TUN, packet capture); run it with sudo")
    if lacking := [tool for tool in TOOLS if shutil.which(tool) is None]:
        packages = " ".join(dict.fromkeys(TOOLS[tool] for tool in lacking))
        raise Missing(f"not found: {', '.join(lacking)}; install them (Debian: apt-get install {packages})")
    if not TUN.exists():
        raise Missing(f"no {TUN}; load the kernel's module tun, or give the container that device")
    if not os.sched_getaffinity(0) >= CPUS:
        raise Missing("the lab needs the CPUs 0 and 1: its server on one, the client on the other")


def copy_of_lab(source: Path, into: Path) -> Path:
    """Copy the lab and build its programs in the copy; return the copy's folder."""
    copy = into / "lab"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (copy, *copy.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    done = subprocess.run(["make", "-s", "-C", str(copy / "native")], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        said = (done.stderr.strip() or "no output").splitlines()[-1]
        raise Missing(f"the lab's programs could not be built ({said}); are the C library's headers there?")
    return copy
