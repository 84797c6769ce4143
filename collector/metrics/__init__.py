"""The live metrics: counted at ingest, kept in memory, written as Prometheus text. A scrape touches nothing else."""

from collector.metrics.feeding import limits_of
from collector.metrics.live import LiveMetrics

__all__ = ["LiveMetrics", "limits_of"]
