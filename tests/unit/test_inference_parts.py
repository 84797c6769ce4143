"""What a result is put together of: components that make up the duration, and words without secrets."""

import json
from urllib.parse import quote

import pytest

from agent.probes.inference import add_up, without
from isochrone.marks import Components

PARTS = Components(network_seconds=0.1, model_seconds=0.2, streaming_seconds=0.3)


@pytest.mark.parametrize(
    ("duration_seconds", "expected"), [(0.6, True), (0.6 + 1e-12, True), (0.601, False), (0.0003, False), (None, False)]
)
def test_parts_that_do_not_make_up_the_duration_are_noticed(duration_seconds: float | None, *, expected: bool) -> None:
    assert add_up(PARTS, duration_seconds) is expected


SECRET = 'sk/a+b="c\\d'


@pytest.mark.parametrize(
    "form",
    [SECRET, SECRET.upper(), quote(SECRET, safe=""), quote(SECRET, safe="").lower(), json.dumps(SECRET), repr(SECRET)],
)
def test_a_secret_is_hidden_in_every_form_that_words_give_it(form: str) -> None:
    hidden = without(["", SECRET, "sk"], f"bad key {form}, said the server")
    assert hidden.replace('"', "").replace("'", "") == "bad key ***, said the server"


def test_nothing_hidden_leaves_the_words_as_they_are() -> None:
    assert without([], "a.b*c") == without(["x"], "a.b*c") == "a.b*c"
