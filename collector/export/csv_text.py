"""CSV (RFC 4180): a header, then a line each; nothing where nothing was measured, times in RFC 3339, lists by spaces.

Text from outside that a spreadsheet would take for a formula gets a `'` in front.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from collector.store.export import COLUMNS, Kind, Values

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""https://owasp.org/www-community/attacks/CSV_Injection"""


class CsvWriter:
    """Writes one file."""

    def __init__(self) -> None:
        self._text = io.StringIO(newline="")
        self._lines = csv.writer(self._text)
        self._lines.writerow(COLUMNS)

    def add(self, rows: Sequence[Values]) -> bytes:
        """Return the lines of the rows."""
        self._lines.writerows(map(_line, rows))
        return self._taken()

    def end(self) -> bytes:
        """Return the header of a file without rows, else nothing."""
        return self._taken()

    def _taken(self) -> bytes:
        ready = self._text.getvalue().encode()
        self._text.seek(0)
        self._text.truncate()
        return ready


def _line(row: Values) -> Sequence[object]:
    line = list(row)
    for index, form in _FORMS:
        value = line[index]
        if value is not None:
            line[index] = form(value)
    return line


def _moment(value: object) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def _free(value: object) -> str:
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _words(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


_FORM_OF: Final[Mapping[Kind, Callable[[object], object]]] = {
    Kind.TIME: _moment,
    Kind.FREE: _free,
    Kind.WORDS: _words,
    Kind.BOOLEAN: lambda value: "true" if value else "false",
}
_FORMS: Final = tuple((index, _FORM_OF[kind]) for index, kind in enumerate(COLUMNS.values()) if kind in _FORM_OF)
