"""An agent that rotates its credential once and is killed at a step of it: `rotating_agent URL FILE STEP`."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from agent.push.credentials import CredentialFiles
from agent.transport import CollectorClient
from tests.joining import Losing, rotator


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_after(work: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        work()
        return die()

    return run


async def main(url: str, path: str, step: str) -> None:
    files, client = CredentialFiles(Path(path)), CollectorClient(url)
    method = {"told": "PUT", "used": "GET"}.get(step)

    def lose(seen: str) -> bool:
        if seen == method:
            die()
        return False

    if step == "made":
        files.prepare = killed_after(files.prepare)  # type: ignore[method-assign,assignment]
    if step == "moved":
        files.adopt = killed_after(files.adopt)  # type: ignore[method-assign,assignment]
    if step == "writing":
        Path(path).with_suffix(".tmp").write_text("isoa_half", encoding="ascii")
        die()
    await rotator(Losing(client, lose), files).turn()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
