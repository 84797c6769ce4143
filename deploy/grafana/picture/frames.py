"""Tables out of answers, by the transformations that a panel names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from deploy.grafana.picture.asking import Answer

Cell = str | float | None
Row = dict[str, Cell]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A table."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def frame_of(panel: Mapping[str, Any], answers: Sequence[Answer]) -> Frame:
    """Return what a table panel shows."""
    frame = _joined(answers)
    for step in panel.get("transformations") or ():
        if step["id"] == "organize":
            frame = _organized(frame, step["options"])
        elif step["id"] == "groupingToMatrix":
            frame = _crossed(frame, step["options"])
    return _sorted(frame, panel["options"].get("sortBy") or ())


def _joined(answers: Sequence[Answer]) -> Frame:
    """Put values into one row whose labels are alike, of those that all answers have (Grafana's "merge")."""
    told = [series.labels for answer in answers for series in answer.series]
    common = sorted(set.intersection(*map(set, told))) if len(answers) > 1 and told else None
    rows: dict[tuple[tuple[str, str], ...], Row] = {}
    values = ["Value" if len(answers) == 1 else f"Value #{answer.ref}" for answer in answers]
    for value, answer in zip(values, answers, strict=True):
        for series in answer.series:
            if series.points:
                key = tuple((name, series.labels[name]) for name in common or sorted(series.labels))
                row = rows.setdefault(key, {})
                row.update({**series.labels, value: series.points[-1][1]})
    labels = dict.fromkeys(name for row in rows.values() for name in row if name not in values)
    return Frame(columns=(*labels, *values), rows=tuple(rows.values()))


def _organized(frame: Frame, options: Mapping[str, Any]) -> Frame:
    order, names, hidden = options["indexByName"], options["renameByName"], options["excludeByName"]
    shown = [name for name in frame.columns if not hidden.get(name)]
    shown.sort(key=lambda name: order.get(name, len(order)))
    renamed = {name: names.get(name, name) for name in shown}
    rows = tuple({new: row.get(name) for name, new in renamed.items()} for row in frame.rows)
    return Frame(columns=tuple(renamed.values()), rows=rows)


def _crossed(frame: Frame, options: Mapping[str, str]) -> Frame:
    column, row, value = options["columnField"], options["rowField"], options["valueField"]
    corner = f"{row}\\{column}"
    across = sorted({str(one[column]) for one in frame.rows})
    table: dict[str, Row] = {}
    for one in frame.rows:
        table.setdefault(str(one[row]), {corner: one[row]})[str(one[column])] = one[value]
    return Frame(columns=(corner, *across), rows=tuple(table[name] for name in sorted(table)))


def _sorted(frame: Frame, keys: Sequence[Mapping[str, Any]]) -> Frame:
    for key in keys:
        name = key["displayName"]
        rows = sorted(frame.rows, key=lambda row: float(row.get(name) or 0.0), reverse=bool(key.get("desc")))
        frame = replace(frame, rows=tuple(rows))
    return frame
