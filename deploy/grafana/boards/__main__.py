"""`make dashboards`: write every dashboard to deploy/grafana/dashboards."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.boards import cost, endpoint, fleet, overview, placement, region, results, waiting
from deploy.grafana.boards.board import Board

FOLDER: Final = Path(__file__).resolve().parents[1] / "dashboards"
BOARDS: Final = (overview, waiting, region, endpoint, placement, results, fleet, cost)


def boards() -> tuple[Board, ...]:
    """Return all dashboards."""
    return tuple(module.board() for module in BOARDS)


def files() -> Mapping[str, str]:
    """Return what each file of the folder must hold."""
    encoder = JSONEncoder(indent=2, ensure_ascii=False)
    return {f"{board.uid}.json": encoder.encode(board.build()) + "\n" for board in boards()}


def main() -> None:
    """Write what is not there yet, and remove what no code makes."""
    made = files()
    for path in FOLDER.glob("*.json"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
