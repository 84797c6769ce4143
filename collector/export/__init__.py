"""Files of results: rows in, bytes out, piece by piece. Pure.

A format is a writer: `add` takes rows and returns the bytes that are ready, `end` returns the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from collector.export.csv_text import CsvWriter
from collector.export.parquet import ParquetWriter
from collector.store.export import Values


class Writer(Protocol):
    """Writes one file."""

    def add(self, rows: Sequence[Values]) -> bytes:
        """Take rows; return what is ready of the file, maybe nothing."""

    def end(self) -> bytes:
        """Return the rest."""


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of file."""

    media_type: str
    writer: Callable[[], Writer]


FORMATS: Final[Mapping[str, Format]] = {
    "csv": Format(media_type="text/csv; charset=utf-8", writer=CsvWriter),
    "parquet": Format(media_type="application/vnd.apache.parquet", writer=ParquetWriter),
}
