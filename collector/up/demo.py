"""What `up` probes without a target file: three simulated endpoints that stand near, far and overseas.

A handshake over loopback knows no distance. The simulator delays its answers by a scripted round trip, so round trips
are measured by the method `http` here, and every table says `simulated`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from isochrone.config import (
    Duration,
    Endpoint,
    InferenceOptions,
    Location,
    Module,
    Provider,
    Region,
    RttOptions,
    Targets,
)
from isochrone.outcome import Prober, RttMethod

AGENT_REGION: Final = "local"
OUTPUT_TOKENS: Final = 32


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """One scripted endpoint: what it pretends. Durations as the simulator's options read them."""

    name: str
    rtt: str
    ttft: str
    tpot: str
    region: str
    latitude: float
    longitude: float

    @property
    def script(self) -> tuple[str, ...]:
        """Return the simulator's options."""
        times = ("--rtt", self.rtt, "--ttft", self.ttft, "--tpot", self.tpot)
        return (*times, "--tokens", str(OUTPUT_TOKENS), "--jitter", "0.1")


HOME: Final = Region(name=AGENT_REGION, latitude=50.11, longitude=8.68)
"""Where the demo pretends to stand: Frankfurt. The round trips below are what one sees from there."""
ENDPOINTS: Final = (
    Simulated(name="near", rtt="8ms", ttft="180ms", tpot="12ms", region="eu-west", latitude=52.37, longitude=4.90),
    Simulated(name="far", rtt="95ms", ttft="260ms", tpot="18ms", region="us-east", latitude=39.04, longitude=-77.49),
    Simulated(
        name="overseas",
        rtt="240ms",
        ttft="420ms",
        tpot="30ms",
        region="ap-southeast",
        latitude=-33.87,
        longitude=151.21,
    ),
)
MODULES: Final = {
    "rtt": Module(
        prober=Prober.RTT,
        interval=Duration(5),
        timeout=Duration(4),
        rtt=RttOptions(method=RttMethod.HTTP, count=3),
    ),
    "chat": Module(
        prober=Prober.INFERENCE,
        interval=Duration(10),
        timeout=Duration(9),
        inference=InferenceOptions(
            max_output_tokens=OUTPUT_TOKENS, first_token_timeout=Duration(5), stall_timeout=Duration(3)
        ),
    ),
}


def demo_targets(ports: Mapping[str, int]) -> Targets:
    """Return the targets of the demo; `ports` tells where each simulator listens on loopback."""
    return Targets(
        modules=dict(MODULES),
        endpoints=tuple(_endpoint(simulated, ports[simulated.name]) for simulated in ENDPOINTS),
        regions=(HOME,),
    )


def _endpoint(simulated: Simulated, port: int) -> Endpoint:
    return Endpoint(
        name=simulated.name,
        url=f"http://127.0.0.1:{port}/v1",
        provider=Provider.OPENAI,
        model="simulated",
        modules=tuple(MODULES),
        location=Location(region=simulated.region, latitude=simulated.latitude, longitude=simulated.longitude),
        simulated=True,
    )
