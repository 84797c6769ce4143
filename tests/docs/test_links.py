"""Every relative link of a page leads to a file, and to a heading where it names one."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", flags=re.MULTILINE | re.DOTALL)
_FOREIGN = ("http://", "https://", "mailto:")
_SKIPPED = {"node_modules", "build", "dist"}


def pages() -> list[Path]:
    """Return every Markdown file of the tree, those in hidden folders (environments, caches) left out."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    return sorted(p for p in found if not any(part.startswith(".") or part in _SKIPPED for part in p.parts))


@cache
def text_of(path: Path) -> str:
    return FENCE.sub("", path.read_text(encoding="utf-8"))


@cache
def anchors(path: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text_of(path), flags=re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    found = []
    for link in LINK.findall(text_of(page)):
        if link.startswith(_FOREIGN):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", pages(), ids=str)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert broken(ROOT / page) == []


def test_a_link_to_a_missing_file_or_heading_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One\n[a](page.md#one) [b](#two) [c](gone.md) [d](https://example.org)\n", encoding="utf-8")
    assert broken(page) == ["#two", "gone.md"]


def test_every_page_of_the_documentation_can_be_reached_from_its_index() -> None:
    reached, waiting = set[Path](), [ROOT / "docs" / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            links = (link.partition("#")[0] for link in LINK.findall(text_of(page)) if not link.startswith(_FOREIGN))
            waiting += [(page.parent / link).resolve() for link in links if link.endswith(".md")]
    assert {ROOT / page for page in pages() if page.parts[0] == "docs"} <= reached
