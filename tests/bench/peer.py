"""The path that most would write: FastAPI, pydantic, SQLAlchemy's insertmanyvalues. A peer for `make bench`.

It does less than the collector: no credential, no ledger, no refusal by name, no books, no metrics. Its models check
types and no bounds.
"""

import sys
import types
import typing
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import uvicorn
from fastapi import FastAPI, Request
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import create_async_engine

from collector import schema
from collector.registry import Registry
from collector.store.engine import admin_transaction, parse_url
from collector.store.registry import load_rows
from isochrone.batch import AgentStatus
from isochrone.result import Result

CODES = {
    "prober": schema.PROBERS,
    "outcome": schema.OUTCOMES,
    "clock_source": schema.CLOCK_SOURCES,
    "connection": schema.CONNECTIONS,
    "rtt_source": schema.RTT_SOURCES,
    "pings_method": schema.RTT_METHODS,
    "tokens_source": schema.TOKEN_SOURCES,
}
NESTED = ("marks", "components", "pings", "tokens", "server_timing")


def model_of(struct: type[msgspec.Struct]) -> Any:  # noqa: ANN401  made at run time
    """Return the pydantic model with the fields of a struct."""
    hints = typing.get_type_hints(struct)
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        default = ... if field.required else (None if field.default is msgspec.NODEFAULT else field.default)
        fields[field.name] = (_type_of(hints[field.name]), default if not isinstance(default, msgspec.Struct) else None)
    return pydantic.create_model(struct.__name__, **fields)


def _type_of(hint: Any) -> Any:  # noqa: ANN401  made at run time
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return model_of(hint) | None
    if isinstance(hint, types.UnionType):
        return typing.Union[tuple(_type_of(one) for one in typing.get_args(hint))]  # noqa: UP007  made at run time
    return hint


PeerResult = model_of(Result)
PeerBatch = pydantic.create_model(
    "PeerBatch",
    batch_id=(UUID, ...),
    boot_id=(UUID, ...),
    sent_at=(datetime, ...),
    sent_boottime_seconds=(float, ...),
    status=(model_of(AgentStatus), ...),
    results=(list[PeerResult], ...),
)


def create_app(database_url: str) -> FastAPI:
    """Return the app; every batch is the first agent's."""
    with admin_transaction(database_url) as connection:
        registry = Registry(load_rows(connection))
    agent = registry.rows.agents[0]
    targets = registry.known_targets(agent.id)
    engine = create_async_engine(parse_url(database_url), pool_size=8)
    app = FastAPI()

    @app.post("/v1/batches")
    async def post(request: Request) -> dict[str, int]:
        batch = PeerBatch.model_validate_json(zlib.decompress(await request.body(), 31))
        now = datetime.now(UTC)
        shared = {"received_at": now, "boot_id": batch.boot_id, "batch_id": batch.batch_id, "agent_id": agent.id}
        shared["agent_region_id"] = agent.region.id
        rows = []
        for result in batch.results:
            age = batch.sent_boottime_seconds - result.started_boottime_seconds
            target = targets[result.endpoint, result.module, None].target
            rows.append(
                {**_columns(result), **shared, "started_at": now - timedelta(seconds=age), "target_id": target.id}
            )
        async with engine.begin() as connection:
            await connection.execute(insert(schema.result).returning(schema.result.c.seq), rows)
        return {"accepted": len(rows)}

    return app


def _columns(result: Any) -> dict[str, object]:  # noqa: ANN401  made at run time
    row: dict[str, object] = {"started_at_agent": result.started_at, "flags": 0}
    for name, value in result:
        if name in NESTED:
            prefix = "" if name == "components" else f"{name}_"
            row.update((f"{prefix}{part}", content) for part, content in (value or ()))
        elif name not in {"started_at", "flags", "endpoint", "module", "config_revision"}:
            row[name] = value
    for name, words in CODES.items():
        word = row.get(name)
        row[name] = None if word is None else words.index(word) + 1  # type: ignore[arg-type]  # words of this column
    return {name: row.get(name) for name in schema.RESULT_COLUMNS}


if __name__ == "__main__":
    url, port = sys.argv[1:]
    uvicorn.run(create_app(url), host="127.0.0.1", port=int(port), log_level="warning", access_log=False)
