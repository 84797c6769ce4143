"""Disks small enough to be filled, for the agent and for Postgres."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path | None]:
    """Mount a disk of `size` (as mount(8) has it) at `place` and give it.

    None where this user may not mount: not root, or a container forbids.
    """
    place.mkdir(parents=True, exist_ok=True)
    options = f"size={size},mode=0700"
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "isochrone-test", str(place)],
            check=False,
            stderr=subprocess.DEVNULL,
        ).returncode
    )
    try:
        yield place if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
