"""How a running collector fares beyond its database: what `/readyz` warns of. Memory alone, no clock."""

import msgspec


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a collector that is ready found of its database."""

    schema: str
    """Its revision."""
    warnings: tuple[str, ...] = ()


class Health:
    """The faults that this process knows of, each until it is over. No text in it names a host, a user or a secret."""

    def __init__(self) -> None:
        self._jobs: dict[str, str] = {}
        self._storing: str | None = None
        self.clock: str | None = None
        """Why the clock cannot be right; None: it may be."""
        self.full = False
        """The database is beyond 90 % of `max_db_bytes`: no batch is taken until there is room again."""

    def note_job(self, name: str, reason: str | None) -> None:
        """Note why a job's last run failed; None: it did not."""
        if reason is None:
            self._jobs.pop(name, None)
        else:
            self._jobs[name] = reason

    def note_storing(self, reason: str | None) -> None:
        """Note why the last batch was not stored; None: it was."""
        self._storing = reason

    def warnings(self) -> list[str]:
        """Return what an operator should know, a line each."""
        lines = [f"job {name} fails: {reason}" for name, reason in sorted(self._jobs.items())]
        if self._storing is not None:
            lines.insert(0, f"the last batch was not stored, its agent keeps it: {self._storing}")
        if self.full:
            lines.insert(0, "the database has reached 90 % of ISOCHRONE_MAX_DB_BYTES: no batch is taken")
        return lines
