"""Every error of the HTTP interface, in one table, as application/problem+json (RFC 9457)."""

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from collector.errors import (
    ClockWrong,
    ConfirmationNeeded,
    DatabaseUnavailable,
    DatabaseUnfit,
    Refused,
    SchemaBehind,
    TargetsRefused,
)
from isochrone.names import printable

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 5
"""After this long a database that was restarted serves again; agents add jitter of their own."""

PROBLEMS: Final[Mapping[str, tuple[int, str]]] = {
    "malformed": (400, "The body cannot be read"),
    "unauthorized": (401, "No valid token"),
    "revoked": (403, "The token was revoked"),
    "forbidden": (403, "The token is not good for this"),
    "not_found": (404, "There is nothing at this address"),
    "method_not_allowed": (405, "This address does not know the method"),
    "timeout": (408, "The body came too slowly"),
    "no_targets": (409, "The collector was started without a target file"),
    "name_taken": (409, "An agent of that name exists"),
    "key_taken": (409, "The key id is in use, or the agent has too many"),
    "confirmation_needed": (409, "The target file takes most away; the old targets stay"),
    "too_large": (413, "The body is too large"),
    "unsupported": (415, "The body's type or encoding is not supported"),
    "invalid": (422, "The request breaks the contract"),
    "unknown_name": (422, "There is nothing of that name"),
    "targets_refused": (422, "The target file has problems; the old targets stay"),
    "too_much": (422, "Too much to read at once"),
    "too_fast": (429, "Too many batches of one agent"),
    "too_many_failures": (429, "Too many wrong tokens"),
    "internal": (500, "A fault of the collector"),
    "busy": (503, "Too much at once"),
    "full": (503, "The database has reached its bound"),
    "unavailable": (503, "The database does not serve"),
    "not_ready": (503, "The collector is not ready"),
}

_BY_STATUS: Final = {404: "not_found", 405: "method_not_allowed"}
_RETRY: Final = frozenset({"busy", "full", "too_fast", "too_many_failures", "unavailable", "not_ready"})

_log = logging.getLogger(__name__)


def problem(kind: str, detail: str, *, retry_after_seconds: float | None = None, **more: object) -> Response:
    """Return the answer of a kind of the table; `detail` is for a person and holds nothing secret."""
    status, title = PROBLEMS[kind]
    body = {"type": f"urn:isochrone:problem:{kind}", "title": title, "status": status, "detail": detail, **more}
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if kind in _RETRY:
        headers["Retry-After"] = str(
            math.ceil(RETRY_AFTER_SECONDS if retry_after_seconds is None else retry_after_seconds)
        )
    if kind == "timeout":
        headers["Connection"] = "close"
    return Response(msgspec.json.encode(body), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def _told(request: Request, kind: str, detail: str, *, retry_after_seconds: float | None = None) -> Response:
    _count(request, kind)
    return problem(kind, detail, retry_after_seconds=retry_after_seconds)


def _count(request: Request, kind: str) -> None:
    request.app.state.context.metrics.count_refusal(kind)


def install(app: FastAPI) -> None:
    """Let every error of the app leave as a problem, counted by its kind."""
    app.state.context.metrics.expect_refusals(PROBLEMS)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(TargetsRefused, _targets_refused)
    app.add_exception_handler(ConfirmationNeeded, _confirmation)
    app.add_exception_handler(DatabaseUnavailable, _unavailable)
    app.add_exception_handler(SchemaBehind, _not_ready)
    app.add_exception_handler(DatabaseUnfit, _not_ready)
    app.add_exception_handler(ClockWrong, _not_ready)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _internal)


async def _refused(request: Request, exc: Exception) -> Response:
    if not isinstance(exc, Refused):  # pragma: no cover
        return _told(request, "internal", str(exc))
    return _told(request, exc.kind, str(exc), retry_after_seconds=exc.retry_after_seconds)


async def _targets_refused(request: Request, exc: Exception) -> Response:
    problems = exc.problems if isinstance(exc, TargetsRefused) else ()
    _count(request, "targets_refused")
    return problem("targets_refused", str(exc), problems=problems)


async def _confirmation(request: Request, exc: Exception) -> Response:
    return _told(request, "confirmation_needed", f"{exc}, or here with POST /-/reload?confirm=true")


async def _unavailable(request: Request, exc: Exception) -> Response:
    _log.warning("%s %s: %s", request.method, request.url.path, exc)
    # The text may name hosts and users of the database: it is for the log.
    return _told(
        request, "unavailable", "The database does not serve at the moment. Nothing was stored: send it again."
    )


async def _not_ready(request: Request, exc: Exception) -> Response:
    return _told(request, "not_ready", str(exc))


async def _validation(request: Request, exc: Exception) -> Response:
    errors = exc.errors() if isinstance(exc, RequestValidationError) else ()
    places = ("/".join(str(part) for part in error["loc"]) + ": " + str(error["msg"]) for error in errors)
    return _told(request, "invalid", printable("; ".join(places), limit=500))


async def _http(request: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    kind = _BY_STATUS.get(status, "internal" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "malformed")
    return _told(request, kind, PROBLEMS[kind][1] + ".")


async def _internal(request: Request, exc: Exception) -> Response:
    # The server logs the traceback: the exception goes on to it behind this answer.
    _log.error("%s %s failed: %s", request.method, request.url.path, type(exc).__name__)
    return _told(request, "internal", "The collector failed to answer; its log says why.")
