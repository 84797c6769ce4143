"""What must not be shown is found in every form in which it comes back, and its likes are too."""

import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.redaction import fault_words, pattern_of, without

KEY = 'canary/+"word"\\%end'
ESCAPES = {
    "as it is": lambda text: text,
    "URL": lambda text: quote(text, safe=""),
    "URL twice": lambda text: quote(quote(text, safe=""), safe=""),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON twice": lambda text: json.dumps(json.dumps(text)),
    "JSON with \\/": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON by code": lambda text: "".join(c if c.isalnum() else f"\\u{ord(c):04X}" for c in text),
    "bytes": lambda text: repr(text.encode()),
    "bytes of JSON": lambda text: repr(json.dumps(text).encode()),
    "upper case": str.upper,
}


@pytest.mark.parametrize("name", ESCAPES)
def test_a_key_is_found_in_every_form(name: str) -> None:
    words = ESCAPES[name](f"before {KEY} after")
    cleaned = without([KEY], words)
    assert "word" not in cleaned.lower()
    assert "canary" not in cleaned.lower()
    assert "before" in cleaned.lower()
    assert "after" in cleaned.lower()


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40), st.sampled_from([*ESCAPES])
)
def test_no_key_is_left_whatever_it_holds(key: str, name: str) -> None:
    pattern = pattern_of([key])
    assert pattern is not None
    assert pattern.search(ESCAPES[name](key))


@pytest.mark.parametrize("like", ["sk-proj-0123456789abcdef", "isoe_0123_" + "x" * 20, "Bearer abcdefgh.ijkl"])
def test_what_has_the_form_of_a_secret_is_hidden_unknown(like: str) -> None:
    assert without([], f"wrong key {like} given") == "wrong key *** given"


def test_ordinary_words_stay() -> None:
    assert without(["", KEY], "is the key right? risk-averse task-force") == "is the key right? risk-averse task-force"


def test_a_flood_of_backslashes_costs_no_time() -> None:
    began = time.monotonic()
    without(['\\"\\"\\"\\"', "\\\\\\\\"], "\\" * 8_192 + "%" * 8_192)
    assert time.monotonic() - began < 5


def test_a_fault_is_told_without_its_text() -> None:
    with pytest.raises(ValueError, match="canary") as raised:
        int(KEY)
    words = fault_words(raised.value)
    assert words.startswith("ValueError < test_redaction.py:")
    assert "canary" not in words
