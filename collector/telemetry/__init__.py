"""Results for other backends: OTLP over HTTP and Prometheus remote write, each off until it is set.

Stored results go into a bounded queue (`exporter`), become bytes (`otlp`, `remotewrite`: pure) and are sent in the
background (`post`). Nothing here is waited for by those who bring results.
"""
