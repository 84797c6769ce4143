"""Groups of commands that are too long for `collector.cli`."""
