"""The HTTP interface: one file per resource, every error from one table (problems.py)."""

from fastapi import FastAPI
from starlette.routing import Route

from collector.api import (
    agent_config,
    agents,
    batches,
    description,
    endpoints,
    enrolment,
    exports,
    health,
    metrics,
    page,
    problems,
    reload,
    results,
    series,
    summary,
)

RESOURCES = (
    batches,
    agent_config,
    enrolment,
    agents,
    endpoints,
    summary,
    series,
    results,
    exports,
    health,
    metrics,
    reload,
    page,
    description,
)


def install(app: FastAPI) -> None:
    """Give the app all routes and all errors."""
    # In front of FastAPI's own route of that address, which tells /docs of it.
    app.router.routes.insert(0, Route("/v1/batches", batches.receive, methods=["POST"]))
    for resource in RESOURCES:
        app.include_router(resource.router)
    problems.install(app)
    description.install(app)
