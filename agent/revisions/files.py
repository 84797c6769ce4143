"""Configurations on disk. Nothing found here stops the agent: what cannot be read counts as absent.

<state>/config.json             the last known good one: it stood its probation, and never expires
<state>/config.2.json, .3.json  the good ones before it
<state>/config.candidate.json   the one on probation
<state>/config.notes.json       whether it is in force, how often the process died of it, and the tags of bad ones
"""

import contextlib
import re
from pathlib import Path
from typing import Annotated, Final

import msgspec

from agent.config.reading import read_bounded
from agent.spool.files import fsync_folder, write_durably
from agent.telemetry import LOG
from isochrone.config import MAX_CONFIG_BYTES, AgentConfig, decode_agent_config
from isochrone.names import Count, Text, printable

KEPT_BAD: Final = 8
"""Tags of bad configurations that are remembered: a mended one has another tag."""
MAX_DEATHS: Final = 2
"""Of the process during a probation: then the last known good one is used."""
TAG_PATTERN: Final = r"^[\x21-\x7e]{1,200}\Z"
"""What goes back in If-None-Match: a tag beyond ASCII can be received but not sent."""
_MAX_BYTES: Final = MAX_CONFIG_BYTES + 1_000
_REVISION: Final = re.compile(r'"(\d{1,9})[-"]')

Tag = Annotated[str, msgspec.Meta(pattern=TAG_PATTERN)]


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration as the collector gave it, with its tag."""

    etag: Tag
    config: msgspec.Raw

    def decoded(self) -> AgentConfig:
        """Return the configuration; raise ValueError naming the path."""
        return decode_agent_config(bytes(self.config))


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that was given up; `revision` is None when not even that can be told."""

    etag: Tag
    revision: Count | None
    reason: Text
    by_death: bool = False
    """The process died while it was tried: it may have died of something else."""


class Notes(msgspec.Struct, frozen=True, kw_only=True):
    """What must be remembered over a crash."""

    active: bool = False
    """The candidate is in force; still so at a start, the process died with it."""
    deaths: int = 0
    bad: tuple[Failed, ...] = ()
    """The newest first."""


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What to begin with; `good` is the last known good one, whether or not it is in force."""

    good: Fetched | None
    candidate: Fetched | None
    bad: tuple[Failed, ...]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Fetched)
_notes_decoder = msgspec.json.Decoder(Notes)


class ConfigCache:
    """The files. Every method waits for the disk: not for the event loop."""

    def __init__(self, path: Path) -> None:
        """Take the path of the last known good configuration; the others stand beside it."""
        self._path = path
        self._candidate = path.with_name("config.candidate.json")
        self._notes = path.with_name("config.notes.json")
        self._older = (path.with_name("config.2.json"), path.with_name("config.3.json"))

    def load(self) -> Fetched | None:
        """Return the newest good configuration that can be read, or None."""
        return next((found for path in (self._path, *self._older) if (found := _read(path)) is not None), None)

    def start(self) -> Start:
        """Return what to begin with, having counted a death of the process during a probation."""
        notes, candidate = self.notes(), _read(self._candidate)
        if candidate is not None and any(one.etag == candidate.etag for one in notes.bad):
            candidate = None
        if candidate is not None:
            deaths = notes.deaths + notes.active
            if deaths >= MAX_DEATHS:
                reason = f"the process died {deaths} times while it was tried"
                notes = self.give_up(candidate.etag, reason, by_death=True)
                candidate = None
            elif not self._note(Notes(active=True, deaths=deaths, bad=notes.bad)):
                candidate = None  # a death could not be counted
        return Start(good=self.load(), candidate=candidate, bad=notes.bad)

    def notes(self) -> Notes:
        """Return what was noted; nothing when that cannot be read."""
        try:
            return _notes_decoder.decode(_bounded(self._notes))
        except (OSError, ValueError, msgspec.DecodeError, RecursionError):
            return Notes()

    def try_out(self, fetched: Fetched) -> bool:
        """Write the candidate, and that it is in force; tell whether that outlives a crash."""
        try:
            write_durably(self._candidate, _encoder.encode(fetched))
        except OSError as exc:
            LOG.warning("config: %s cannot be written: %s", self._candidate, exc.strerror)
            return False
        return self._note(Notes(active=True, bad=self.notes().bad))

    def rest(self) -> None:
        """Note that the process ends on purpose: no death."""
        self._note(msgspec.structs.replace(self.notes(), active=False))

    def promote(self, running: Fetched) -> bool:
        """Make the candidate, `running`, the last known good one; tell whether that could be done."""
        second, third = self._older
        try:
            if (candidate := _read(self._candidate)) is None or candidate.etag != running.etag:
                write_durably(self._candidate, _encoder.encode(running))  # the disk was full when its trial began
            if second.exists():
                second.replace(third)
            if self._path.exists():
                write_durably(second, _bounded(self._path))
            self._candidate.replace(self._path)
            fsync_folder(self._path.parent)
        except OSError as exc:
            LOG.warning("config: %s cannot be made the last known good one: %s", self._candidate, exc.strerror)
            return False
        self._note(Notes(bad=self.notes().bad))
        return True

    def forget_candidate(self) -> None:
        """Remove the candidate without a word against it."""
        self._note(Notes(bad=self.notes().bad))
        with contextlib.suppress(OSError):
            self._candidate.unlink()

    def forgive(self, etag: str) -> Notes:
        """Take back the word against a configuration; return what is noted."""
        known = self.notes()
        notes = msgspec.structs.replace(known, bad=tuple(one for one in known.bad if one.etag != etag))
        self._note(notes)
        return notes

    def give_up(self, etag: str, reason: str, *, by_death: bool = False) -> Notes:
        """Remember that a configuration is bad, and remove the candidate if it is that one; return what is noted."""
        bad = Failed(etag=etag, revision=revision_of(etag), reason=printable(reason), by_death=by_death)
        others = tuple(one for one in self.notes().bad if one.etag != etag)
        notes = Notes(bad=(bad, *others)[:KEPT_BAD])
        candidate = _read(self._candidate)
        if candidate is not None and candidate.etag != etag:
            notes = msgspec.structs.replace(self.notes(), bad=notes.bad)
            self._note(notes)
            return notes
        self._note(notes)
        with contextlib.suppress(OSError):
            self._candidate.unlink()
        return notes

    def _note(self, notes: Notes) -> bool:
        try:
            write_durably(self._notes, _encoder.encode(notes))
        except OSError as exc:
            LOG.warning("config: %s cannot be written: %s", self._notes, exc.strerror)
            return False
        return True


def revision_of(etag: str) -> int | None:
    """Return the revision that a collector's tag begins with; None for another tag."""
    found = _REVISION.match(etag)
    return None if found is None else int(found[1])


def _read(path: Path) -> Fetched | None:
    try:
        fetched = _decoder.decode(_bounded(path))
        fetched.decoded()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, msgspec.DecodeError, RecursionError) as exc:
        LOG.warning("config: %s is not used: %s", path, printable(str(exc)))
        return None
    return fetched


def _bounded(path: Path) -> bytes:
    return read_bounded(path, _MAX_BYTES)
