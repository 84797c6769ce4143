"""How a field is shown: unit and colours of a panel, and what overrides say of single columns."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.grafana.picture.canvas import INK

Steps = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Look:
    """Of one field."""

    unit: str = "short"
    decimals: int | None = None
    steps: Steps = ()
    fixed: str | None = None
    """A colour for every value."""
    is_colored: bool = False
    words: Mapping[str, str] | None = None
    """Colours of words."""

    def color(self, value: float, default: str = INK) -> str:
        """Return the colour of a value."""
        if self.fixed is not None:
            return self.fixed
        reached = [step["color"] for step in self.steps if step["value"] is None or value >= step["value"]]
        return str(reached[-1]) if reached else default


def look_of(panel: Mapping[str, Any], field: str = "", ref: str = "") -> Look:
    """Return how a field of a panel is shown."""
    defaults = panel["fieldConfig"]["defaults"]
    found: dict[str, Any] = {
        "unit": defaults["unit"],
        "decimals": defaults.get("decimals"),
        "steps": (defaults.get("thresholds") or {}).get("steps") or (),
    }
    for override in panel["fieldConfig"].get("overrides") or ():
        if _matches(override["matcher"], field, ref):
            for told in override["properties"]:
                found |= _told(told["id"], told["value"])
    return Look(**found)


def _matches(matcher: Mapping[str, Any], field: str, ref: str) -> bool:
    kind, options = matcher["id"], str(matcher.get("options"))
    if kind == "byRegexp":
        return re.fullmatch(options, field) is not None
    return {"byName": field, "byFrameRefID": ref}.get(kind) == options


def _told(name: str, value: Any) -> dict[str, Any]:  # noqa: ANN401  each property has its own kind of value
    if name == "unit":
        return {"unit": value}
    if name == "decimals":
        return {"decimals": value}
    if name == "thresholds":
        return {"steps": value["steps"], "is_colored": True}
    if name == "color" and value["mode"] == "fixed":
        return {"fixed": value["fixedColor"]}
    if name == "mappings":
        return {"words": {word: shown["color"] for one in value for word, shown in one["options"].items()}}
    return {}
