"""What `up` shows: a line for each step, then a table that lives. The only user of rich beside the command line.

`picture` is pure: what is known in, something to print out. `Screen` knows the terminal; where there is none, it prints
plain lines and the table now and then.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import IO, Final

import msgspec
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

PLAIN_FIRST_SECONDS: Final = 15.0
PLAIN_EVERY_SECONDS: Final = 60.0
"""Without a terminal: how long after the start, and how often, the table is printed."""
BAR_CELLS: Final = 14
NARROW_COLUMNS: Final = 96
"""Below this width the bar is left out."""
PLAIN_COLUMNS: Final = 110
COMPONENTS: Final = (("network", "cyan", "█"), ("model", "magenta", "▓"), ("streaming", "green", "░"))
"""Shades differ too: not every terminal, and not every eye, tells the colours apart."""
ABSENT: Final = Text("-", style="dim")


class Quantiles(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, or tokens per second; None where nothing was measured."""

    p50: float | None = None
    p95: float | None = None


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """Mean seconds of the three parts of a wait."""

    network_seconds: float | None = None
    model_seconds: float | None = None
    streaming_seconds: float | None = None


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """How the latest failure of a row ended."""

    outcome: str
    reason: str | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `GET /v1/summary`, as far as the table shows it."""

    agent_region: str
    endpoint: str
    connection: str | None = None
    simulated: bool = False
    probes: int = 0
    failures: int = 0
    rtt_probes: int = 0
    rtt_failures: int = 0
    rtt_seconds: Quantiles | None = None
    ttft_seconds: Quantiles | None = None
    tokens_per_second: Quantiles | None = None
    components: Shares | None = None
    last_failure: Failure | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/summary`."""

    window_seconds: float
    rows: tuple[Row, ...]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One process of ours."""

    name: str
    running: bool
    restarts: int = 0
    last_end: str | None = None


class View(msgspec.Struct, frozen=True, kw_only=True):
    """All that the picture shows."""

    summary: Summary | None
    """None: the collector did not answer."""
    parts: tuple[Part, ...]
    addresses: tuple[tuple[str, str], ...]
    """What, where."""


_decoder = msgspec.json.Decoder(Summary)


def decode_summary(data: bytes) -> Summary:
    """Return the summary in `data`; raise ValueError naming the path."""
    return _decoder.decode(data)


def seconds_text(seconds: float | None) -> Text:
    """Return a duration in the unit that people read it in."""
    if seconds is None:
        return ABSENT
    for below, digits in ((0.001, 2), (0.1, 1), (1.0, 0)):
        if seconds < below:
            return Text(f"{seconds * 1000:.{digits}f} ms")
    return Text(f"{seconds:.2f} s")


def share_bar(shares: Shares | None, *, cells: int = BAR_CELLS) -> Text:
    """Return the three parts of the wait as a bar of `cells`, network first; blank when nothing was measured."""
    bar = Text()
    values = [0.0 if shares is None else getattr(shares, f"{name}_seconds") or 0.0 for name, _, _ in COMPONENTS]
    total = sum(values)
    if total <= 0:
        return bar
    done, drawn = 0.0, 0
    for value, (_, colour, block) in zip(values, COMPONENTS, strict=True):
        done += value
        upto = round(cells * done / total)
        bar.append(block * (upto - drawn), style=colour)
        drawn = upto
    return bar


def picture(view: View, *, width: int) -> RenderableType:
    """Return the table with the state of our processes and the addresses under it."""
    bars = width >= NARROW_COLUMNS
    return Group(Text(), _table(view, bars=bars), *_feet(view, bars=bars))


def _table(view: View, *, bars: bool) -> Table:
    table = Table(
        title=_title(view),
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("region", no_wrap=True)
    table.add_column("endpoint", no_wrap=True)
    for name in ("probes", "RTT", "TTFT", "TTFT p95", "tokens/s", "failures"):
        table.add_column(name, justify="right", no_wrap=True)
    if bars:
        table.add_column("where it goes", no_wrap=True)
    for row in () if view.summary is None else sorted_rows(view.summary.rows):
        table.add_row(*_cells(row, bars=bars))
    return table


def _title(view: View) -> str:
    if view.summary is None:
        return "Isochrone: the collector does not answer at the moment"
    minutes = view.summary.window_seconds / 60
    return f"Isochrone, last {minutes:g} minutes (medians)"


def _cells(row: Row, *, bars: bool) -> list[RenderableType]:
    ttft = row.ttft_seconds or Quantiles()
    rate = None if row.tokens_per_second is None else row.tokens_per_second.p50
    cells: list[RenderableType] = [
        row.agent_region,
        _endpoint(row),
        f"{row.probes}",
        seconds_text(None if row.rtt_seconds is None else row.rtt_seconds.p50),
        seconds_text(ttft.p50),
        Text.assemble((seconds_text(ttft.p95).plain, "dim")),
        ABSENT if rate is None else f"{rate:.1f}",
        _failures(row),
    ]
    return [*cells, share_bar(row.components)] if bars else cells


def _endpoint(row: Row) -> Text:
    text = Text(row.endpoint)
    if row.connection not in {None, "cold"}:
        text.append(f" {row.connection}", style="cyan")
    if row.simulated:
        text.append(" simulated", style="dim")
    return text


def _failures(row: Row) -> Text:
    if row.failures == 0:
        text = Text("0", style="dim")
    else:
        text = Text(f"{row.failures} ({row.failures / max(row.probes, 1):.0%})", style="bold red")
    if row.connection is not None and row.rtt_failures:  # else the probes of the row are round trips themselves
        text = Text.assemble(text, (f" +{row.rtt_failures} rtt", "red"))
    return text


def _feet(view: View, *, bars: bool) -> Iterator[Text]:
    if view.summary is not None and not view.summary.rows:
        yield Text("  waiting for the first results …", style="dim")
    elif bars:
        yield Text("  ").join(
            Text.assemble((f" {block} ", colour), (name, "dim")) for name, colour, block in COMPONENTS
        )
    yield from _last_failures(view)
    for part in view.parts:
        if not part.running:
            yield Text(f"{part.name} {part.last_end or 'is starting'}: starting it again", style="bold yellow")
        elif part.restarts:
            yield Text(f"{part.name} {part.last_end}; started again ({part.restarts}x)", style="yellow")
    for what, where in view.addresses:
        yield Text(f"{what:<8}", style="dim").append(where, style="default not dim")
    yield Text("Ctrl-C stops everything; the data stay.", style="dim")


def _last_failures(view: View) -> Iterator[Text]:
    """Say of each row with failures how the latest ended: a number alone helps nobody."""
    for row in () if view.summary is None else sorted_rows(view.summary.rows):
        failure = row.last_failure
        if failure is not None:
            line = Text.assemble(
                (f" {row.endpoint} ", "bold red"), f"{failure.outcome}: {failure.reason or 'no reason'}"
            )
            line.no_wrap, line.overflow = True, "ellipsis"
            yield line


class _Terminal(Console):
    """A console whose loss stops nothing: what we run must still be stopped in order."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Screen:
    """Where it is shown."""

    def __init__(self, file: IO[str], *, lines_only: bool = False) -> None:
        self.console = _Terminal(file=file, highlight=False)
        self.lives = self.console.is_terminal and not self.console.is_dumb_terminal and not lines_only
        if not self.console.is_terminal:
            self.console.width = PLAIN_COLUMNS
        self._mark = "✓" if self.console.encoding.startswith("utf") else "ok"
        self._live: Live | None = None
        self._next_table = monotonic() + PLAIN_FIRST_SECONDS

    @contextmanager
    def step(self, doing: str) -> Iterator[list[str]]:
        """Show what is being done, then that it is done and how long it took.

        The list given may be filled with what the finished line shall say instead of `doing`.
        """
        began, said = monotonic(), list[str]()
        if self.lives:
            with self.console.status(doing):
                yield said
        else:
            yield said
        text = Text.assemble((f"{self._mark} ", "bold green"), said[0] if said else doing)
        self.say(text.append(f"  {monotonic() - began:.1f} s", style="dim"))

    def say(self, text: str | Text) -> None:
        """Print a line above the table."""
        self.console.print(text, soft_wrap=True, markup=False)

    def warn(self, text: str) -> None:
        """Print a line that wants attention."""
        self.say(Text(text, style="yellow"))

    def show(self, view: View) -> None:
        """Renew the table; without a terminal print it now and then."""
        if self.lives:
            self._show_live(picture(view, width=self.console.width))
        elif monotonic() >= self._next_table:
            self._next_table = monotonic() + PLAIN_EVERY_SECONDS
            self.console.print(picture(view, width=self.console.width))

    def be_quiet(self) -> None:
        """Print nothing more: the terminal is gone."""
        self.console.quiet = True

    def end_table(self) -> None:
        """Leave the table as it stands: lines follow."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show_live(self, content: RenderableType) -> None:
        if self._live is None:
            self._live = Live(console=self.console, auto_refresh=False)
            self._live.start()
        self._live.update(content, refresh=True)


def sorted_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows by region, then by round trip: the near ones first."""
    return sorted(rows, key=lambda row: (row.agent_region, _rtt_or_last(row), row.endpoint))


def _rtt_or_last(row: Row) -> float:
    p50 = None if row.rtt_seconds is None else row.rtt_seconds.p50
    return float("inf") if p50 is None else p50
