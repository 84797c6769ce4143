"""Faults of the collector, and the requests that it refuses.

CollectorError
+-- SettingsError         a setting or a file is wrong: the operator mends it (exit 2)
|   +-- TargetsRefused    a target file with problems: nothing was changed
|   +-- ConfirmationNeeded  a target file that takes most away: nothing was changed
+-- NameTaken             an agent of that name exists
+-- SchemaBehind          the database is not at the revision of this release
+-- DatabaseUnfit         the database is none that results can be kept in
+-- ClockWrong            this machine's clock cannot be right: nothing is dated or dropped by it
+-- Unsettled             results are not rolled up yet: they are not dropped before
+-- DoneElsewhere         another collector is at it: nothing is left to do
+-- DatabaseUnavailable   the database is at fault, not the data: try again (503)
|   +-- Locked            another transaction holds what is needed
|   +-- Conflict          it chose one of two transactions: once more, at once
|   +-- StatementTooSlow  it gave up on one statement; for a reader: too much was asked for
+-- Refused               a request that breaks a rule; `kind` names its problem (collector/api/problems.py)
"""


class CollectorError(Exception):
    """Root of everything that this side raises on purpose. The text is one line that says what to do."""


class SettingsError(CollectorError):
    """A setting is wrong. The text names the setting, its value, and what would be right."""


class TargetsRefused(SettingsError):
    """A target file has problems. `problems` holds one line each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class ConfirmationNeeded(SettingsError):
    """A target file takes away most of what is probed. The text says what, and how to confirm it."""


class NameTaken(CollectorError):
    """An agent of that name exists already."""


class SchemaBehind(CollectorError):
    """The database is not at the revision that this release needs."""


class DatabaseUnfit(CollectorError):
    """The database answers, and is none that results can be kept in. The operator chooses another."""


class ClockWrong(CollectorError):
    """The clock of this machine, or the database's, cannot be right. The text says what each of them says."""


class Unsettled(CollectorError):
    """What is to be dropped is still needed: it is not rolled up yet."""


class DoneElsewhere(CollectorError):
    """Another collector does this job at the moment."""


class DatabaseUnavailable(CollectorError):
    """The database does not answer, is full, read-only or overloaded. Nothing was stored; trying again is right.

    The text is for the log: it may name hosts and users. `plain` is for everybody.
    """

    plain = "the database does not serve (the log says more)"

    def __init__(self, text: str, *, plain: str | None = None) -> None:
        super().__init__(text)
        if plain is not None:
            self.plain = plain


class Locked(DatabaseUnavailable):
    """Another transaction held a lock for longer than anybody waits."""

    plain = "others held a lock in the database for too long"


class Conflict(DatabaseUnavailable):
    """A deadlock or a failed serialization: the same transaction may succeed at once."""

    plain = "the database chose another of two transactions"


class StatementTooSlow(DatabaseUnavailable):
    """The database gave up on one statement at its own time limit, and serves others."""

    plain = "a statement took the database too long"


class Refused(CollectorError):
    """A request that the collector does not serve. The text is for the caller and holds nothing secret."""

    def __init__(self, kind: str, detail: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.retry_after_seconds = retry_after_seconds
        """When to come again; None: as the table of problems has it."""
