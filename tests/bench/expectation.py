"""One line of the bench's table: what was measured, what it is held against, and whether it holds."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A measurement beside its peer or limit, in the same unit."""

    bench: str
    what: str
    measured: float
    unit: str
    against: str = ""
    """The peer's or limit's name."""
    reference: float | None = None
    """The peer's measurement or the limit itself; None: the measurement stands for the record."""
    at_least: float | None = None
    """Smallest good ratio of `measured` to `reference`; None: no lower bound."""
    at_most: float | None = None
    """Largest good ratio."""

    @property
    def ratio(self) -> float | None:
        """Return measured / reference."""
        return None if self.reference is None else self.measured / self.reference

    @property
    def met(self) -> bool:
        """Tell whether the ratio lies within its bounds; without a reference it always does."""
        if self.ratio is None:
            return True
        return (self.at_least is None or self.ratio >= self.at_least) and (
            self.at_most is None or self.ratio <= self.at_most
        )

    @property
    def verdict(self) -> str:
        """Return the word for the table."""
        if self.ratio is None or (self.at_least is None and self.at_most is None):
            return "for the record"
        return "as expected" if self.met else "below expectation"

    def fields(self) -> dict[str, object]:
        """Return everything for `--json`."""
        return {**asdict(self), "ratio": self.ratio, "met": self.met, "verdict": self.verdict}
