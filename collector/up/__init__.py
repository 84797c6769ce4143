"""`isochrone-collector up`: everything on one machine, by one command, until Ctrl-C.

Data go one way here too: `data` (files) and `demo` (targets) -> `programs` (what is run) -> `stack` (in which order)
-> `session` (until when, and what is shown).
"""

from collector.up.session import add_parser, up
from collector.up.stack import Options

__all__ = ["Options", "add_parser", "up"]
