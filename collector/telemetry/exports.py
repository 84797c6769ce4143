"""All exports of a collector together. Without a receiver there is none, and it costs nothing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from collector.errors import SettingsError
from collector.ingest import Ingested
from collector.metrics.families import ExportFamilies
from collector.receivers import Receivers
from collector.registry import Registry
from collector.telemetry.exporter import Clock, Exporter
from collector.telemetry.facts import Known, Origin, facts_of

GRACE_SECONDS: Final = 3.0
"""For what waits when the collector is told to stop."""


class Exports:
    """Hands what was stored to every exporter."""

    def __init__(self, exporters: Sequence[Exporter] = ()) -> None:
        self.exporters = tuple(exporters)
        self._known = Known()

    def sync(self, registry: Registry) -> None:
        """Take over what the registry says of targets and endpoints."""
        targets = {target.id: target for target in registry.rows.targets}
        self._known = Known(targets=targets, endpoints=registry.endpoints)

    def take(self, done: Ingested, origin: Origin) -> None:
        """Take over a batch after its commit; never waits. A repeat brings nothing."""
        if not self.exporters:
            return
        brought = facts_of(done, origin, self._known)
        for exporter in self.exporters:
            exporter.offer(brought.facts, brought.skipped)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send in the background until the block ends; then give what waits a few seconds."""
        tasks = [asyncio.create_task(one.run(), name=f"export {one.name}") for one in self.exporters]
        try:
            yield
        finally:
            await self._end(tasks)

    async def _end(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for exporter in self.exporters:
            exporter.stop()
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(exporter.close() for exporter in self.exporters))


def open_exports(receivers: Receivers, *, clock: Clock, families: ExportFamilies) -> Exports:
    """Return what the settings ask for; raise SettingsError, also when the extra is not installed."""
    if receivers.otlp is None and receivers.remote_write is None:
        return Exports()
    try:
        from collector.telemetry.building import build  # noqa: PLC0415  optional: the extra `telemetry`
    except ModuleNotFoundError as exc:
        raise SettingsError(
            f"exports need more than is installed ({exc.name}): pip install 'isochrone[collector,telemetry]', or unset"
            " ISOCHRONE_OTLP_URL and ISOCHRONE_REMOTE_WRITE_URL"
        ) from exc
    return Exports(build(receivers, clock=clock, families=families))
