"""Faults of the agent itself. A failing probe is no fault: it ends in a `Result` with its outcome.

AgentError
+-- ConfigError       settings, credential or target file: the operator mends it (exit 2)
+-- SpoolError        the spool's folder cannot be used
|   +-- SpoolLocked   another agent works on it (exit 75)
+-- DeliveryError     the collector did not acknowledge; always kept and tried again
    +-- AnswerTooLong the answer was cut off: what came before its content is kept
"""

from collections.abc import Mapping


class AgentError(Exception):
    """Root of everything that this side raises on purpose. The text is one line that says what to do."""


class ConfigError(AgentError):
    """A setting is wrong. The text names file, line, key, value, and what would be right."""


class SpoolError(AgentError):
    """The spool's folder cannot be created, read or written."""


class SpoolLocked(SpoolError):
    """Another process holds the spool."""


class DeliveryError(AgentError):
    """The collector did not acknowledge a batch."""


class AnswerTooLong(DeliveryError):
    """The answer is longer than whoever asked would take."""

    def __init__(self, text: str, *, status: int, headers: Mapping[str, str]) -> None:
        """Take the head of the answer, names of headers in lower case."""
        super().__init__(text)
        self.status = status
        self.headers = headers
