"""What the settings ask for, built. It needs the extra `telemetry`: import it when a receiver is set."""

from importlib.metadata import version
from pathlib import Path

from collector.metrics.families import ExportFamilies
from collector.receivers import Receiver, Receivers
from collector.telemetry.answers import Dialect
from collector.telemetry.exporter import Clock, Exporter
from collector.telemetry.otlp import Otlp
from collector.telemetry.post import HttpDoor
from collector.telemetry.remotewrite import RemoteWriteDialect


def build(receivers: Receivers, *, clock: Clock, families: ExportFamilies) -> list[Exporter]:
    """Return an exporter for each receiver; raise SettingsError."""
    wanted: list[tuple[Dialect, Receiver]] = []
    if receivers.otlp is not None:
        wanted.append((Otlp(version("isochrone")), receivers.otlp))
    if receivers.remote_write is not None:
        wanted.append((RemoteWriteDialect(receivers.remote_write), receivers.remote_write.receiver))
    return [
        Exporter(
            dialect,
            _door(receiver, dialect, receivers.ca_file),
            clock=clock,
            families=families,
            limit=receivers.queue_results,
        )
        for dialect, receiver in wanted
    ]


def _door(receiver: Receiver, dialect: Dialect, ca_file: Path | None) -> HttpDoor:
    return HttpDoor(receiver, dialect.headers, ca_file=ca_file)
