"""The table: every shape that a provider's stream takes, when its bytes leave, and what must come out of it.

Places of marks are indices of writes: the mark must be the moment at which that write left; CLOSE is the body's end.
Truth of the plain shape: 16 tokens, the first 100 ms after the request, then one every 20 ms, which is twice what a
mark may be off.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from isochrone.config import Provider
from isochrone.outcome import Flag, Outcome
from tests.accuracy.dialects import DIALECTS, INPUT, OUTPUT, TRITON, WORDS, Dialect
from tests.accuracy.scripted import Play

OPENING, FIRST, GAP = 0.05, 0.1, 0.02
CLOSE: Final = -1


@dataclass(frozen=True, kw_only=True)
class Expected:
    """`streamed` is how many tokens came between first and last arrival's ends; None where no rate may be told."""

    outcome: Outcome = Outcome.OK
    reason: str = ""
    output: int = OUTPUT
    arrivals: int = OUTPUT
    streamed: int | None = OUTPUT
    input: int | None = INPUT
    cached: int | None = None
    reasoning: int | None = None
    counted: bool = True
    """The provider counted."""
    first_event: int | None = 0
    first_token: int | None = 1
    first_answer: int | None = 1
    last_token: int | None = OUTPUT
    end: int | None = OUTPUT + 1
    flags: tuple[Flag, ...] = ()
    timing: tuple[str, float | None, float | None, float | None] | None = None
    """Source, first token, total, queue."""
    trusted: bool | None = None
    """None: it hangs on how fast this machine is."""
    region: str | None = None


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One row."""

    name: str
    provider: Provider
    play: Play
    expected: Expected
    first_token_timeout: float = 10.0
    stall_timeout: float = 10.0
    more: Mapping[str, str] = field(default_factory=dict)


def every_shape() -> Iterator[Shape]:
    """Yield the shapes that all providers have."""
    for dialect in DIALECTS:
        for name, (play, expected) in _shapes(dialect).items():
            yield Shape(name=f"{dialect.provider} {name}", provider=dialect.provider, play=play, expected=expected)


def stream(dialect: Dialect, tokens: Sequence[bytes], ending: bytes = b"", *, gap: float = GAP) -> Play:
    """Return opening, tokens and ending, each a write of its own where there is one."""
    writes = [(OPENING, dialect.opening)] if dialect.opening else []
    writes += [(FIRST + index * gap, token) for index, token in enumerate(tokens)]
    if ending:
        writes.append((FIRST + len(tokens) * gap, ending))
    return Play(writes=writes, media=dialect.media)


def good(dialect: Dialect, *, arrivals: int = OUTPUT) -> Expected:
    """Return what a plain stream of the dialect must give."""
    place = 1 if dialect.opening else 0
    base = Expected(
        arrivals=arrivals,
        first_token=place,
        first_answer=place,
        last_token=place + arrivals - 1,
        end=place + arrivals if dialect.marked else CLOSE,
        **_told(dialect),
    )
    if dialect is not TRITON:
        return base
    return replace(base, output=arrivals, streamed=arrivals, input=None, counted=False)


def failed(outcome: Outcome, reason: str, *, token: int | None = None) -> Expected:
    """Return a failure that reached the first token at `token`, or not."""
    return Expected(outcome=outcome, reason=reason, first_token=token)


def _told(dialect: Dialect) -> dict[str, object]:
    """Return what each dialect tells beside its tokens."""
    told: dict[str, object] = {"reasoning": 0 if dialect.counts_reasoning else None}
    match dialect.provider:
        case Provider.OPENAI | Provider.AZURE_OPENAI | Provider.OPENAI_COMPLETIONS | Provider.OPENAI_RESPONSES:
            told["cached"] = 0
        case Provider.ANTHROPIC:
            told |= {"cached": 0, "region": "us"}
        case Provider.BEDROCK:
            told |= {"cached": 0, "timing": ("bedrock metrics.latencyMs", None, 0.24, None)}
        case Provider.OLLAMA:
            told["timing"] = ("ollama durations", 0.095, 0.24, None)
    return told


def _shapes(dialect: Dialect) -> dict[str, tuple[Play, Expected]]:
    words = [dialect.text(f"w{n} ") for n in range(OUTPUT)]
    ending = dialect.ending(True)  # noqa: FBT003  with usage
    expected = good(dialect)
    place = expected.first_token or 0
    plain = stream(dialect, words, ending)
    rows = {
        "plain": (plain, expected),
        "gathered in one write": _gathered(dialect, words, expected),
        "four tokens an event": _by_four(dialect, expected),
        "pings before and between": (_pinged(dialect, plain), expected),
        "error before a token": (
            stream(dialect, [dialect.error]),
            failed(Outcome.STREAM_ERROR, WORDS),
        ),
        "error after four tokens": (
            stream(dialect, [*words[:4], dialect.error]),
            failed(Outcome.STREAM_ERROR, WORDS, token=place),
        ),
        "cut after four tokens": (
            replace(stream(dialect, words[:4]), close="cut"),
            failed(Outcome.TRUNCATED, "in the middle", token=place),
        ),
        "no token": (
            stream(dialect, [], dialect.ending(True) or dialect.ping),  # noqa: FBT003  with usage
            failed(Outcome.EMPTY, "without a token"),
        ),
        "JSON instead of a stream": (
            Play(writes=[(FIRST, b'{"choices": [], "content": []}')], media="application/json"),
            failed(Outcome.PROTOCOL, "one JSON body"),
        ),
        "JSON error under 200": (
            Play(writes=[(FIRST, dialect.error_body)], media="application/json"),
            failed(Outcome.STREAM_ERROR, WORDS),
        ),
        "429": (
            Play(
                writes=[(FIRST, dialect.error_body)], media="application/json", status=429, headers={"Retry-After": "7"}
            ),
            failed(Outcome.RATE_LIMITED, f"HTTP 429: retry after 7 s: {WORDS}"),
        ),
        "stalls for ever after four tokens, pinging": (
            _endless(dialect, words[:4]),
            failed(Outcome.TIMEOUT_STALL, "no further token", token=place),
        ),
    }
    return rows | _optional(dialect, words, expected)


def _optional(dialect: Dialect, words: list[bytes], expected: Expected) -> dict[str, tuple[Play, Expected]]:
    """Return the shapes that not every format can take."""
    rows = {}
    place = expected.first_token or 0
    ending = dialect.ending(True)  # noqa: FBT003  with usage
    if dialect is not TRITON:
        uncounted = {"counted": False, "input": None, "reasoning": None, "cached": None}
        if dialect.provider is Provider.ANTHROPIC:
            uncounted |= {"input": INPUT, "cached": 0}  # told when it began
        timing = None if dialect.provider is Provider.OLLAMA else expected.timing
        rows["no usage"] = (
            stream(dialect, words, dialect.ending(False)),  # noqa: FBT003  without usage
            replace(expected, timing=timing, **uncounted),
        )
        rows["clean end after four tokens"] = (
            stream(dialect, words[:4]),
            failed(Outcome.TRUNCATED, "ended without", token=place),
        )
    if dialect.thought is not None:
        thoughts = [dialect.thought(f"t{n} ") for n in range(8)]
        rows["eight thoughts, then the answer"] = (
            stream(dialect, thoughts + words[8:], ending),
            replace(expected, first_answer=place + 8),
        )
    if dialect.tool is not None:
        rows["a tool call alone"] = (
            stream(dialect, [dialect.tool(f"a{n}") for n in range(OUTPUT)], ending),
            replace(expected, first_answer=None),
        )
    return rows


def _gathered(dialect: Dialect, words: list[bytes], expected: Expected) -> tuple[Play, Expected]:
    place = expected.first_token or 0
    play = stream(dialect, [b"".join(words)], dialect.ending(True))  # noqa: FBT003  with usage
    late = replace(play, writes=[(at + 0.15 if at >= FIRST else at, data) for at, data in play.writes])
    end = CLOSE if expected.end == CLOSE else place + 1
    return late, replace(expected, last_token=place, end=end, streamed=None, flags=(Flag.BUFFERED,))


def _by_four(dialect: Dialect, expected: Expected) -> tuple[Play, Expected]:
    events = [dialect.text(f"w{n} x{n} y{n} z{n} ") for n in range(0, OUTPUT, 4)]
    play = stream(dialect, events, dialect.ending(True), gap=4 * GAP)  # noqa: FBT003  with usage
    end = CLOSE if expected.end == CLOSE else (expected.first_token or 0) + 4
    changed = replace(expected, arrivals=4, last_token=(expected.first_token or 0) + 3, end=end)
    return play, replace(changed, output=4, streamed=4) if dialect is TRITON else changed


def _pinged(dialect: Dialect, play: Play) -> Play:
    """Pings are no tokens, but of some formats they are events: they leave with the bytes of the plain stream."""
    (at, first), *rest = play.writes
    return replace(play, writes=[(at, first + dialect.ping * 20), *((at, dialect.ping + data) for at, data in rest)])


def _endless(dialect: Dialect, words: list[bytes]) -> Play:
    play = stream(dialect, words)
    pings = [(FIRST + 4 * GAP + n * 0.02, dialect.ping) for n in range(60)]
    return replace(play, writes=[*play.writes, *pings], close="never")
