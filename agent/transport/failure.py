"""What went wrong on the way to an endpoint: foreign errors are translated into this once, at the door."""

from isochrone.names import printable
from isochrone.outcome import Outcome


class Failure(Exception):
    """An attempt that ended before its time. Stays inside the agent: a probe turns it into a `Result`."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        self.outcome = outcome
        self.words = reason
        """As it came: foreign words may hold what must not be shown, and are cleaned before they are cut."""
        self.reason = printable(reason)
        """One line for a person."""
        super().__init__(f"{outcome}: {self.reason}")


def why(exc: BaseException) -> str:
    """Return the plain words of a foreign error: the system's text where it has one."""
    text = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
    return str(text)
