"""Transactions of collectors that stand still in the middle of a COPY: a stopped process, a paused or lost machine.

Postgres ends none of them: while it waits for the data of a COPY, neither `statement_timeout` nor a cancel reaches the
session (src/backend/tcop/postgres.c, ProcessClientReadInterrupt), and the one for idle transactions does not count. The
batches in it stay locked, and everyone who brings one of them again makes a whole group wait for `lock_timeout`.
"""

from typing import Final

from sqlalchemy import Connection, text

STALLED_SECONDS = 30.0
"""A collector itself gives up a batch after half of it: nobody waits for these any more."""

_END: Final = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    " AND usename = current_user AND application_name = 'isochrone-collector' AND state = 'active'"
    " AND wait_event = 'ClientRead' AND xact_start < clock_timestamp() - make_interval(secs => :seconds)"
)


def end_stalled(connection: Connection) -> int:
    """End the transactions that have waited so long for their collector; return how many. Their batches come again."""
    return sum(connection.execute(_END, {"seconds": STALLED_SECONDS}).scalars())
