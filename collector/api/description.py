"""GET /docs and what `/openapi.json` says: every call with an example of each answer, readable without a network."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

import msgspec
from fastapi import APIRouter, FastAPI, Response
from fastapi.openapi.utils import get_openapi

from collector.api.calls import CALLS, Call, examples
from collector.api.page import SAFETY
from collector.api.problems import MEDIA_TYPE, PROBLEMS

router = APIRouter(include_in_schema=False)

Json = dict[str, Any]
"""Any: a piece of JSON."""

_COMPONENT: Final = "#/components/schemas/{name}"
_SCHEMES: Final[Mapping[str, str]] = {
    "agent": "The token in an agent's credential file, isoa_…",
    "join token": "A join token, isoe_…",
    "reader": "A token with the scope read, or that of ISOCHRONE_READ_TOKEN_FILE; none where reading is open",
    "administrator": "A token with the scope admin; where there is none, as reader",
}
_PROBLEM: Final[Json] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "enum": [f"urn:isochrone:problem:{kind}" for kind in PROBLEMS]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}


@router.get("/docs")
async def get_docs() -> Response:
    """Return the page; its script draws /openapi.json."""
    html = files("collector.api").joinpath("docs.html").read_bytes()
    return Response(html, media_type="text/html", headers=SAFETY)


def install(app: FastAPI) -> None:
    """Let the app describe itself with examples, made when first asked for."""

    def openapi() -> Json:
        if app.openapi_schema is None:
            plain = get_openapi(title=app.title, version=app.version, routes=app.routes)
            app.openapi_schema = described(plain)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def described(plain: Json) -> Json:
    """Return FastAPI's description with who may, what is answered, and examples. Pure."""
    types = [kind for call in CALLS.values() for kind in (call.request, call.answer) if kind is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template=_COMPONENT)
    schema_of = dict(zip(types, schemas, strict=True))
    told = examples()
    for path, operations in plain["paths"].items():
        for method, operation in operations.items():
            name = f"{method.upper()} {path}"
            _describe(operation, CALLS[name], told[name], schema_of=schema_of)
    schemes = {name.replace(" ", "_"): {"type": "http", "scheme": "bearer", "description": words}
               for name, words in _SCHEMES.items()}  # fmt: skip
    plain["components"] = {"schemas": {"Problem": _PROBLEM, **components}, "securitySchemes": schemes}
    return plain


def _describe(operation: Json, call: Call, example: Json, *, schema_of: Mapping[type, Json]) -> None:
    for parameter in operation.get("parameters", ()):
        parameter["example"] = example["parameters"][parameter["name"]]
    if "request" in example:
        schema = {} if call.request is None else schema_of[call.request]
        body = {"schema": schema, "example": example["request"]}
        operation["requestBody"] = {"required": True, "content": {call.request_media_type: body}}
    schema = {} if call.answer is None else schema_of[call.answer]
    good = {"description": "Good", "content": {call.media_type: {"schema": schema, "example": example["answer"]}}}
    other = {str(status): {"description": words} for status, words in call.more.items()}
    operation["responses"] = {"200": good, **other, **_problems(call.problems)}
    if call.who != "anybody":
        operation["security"] = [{call.who.replace(" ", "_"): []}]


def _problems(kinds: tuple[str, ...]) -> Json:
    """Return the answers by status; several kinds of one status are examples of one answer."""
    found: Json = {}
    for kind, (status, title) in PROBLEMS.items():
        if kind not in (*kinds, "internal"):
            continue
        value = {"type": f"urn:isochrone:problem:{kind}", "title": title, "status": status, "detail": title + "."}
        content = {"schema": {"$ref": _COMPONENT.format(name="Problem")}, "examples": {}}
        answer = found.setdefault(str(status), {"description": title, "content": {MEDIA_TYPE: content}})
        answer["content"][MEDIA_TYPE]["examples"][kind] = {"summary": title, "value": value}
    return found
