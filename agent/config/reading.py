"""Reading the agent's own files, under whose names anything may stand: nothing found on disk may hold a start."""

import os
import stat
from pathlib import Path


def read_bounded(path: Path, most: int) -> bytes:
    """Return the content of an ordinary file; raise OSError, or ValueError for another kind or a larger one.

    Never waits for a pipe or a device, whatever stands under the name.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("no ordinary file")
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"larger than {most} bytes")
    return data
