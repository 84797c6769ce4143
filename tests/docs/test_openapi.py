"""`/openapi.json` and `/docs`: every call with true examples of what is sent, answered and refused, offline."""

import re
from importlib.resources import files
from typing import Any

import msgspec
import pytest

from collector.api.calls import CALLS, examples
from collector.api.problems import PROBLEMS
from collector.app import create_app
from collector.config import Settings
from isochrone.config import decode_agent_config
from tests.docs.test_http_reference import app_routes, table, words

NOT_TOLD = {"GET /", "GET /docs", "GET /openapi.json"}
"""For people, or the description itself."""


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    description: dict[str, Any] = create_app(Settings(database_url="postgresql://nobody@127.0.0.1:1/none")).openapi()
    return {
        f"{method.upper()} {path}": call
        for path, calls in description["paths"].items()
        for method, call in calls.items()
    }


def test_every_call_is_described(told: dict[str, Any]) -> None:
    assert set(told) == set(CALLS) == set(examples()) == set(app_routes()) - NOT_TOLD


def test_who_may_and_the_statuses_are_those_of_the_reference(told: dict[str, Any]) -> None:
    for cells in table("Routes"):
        call = cells[0].strip("`")
        if call in told:
            assert CALLS[call].who == cells[1]
            assert sorted({*cells[3].split(", "), "500"}) == sorted(told[call]["responses"]), call


def test_every_answer_has_an_example(told: dict[str, Any]) -> None:
    for name, call in told.items():
        for status, answer in call["responses"].items():
            if status != "304":
                (content,) = answer["content"].values()
                assert content.get("example") or content["examples"], (name, status)
        assert all("example" in parameter for parameter in call.get("parameters", ())), name


@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if call.answer or call.request])
def test_the_examples_are_what_the_collector_reads_and_writes(name: str) -> None:
    call, example = CALLS[name], examples()[name]
    for kind, part in ((call.request, "request"), (call.answer, "answer")):
        if kind is not None:
            value = msgspec.json.decode(msgspec.json.encode(example[part]), type=kind)
            assert set(example[part]) <= {field.encode_name for field in msgspec.structs.fields(kind)}
            assert msgspec.json.encode(value)


def test_the_example_of_a_configuration_is_one() -> None:
    told = examples()["GET /v1/agent/config"]["answer"]
    assert decode_agent_config(msgspec.json.encode(told)).targets[0].endpoint == told["targets"][0]["endpoint"]


def test_the_rows_of_examples_have_every_field_of_the_reference() -> None:
    told = examples()
    (result,) = told["GET /v1/results"]["answer"]["results"]
    queries = set(words("GET /v1/results")) - set(result)
    assert queries <= set(told["GET /v1/results"]["parameters"]) | {"next_before", "next_after", "limit"}
    (row,) = told["GET /v1/summary"]["answer"]["rows"]
    assert set(words("GET /v1/summary")) - {"window_seconds", "as_of", "rows"} == set(row)


def test_the_problems_are_examples_of_their_own_kind(told: dict[str, Any]) -> None:
    for call in told.values():
        for status, answer in call["responses"].items():
            for kind, example in (
                answer.get("content", {}).get("application/problem+json", {"examples": {}})["examples"].items()
            ):
                assert (str(example["value"]["status"]), PROBLEMS[kind][1]) == (status, example["value"]["title"])


def test_the_page_asks_nobody_but_the_collector() -> None:
    page = files("collector.api").joinpath("docs.html").read_text(encoding="utf-8")
    assert re.findall(r"(?:src|href)=\"(?!/|data:)|https?://|@import", page) == []
    assert 'fetch("/openapi.json")' in page
