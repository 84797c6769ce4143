"""One file per subcommand of `isochrone-agent`; each adds its parser and runs. Cheap to import."""
