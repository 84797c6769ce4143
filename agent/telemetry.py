"""What the agent tells about itself: its counters, and its log.

The log goes to stderr, one line for one event. Credentials and keys never reach it: known values and everything that
has the form of one are replaced at the last step, when the line is written.
"""

import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from importlib import metadata
from typing import Final, TextIO
from uuid import UUID

import msgspec

from agent.redaction import SECRET_FORMS, pattern_of
from isochrone.batch import AgentStatus, DropReason
from isochrone.names import MAX_SECONDS

LOG: Final = logging.getLogger("isochrone")
"""The agent's log."""

_HIDDEN: Final = "[hidden]"


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """What a spool says of itself at one moment."""

    boot_id: UUID
    """This run of the agent's process."""
    recorded_results: int
    """Numbers given by this run."""
    queued_results: int
    oldest_seconds: float | None
    """Age of the oldest result that waits; None when none does."""


class Telemetry:
    """Totals since the start of this process. Any thread may count losses; the rest belongs to the event loop."""

    def __init__(self) -> None:
        self.expected_results = 0
        self.missed_probes = 0
        self.config_revision: int | None = None
        self.before_status: Callable[[], None] = lambda: None
        """Called before the totals are told: brings them up to now."""
        self._dropped: Counter[DropReason] = Counter()
        self._lock = threading.Lock()

    def lost(self, reason: DropReason, count: int = 1) -> None:
        """Count results that were recorded and will never arrive."""
        if count > 0:
            with self._lock:  # reading and writing back are two steps
                self._dropped[reason] += count

    @property
    def dropped(self) -> dict[DropReason, int]:
        """Results lost so far, by reason."""
        with self._lock:
            return dict(self._dropped)

    def status(self, waiting: Waiting) -> AgentStatus:
        """Return the agent's word on itself, as it goes with every batch. For the event loop."""
        self.before_status()
        oldest = waiting.oldest_seconds
        return AgentStatus(
            version=package_version(),
            queued_results=waiting.queued_results,
            boot_id=waiting.boot_id,
            recorded_results=waiting.recorded_results,
            oldest_queued_seconds=None if oldest is None else min(max(0.0, round(oldest, 3)), MAX_SECONDS),
            expected_results=self.expected_results,
            missed_probes=self.missed_probes,
            dropped_results=self.dropped,
            config_revision=self.config_revision,
        )


def package_version() -> str:
    """Return the installed version, or "0" when run from a bare tree."""
    try:
        return metadata.version("isochrone")
    except metadata.PackageNotFoundError:
        return "0"


class OneLine(logging.Formatter):
    """Writes an event as one printable line without secrets."""

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        self.converter = time.gmtime
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S")
        self._secrets = set(secrets)
        self._pattern = pattern_of(self._secrets)

    def hide(self, secret: str) -> None:
        """Never write this value, nor what a URL, JSON or a representation makes of it."""
        if secret and secret not in self._secrets:
            self._secrets.add(secret)
            self._pattern = pattern_of(self._secrets)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = " | ".join(part.strip() for part in super().format(record).splitlines() if part.strip())
        line = line if self._pattern is None else self._pattern.sub(_HIDDEN, line)
        line = SECRET_FORMS.sub(_HIDDEN, line)
        return "".join(character if character.isprintable() else " " for character in line)


def set_up_logging(level: str = "INFO", stream: TextIO | None = None) -> OneLine:
    """Send the log to `stream` (stderr); return its formatter, which learns secrets to hide."""
    form = OneLine()
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(form)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    LOG.setLevel(level)
    for foreign in ("httpx", "httpcore", "apscheduler"):
        # apscheduler writes two INFO lines for every run; httpx one for every request, with its URL
        logging.getLogger(foreign).setLevel(logging.WARNING)
    return form
