"""Numbers as Grafana writes them, by the unit of a field."""

from typing import Final

MINUTE: Final = 60.0
HOUR: Final = 3_600.0
DAY: Final = 86_400.0
FINE: Final = 10.0
"""Milliseconds: what is less is written with a decimal."""
SUFFIX: Final = "suffix:"
STEPS: Final = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1.0, "s"))


def written(value: float, unit: str, *, decimals: int | None = None) -> str:
    """Return a number with its unit."""
    if unit == "s":
        return seconds(value, decimals)
    if unit == "percentunit":
        return f"{100 * value:.{1 if decimals is None else decimals}f}%"
    if unit == "currencyUSD":
        return f"${value:,.{2 if value >= 1 else 4}f}"
    if unit.startswith(SUFFIX):
        return f"{_short(value, decimals)}{unit.removeprefix(SUFFIX)}"
    return _short(value, decimals)


def seconds(value: float, decimals: int | None = None) -> str:
    """Return a duration in the unit that suits it."""
    if abs(value) < 1:
        milliseconds = 1_000 * value
        return f"{milliseconds:.{(0 if abs(milliseconds) >= FINE else 1) if decimals is None else decimals}f} ms"
    size, name = next((step for step in STEPS if abs(value) >= step[0]), STEPS[-1])
    return f"{value / size:.{2 if name == 's' else 0}f} {name}"


def ago(seconds_ago: float) -> str:
    """Return how long something has been so."""
    size, name = next((step for step in STEPS if seconds_ago >= step[0]), STEPS[-1])
    return f"{seconds_ago / size:.0f} {name} ago"


def _short(value: float, decimals: int | None) -> str:
    if decimals is None:
        decimals = 0 if value == int(value) else 1
    return f"{value:,.{decimals}f}"
