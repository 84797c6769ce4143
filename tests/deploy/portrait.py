"""`make picture`: let a planet of simulated endpoints be measured for some minutes, and draw its Overview.

Two things go wrong on the way, so that the picture shows what that looks like. It takes six minutes, and a machine
with nothing else to do: the rules' times are shortened as in the tests, and then every hiccup is a regression.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from agent.simulator import Scenario, Script, Simulator
from deploy.grafana.picture.__main__ import OVERVIEW, SETTLED, picture_of
from deploy.grafana.picture.asking import Span
from isochrone.config import Duration, Location, Region
from tests.deploy.planet import Living, Planet, Stand, living
from tests.postgres import TEMPLATE, running_postgres
from tests.system.ways import LOOPBACK

TARGET = Path(__file__).parents[2] / "docs" / "images" / "overview.svg"
TOKENS = 16
QUIET_SECONDS = 250
FAILING_SECONDS = 12
WRONG_SECONDS = 25
SLOWER_SECONDS = 0.09
PLANET = Planet(
    regions=(
        Region(name="eu-central", latitude=50.1, longitude=8.7, country="DE", weight=0.3),
        Region(name="us-west", latitude=37.4, longitude=-122.1, country="US", weight=0.25),
        Region(name="brazil", latitude=-23.5, longitude=-46.6, country="BR", weight=0.15),
        Region(name="india", latitude=19.1, longitude=72.9, country="IN", weight=0.2),
        Region(name="australia", latitude=-33.9, longitude=151.2, country="AU", weight=0.1),
    ),
    stands=(
        Stand(
            name="virginia", model="swift-mini", location=Location(region="us-east", latitude=38.95, longitude=-77.45),
            scenario=Scenario(ttft=Duration(0.24), tpot=Duration(0.012), tokens=TOKENS, jitter=0.15),
            detours={"india": 2.5},
        ),
        Stand(
            name="dublin", model="swift-mini", location=Location(region="eu-west", latitude=53.35, longitude=-6.26),
            scenario=Scenario(ttft=Duration(0.29), tpot=Duration(0.014), tokens=TOKENS, jitter=0.15),
            detours={"us-west": 1.5},
        ),
        Stand(
            name="tokyo", model="swift-mini", location=Location(region="ap-north", latitude=35.68, longitude=139.69),
            scenario=Scenario(ttft=Duration(0.33), tpot=Duration(0.02), tokens=TOKENS, jitter=0.2),
        ),
        Stand(
            name="oregon", model="deep-large", location=Location(region="us-west", latitude=45.84, longitude=-119.7),
            scenario=Scenario(ttft=Duration(1.1), tpot=Duration(0.08), tokens=TOKENS, jitter=0.2),
        ),
    ),
    rtt_seconds=2.0,
    chat_seconds=5.0,
    tokens=TOKENS,
)  # fmt: skip
SPAN_SECONDS = 300
RATE_SECONDS = 40


async def main() -> None:
    """Measure, and draw."""
    with running_postgres() as postgres, TemporaryDirectory(prefix="isochrone-portrait-") as folder:
        postgres.make_template()
        async with living(PLANET, Path(folder), postgres.new_database(TEMPLATE)) as world:
            await asyncio.sleep(QUIET_SECONDS)
            await go_wrong(world)
            TARGET.write_text(await asyncio.to_thread(picture, world), encoding="utf-8")


def picture(world: Living) -> str:
    """Return the Overview as it is now."""
    span = Span(until=datetime.now(UTC) - SETTLED, seconds=SPAN_SECONDS, rate_seconds=RATE_SECONDS)
    document = json.loads(OVERVIEW.read_text(encoding="utf-8"))
    return picture_of(document, f"http://{world.seen.prometheus}", span)


async def go_wrong(world: Living) -> None:
    """Let one way take longer from now on, and one endpoint fail for a while."""
    world.ways["dublin"].longer["eu-central"] += SLOWER_SECONDS
    oregon = world.ways["oregon"]
    broken = Simulator(Script(default=Scenario(status=503)))
    there, oregon.to = oregon.to, urlsplit(await broken.start(LOOPBACK, 0)).port or 0
    await asyncio.sleep(FAILING_SECONDS)
    oregon.to = there
    await asyncio.sleep(WRONG_SECONDS)
    await broken.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
