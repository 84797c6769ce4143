"""The third opinion: what the model server logs of its own work, held against the probe's TTFT.

llama.cpp tells for each stream how long it evaluated how many tokens of the prompt. The TTFT also holds the way there
and back, the chat template, the tokenizer, the first token's sampling and the server's Python: a few milliseconds
beside 60, hence the room above. No token can come before its prompt was read, hence hardly any below.
"""

import re
from statistics import median
from typing import Any, Final

from tests.real import witness
from tests.real.checks import Tally
from tests.real.product import AGENT
from tests.real.scenes import LLAMA, PROBES, Scene, attempt_probe
from tests.real.servers import MODEL

RATIO_LOW, RATIO_HIGH = 0.95, 1.3
EVALUATED_SHARE: Final = 0.75
"""The chat template before the nonce is 18 of some 126 tokens: those alone can be reused."""
HIT_SHARE: Final = 0.1
HIT_RATIO: Final = 2.0
"""A prompt read from the cache is answered so many times faster, at least."""
_LEAST: Final = 1e-5
"""The log counts in hundredths of a millisecond: a prompt out of the cache took none."""
_EVALUATED: Final = re.compile(r"prompt eval time =\s*([\d.]+) ms /\s*(\d+) tokens")
_REUSED: Final = re.compile(r"Llama\.generate: (?:(\d+) prefix-match hit, remaining (\d+)|full prompt already cached)")


def agrees_with_the_log(scene: Scene, tally: Tally) -> None:
    """Probe the same target again and again: TTFT is the server's own time, and no prompt comes from its cache."""
    print("the model server's log", flush=True)
    before = len(scene.server.log())
    _, results, _ = attempt_probe(scene, scene.server.url, "--model", MODEL, "--count", str(PROBES))
    log = scene.server.log()[before:]
    _time_agrees(tally, results, log)
    shares = evaluated_shares(log)
    tally.expect(
        f"{LLAMA}: nearly the whole prompt is evaluated each time",
        met=len(shares) == PROBES and min(shares) >= EVALUATED_SHARE,
        detail=_told(shares),
    )
    _a_hit_would_be_seen(scene, tally, results)


def evaluated_shares(log: str) -> list[float]:
    """Return which part of each prompt was evaluated, the rest came from the cache; in the order of the log."""
    pairs = [(int(found[1] or 1), int(found[2] or 0)) for found in _REUSED.finditer(log)]
    return [evaluated / (reused + evaluated) for reused, evaluated in pairs]


def _time_agrees(tally: Tally, results: list[dict[str, Any]], log: str) -> None:
    own = [float(found[1]) / 1e3 for found in _EVALUATED.finditer(log)]
    measured = [r["ttft_seconds"] - r["rtt_seconds"] for r in results if r["outcome"] == "ok"]
    whole = len(own) == len(measured) == PROBES
    ratio = median(ours / max(its, _LEAST) for ours, its in zip(measured, own, strict=True)) if whole else 0.0
    tally.expect(
        f"{LLAMA}: TTFT less the round trip agrees with the server's own log",
        met=RATIO_LOW <= ratio <= RATIO_HIGH,
        detail=f"{median(own) * 1e3:.1f} ms by its log, ratio {ratio:.2f}" if whole else f"{len(own)} in the log",
    )


def _a_hit_would_be_seen(scene: Scene, tally: Tally, results: list[dict[str, Any]]) -> None:
    """Send one prompt again and again, as no probe does: the log and the time tell it (the least: noise only adds)."""
    request, _ = witness.capture(scene.lab, (AGENT, "probe", "{url}/v1", "--model", MODEL, "--json"))
    before = len(scene.server.log())
    _, *repeated = (witness.ttft_seconds(port=scene.server.port, request=request) for _ in range(PROBES))
    shares = evaluated_shares(scene.server.log()[before:])[1:]
    met = len(shares) == len(repeated) and max(shares) <= HIT_SHARE
    tally.expect(f"{LLAMA}: the same prompt again is a cache hit in the log", met=met, detail=_told(shares))
    ours = [r["ttft_seconds"] for r in results[1:] if r["ttft_seconds"] is not None]
    ratio = min(ours, default=0.0) / min(repeated)
    tally.expect(f"{LLAMA}: no probe's TTFT is a hit's", met=ratio >= HIT_RATIO, detail=f"{ratio:.1f} times as long")


def _told(shares: list[float]) -> str:
    return ", ".join(f"{share:.0%}" for share in shares) + " evaluated"
