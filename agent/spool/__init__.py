"""The spool: a durable, bounded store of results on disk. One sealed segment is one batch."""

from agent.spool.files import Sealed, uuid7
from agent.spool.spool import Identity, Spool, SpoolLimits

__all__ = ["Identity", "Sealed", "Spool", "SpoolLimits", "uuid7"]
