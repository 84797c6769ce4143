"""The HTTP interface: one file per resource, every error from one table (problems.py)."""

from fastapi import FastAPI

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
    for resource in RESOURCES:
        app.include_router(resource.router)
    problems.install(app)
    description.install(app)
