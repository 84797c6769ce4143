"""What OpenAI's models want, by their names: which bound they know, and how to keep them from thinking."""

import re
from typing import Final

_REASONING: Final = re.compile(r"^(?:o[1-9]|gpt-[5-9])(?:$|[-.:])")
"""Models that refuse `max_tokens`; compatible servers know no other name."""
_EFFORT_MINIMAL: Final = re.compile(r"^gpt-5(?:$|-mini|-nano|-20)")
"""Models of the first gpt-5 series; the later ones can do without."""
_EFFORT_NONE: Final = re.compile(r"^gpt-5\.[1-9](?:$|-20|-mini|-nano)")


def is_reasoning(model: str) -> bool:
    """Return whether the model thinks before it answers; a gateway's prefix (`openai/`) does not matter."""
    return _REASONING.match(_bare(model)) is not None


def effort(model: str) -> str | None:
    """Return the least effort that the model takes; None where none may be asked."""
    name = _bare(model)
    if _EFFORT_MINIMAL.match(name):
        return "minimal"
    return "none" if _EFFORT_NONE.match(name) else None


def _bare(model: str) -> str:
    return model.rpartition("/")[2]
