"""What a client takes, by its Accept headers (RFC 9110 12.5). Pure."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

OPENMETRICS = "application/openmetrics-text"


class Offer(NamedTuple):
    """One element of a header: what, with its parameters, and how much it is wanted, from 0 to 1."""

    what: str
    parameters: Mapping[str, str]
    weight: float


def wants_openmetrics(accept: str) -> bool:
    """Tell whether OpenMetrics 1.0 is wanted at least as much as the text format.

    Only by name: who takes anything gets what every reader of metrics understands.
    """
    offers = list(_offers(accept))
    openmetrics = [
        offer.weight
        for offer in offers
        if offer.what == OPENMETRICS and offer.parameters.get("version", "1.0.0") == "1.0.0"
    ]
    text = [offer.weight for offer in offers if offer.what == "text/plain"]
    return max(openmetrics, default=0.0) > 0 and max(openmetrics) >= max(text, default=0.0)


def takes_gzip(accept_encoding: str) -> bool:
    """Tell whether gzip is taken."""
    weights = {offer.what: offer.weight for offer in _offers(accept_encoding)}
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _offers(header: str) -> Iterator[Offer]:
    for element in header.split(","):
        what, *rest = (part.strip().lower() for part in element.split(";"))
        parameters = {name.strip(): value.strip(' "') for name, _, value in (part.partition("=") for part in rest)}
        yield Offer(what, parameters, _weight(parameters.get("q", "1")))


def _weight(text: str) -> float:
    """Return the weight; 0 for what is none."""
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
