"""Parquet, by pyarrow: row groups of bounded size, so that neither writer nor reader needs the whole in memory.

The only module that knows pyarrow; it is imported with the first file: 50 MB of memory that few collectors need.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from collector.store.export import COLUMNS, Kind, Values

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_ROWS: Final = 20_000
"""About 5 MB in memory; a row group that is worth its footer."""


class ParquetWriter:
    """Writes one file, compressed with zstd."""

    def __init__(self) -> None:
        import pyarrow as pa  # noqa: PLC0415  see the module
        from pyarrow import parquet  # noqa: PLC0415  as above

        self._arrow: Any = pa  # Any: pyarrow has no types
        self._schema = pa.schema([(name, _type_of(pa, kind)) for name, kind in COLUMNS.items()])
        self._sink = _Sink()
        self._file = parquet.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0

    def add(self, rows: Sequence[Values]) -> bytes:
        """Return the row group that is full, or nothing."""
        if rows:
            self._batches.append(self._batch(rows))
            self._rows += len(rows)
        if self._rows >= GROUP_ROWS:
            self._write_group()
        return self._sink.taken()

    def end(self) -> bytes:
        """Return the last row group and the footer."""
        if self._rows:
            self._write_group()
        self._file.close()
        return self._sink.taken()

    def _write_group(self) -> None:
        table = self._arrow.Table.from_batches(self._batches, schema=self._schema)
        self._file.write_table(table, row_group_size=self._rows)
        self._batches, self._rows = [], 0

    def _batch(self, rows: Sequence[Values]) -> "pa.RecordBatch":
        columns = zip(*rows, strict=True)
        arrays = [
            self._arrow.array([_text(value) for value in column] if kind is Kind.UUID else column, type=field.type)
            for column, kind, field in zip(columns, COLUMNS.values(), self._schema, strict=True)
        ]
        return self._arrow.record_batch(arrays, schema=self._schema)


class _Sink:
    """A file that gives away what was written to it."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> int:
        """Take a copy: the writer uses its buffer again."""
        self._parts.append(bytes(data))
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        """Return the place in the file, whatever was given away."""
        return self._size

    def flush(self) -> None:
        """Hold nothing back."""

    def close(self) -> None:
        """End; what was written stays until it is taken."""
        self.closed = True

    def readable(self) -> bool:
        """Tell pyarrow that this file is only written."""
        return False

    def writable(self) -> bool:
        """As `readable`."""
        return True

    def seekable(self) -> bool:
        """As `readable`."""
        return False

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        ready, self._parts = b"".join(self._parts), []
        return ready


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _type_of(pa: Any, kind: Kind) -> Any:  # noqa: ANN401  pyarrow has no types
    types = {
        Kind.TEXT: pa.string(),
        Kind.FREE: pa.string(),
        Kind.UUID: pa.string(),
        Kind.WORDS: pa.list_(pa.string()),
        Kind.TIME: pa.timestamp("us", tz="UTC"),
        Kind.INTEGER: pa.int64(),
        Kind.REAL: pa.float32(),
        Kind.DOUBLE: pa.float64(),
        Kind.BOOLEAN: pa.bool_(),
    }
    return types[kind]
