"""`docs/reference/providers.md` names every provider, and the ending that each stream must have."""

import re
from pathlib import Path

from agent.providers import PROVIDERS
from isochrone.config import Provider

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "providers.md"
ROWS = {
    row[0].strip(" `"): row[-1].replace("`", "").strip()
    for row in (line.strip("|").split("|") for line in re.findall(r"^\| `.*$", PAGE.read_text("utf-8"), re.MULTILINE))
}


def test_every_provider_has_its_row_and_there_is_no_other() -> None:
    assert list(ROWS) == [
        *("openai", "openai-completions", "openai-responses", "anthropic", "gemini", "azure-openai", "bedrock"),
        *("ollama", "cohere", "tgi", "triton"),
    ]
    assert set(ROWS) == {provider.value for provider in Provider}


def test_the_ending_is_that_of_the_code() -> None:
    told = {provider.value: wire.ending for provider, wire in PROVIDERS.items()}
    assert {name: ROWS[name] for name, ending in told.items() if ending is not None} == {
        name: ending for name, ending in told.items() if ending is not None
    }
    assert [name for name, ending in told.items() if ending is None] == ["triton"]
