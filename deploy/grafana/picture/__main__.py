"""`python -m deploy.grafana.picture http://localhost:9090 > overview.svg`: the Overview out of any Prometheus."""

import argparse
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from deploy.grafana.picture.asking import Prometheus, Span
from deploy.grafana.picture.drawing import draw

SETTLED: Final = timedelta(seconds=5)
OVERVIEW: Final = Path(__file__).resolve().parents[1] / "dashboards" / "overview.json"


def picture_of(document: dict[str, Any], prometheus: str, span: Span) -> str:
    """Ask what the dashboard asks, and return its picture. Raises httpx.HTTPError."""
    server = Prometheus(prometheus, span)
    panels = [panel for panel in document["panels"] if panel["type"] != "row"]
    answers = {panel["id"]: [server.ask(target) for target in panel["targets"]] for panel in panels}
    return draw(document, answers, span)


def main() -> None:
    """Draw to standard output."""
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana.picture", description=__doc__)
    parser.add_argument("prometheus", help="address of a Prometheus that scrapes a collector")
    parser.add_argument("--minutes", type=int, default=60, help="how much time is shown")
    given = parser.parse_args()
    # What is being scraped at this moment is in one answer and not in the next.
    span = Span(until=datetime.now(UTC) - SETTLED, seconds=60 * given.minutes)
    document = json.loads(OVERVIEW.read_text(encoding="utf-8"))
    sys.stdout.write(picture_of(document, given.prometheus, span))


if __name__ == "__main__":
    main()
