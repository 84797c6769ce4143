"""The collector: takes batches in, keeps them in Postgres, exposes metrics. Wired in `collector.app`."""
