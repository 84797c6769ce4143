"""Between which counts a binomial variable lies, all but surely. Pure."""

from math import exp, lgamma, log, log1p
from typing import Final

ALMOST_NEVER: Final = 1e-6
"""Chance that a right count falls outside, on each side: a bench of a hundred counts errs once in 5,000 runs."""


def touched(loss: float, *, packets: int) -> float:
    """Return the chance that one of `packets` is lost when each is with the chance `loss`."""
    return 1.0 - (1.0 - loss) ** packets


def bounds(trials: int, chance: float, *, almost_never: float = ALMOST_NEVER) -> tuple[int, int]:
    """Return the least and the greatest count that are not almost impossible."""
    weights = [_probability(trials, count, chance) for count in range(trials + 1)]
    return _first_above(weights, almost_never), trials - _first_above(weights[::-1], almost_never)


def _first_above(weights: list[float], limit: float) -> int:
    total = 0.0
    for place, weight in enumerate(weights):
        total += weight
        if total > limit:
            return place
    return len(weights) - 1


def _probability(trials: int, count: int, chance: float) -> float:
    if chance in (0.0, 1.0):
        return float(count == trials * chance)
    ways = lgamma(trials + 1) - lgamma(count + 1) - lgamma(trials - count + 1)
    return exp(ways + count * log(chance) + (trials - count) * log1p(-chance))
