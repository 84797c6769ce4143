"""The thread that waits for the disk, so that the event loop never does: fdatasync, sealing, unlinking.

A disk can take 35 ms (p99) for an fsync: on the event loop that would be measured as latency.
"""

import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from agent.spool.active import Active
from agent.spool.files import fsync_folder
from agent.telemetry import LOG

SYNC_SECONDS: Final = 0.5
"""Longest that a written result waits for fdatasync: what a power cut can take, with the sync itself under 1 s."""


class Writer:
    """Syncs the active segment in groups, and does in order what else it is given."""

    def __init__(self, current: Callable[[], Active | None], *, books: Callable[[], None]) -> None:
        """Take `books`, which writes down what was lost, if anything was since it last did."""
        self._current = current
        self._books = books
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)
        self._failing: set[str] = set()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, work: Callable[[], None]) -> None:
        """Have `work` done on the thread, after what was submitted before."""
        self._work.put(work)

    def stop(self) -> None:
        """Return when everything submitted is done."""
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                work = self._work.get(timeout=SYNC_SECONDS)
            except Empty:
                self._attempt("sync", self._sync)
                self._attempt("books", self._books)
                continue
            if work is None:
                self._attempt("books", self._books)
                return
            self._attempt("work", work)
            self._attempt("sync", self._sync)

    def _attempt(self, kind: str, work: Callable[[], None]) -> None:
        """Do `work`; a disk that fails at one kind of it is told once, until that works again.

        By kind: a full disk syncs what it has, and refuses the books twice a second. No fault ends the thread.
        """
        try:
            work()
        except OSError as exc:
            if kind not in self._failing:
                LOG.warning("spool: the disk fails: %s", exc)
            self._failing.add(kind)
        except Exception:  # noqa: BLE001  whatever it is, the next segment must still be sealed
            LOG.exception("spool: a fault of ours")
        else:
            self._failing.discard(kind)

    def _sync(self) -> None:
        active = self._current()
        if active is None or not active.dirty:
            return
        active.dirty = False
        os.fdatasync(active.descriptor)
        if not active.named:
            fsync_folder(active.path.parent)
            active.named = True
