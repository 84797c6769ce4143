"""`python -m agent.selftest.busy PARENT SECONDS`: keeps a core busy until its time is over or its parent is gone."""

import os
import sys
import time


def main() -> None:
    """Spin."""
    parent, seconds = int(sys.argv[1]), float(sys.argv[2])
    end = time.monotonic() + seconds
    while time.monotonic() < end and os.getppid() == parent:
        for _ in range(10_000):
            pass


if __name__ == "__main__":
    main()
