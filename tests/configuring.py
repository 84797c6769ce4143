"""What tests of the configuration share: an agent's poller on a scripted collector, and a clock without waiting."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.push import ConfigCache, ConfigPoller
from agent.transport import CollectorClient
from isochrone.config import AgentConfig, Assignment, Duration, Module, RttOptions, encode_config
from isochrone.outcome import Outcome, Prober
from tests.delivery import TOKEN, Patience, impatient
from tests.scripted_http import Answer, Reply, Request, serving


def config(revision: int, *names: str, interval: float = 30) -> AgentConfig:
    """Return a share with a target of each name."""
    options = Module(prober=Prober.RTT, interval=Duration(interval), timeout=Duration(5), rtt=RttOptions())
    targets = tuple(
        Assignment(endpoint=name, module="rtt", url="http://127.0.0.1:9/", options=options) for name in names
    )
    return AgentConfig(revision=revision, agent="a", agent_region="eu", targets=targets)


class Giver:
    """Gives a configuration as the real collector does; `faults` are answered first."""

    def __init__(self, given: AgentConfig | bytes) -> None:
        self.given = given
        self.revision = 1
        self.faults: list[Reply] = []
        self.requests: list[Request] = []
        self.bodies = 0

    def give(self, given: AgentConfig | bytes, revision: int) -> None:
        """Have something new from now on."""
        self.given, self.revision = given, revision

    @property
    def etag(self) -> str:
        """The tag of what is given now."""
        return f'"{self.revision}-{"0" * 16}"'

    def __call__(self, request: Request) -> Reply:
        """Answer one request."""
        self.requests.append(request)
        if self.faults:
            return self.faults.pop(0)
        tags = request.headers.get("if-none-match", "").split(", ")
        if self.etag in tags:
            return Reply(status=304, headers={"etag": self.etag})
        self.bodies += 1
        body = self.given if isinstance(self.given, bytes) else encode_config(self.given)
        return Reply(body=body, headers={"etag": self.etag})


@dataclass(frozen=True, kw_only=True)
class Polled:
    """A poller, what it put in force, and the time that it believes in."""

    poller: ConfigPoller
    applied: list[AgentConfig]
    patience: Patience

    def probes(self, outcome: Outcome, count: int = 3) -> None:
        """Let so many probes end."""
        for _ in range(count):
            self.poller.ran(outcome, self.poller.state.running)

    async def after_probation(self) -> None:
        """Let the probation's time pass."""
        self.patience.clock.moved += 601
        await self.poller.review()


@asynccontextmanager
async def polled(folder: Path, answer: Answer) -> AsyncIterator[Polled]:
    """Give an agent's poller as it is after a start of the process."""
    timing, patience = impatient()
    applied: list[AgentConfig] = []

    async def apply(one: AgentConfig) -> None:
        applied.append(one)

    async with serving(answer) as url:
        client = CollectorClient(url)
        poller = ConfigPoller(client, ConfigCache(folder / "config.json"), credential=lambda: TOKEN, timing=timing)
        poller.apply = apply
        await poller.begin()
        try:
            yield Polled(poller=poller, applied=applied, patience=patience)
        finally:
            await client.close()


async def good_configuration(folder: Path, giver: Giver) -> None:
    """Let what `giver` has become the last known good one in `folder`."""
    async with polled(folder, giver) as agent:
        await agent.poller.fetch()
        agent.probes(Outcome.OK)
        agent.poller.hint(giver.etag)
        await agent.after_probation()
        if agent.poller.state.probation:
            raise AssertionError("not promoted")
