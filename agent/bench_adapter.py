"""`python -m agent.bench_adapter`: makes the requests of an accuracy bench's plan, and prints what it measured.

It reads one JSON plan on standard input and prints one JSON line a request (docs/how-to/check-accuracy.md). Requests
run through the probes' own transport, framing and reader: what a bench finds wrong here is wrong in the product.
"""

import asyncio
import json
import os
import sys
from typing import Any, Final

from agent.clock import SystemClock
from agent.host import spare_collections
from agent.probes.attempt import Attempt, Deadline, Link, open_link
from agent.probes.reading import StreamReader
from agent.probes.status import check_answer
from agent.providers import PROVIDERS
from agent.timeline import pace
from agent.transport import AgentLoop, Failure, parse_origin, prepare, tls_context
from isochrone.config import Assignment, Duration, InferenceOptions, Module, Provider
from isochrone.outcome import Outcome, Prober

_CLOCK: Final = SystemClock()
_TIMEOUT_SECONDS: Final = 60.0
Json = dict[str, Any]
"""What stands in a plan is the bench's, and checked by its use."""


def main() -> None:
    """Run the plan."""
    plan = json.load(sys.stdin)
    with asyncio.Runner(loop_factory=AgentLoop) as runner:
        lines = runner.run(_run(plan))
    sys.stdout.write("".join(json.dumps(line) + "\n" for line in lines))


async def _run(plan: Json) -> list[Json]:
    await prepare()
    spare_collections()
    if plan.get("ca_file"):
        os.environ["SSL_CERT_FILE"] = plan["ca_file"]  # OpenSSL's own name for it, read when the context is built
        tls_context(http2=bool(plan.get("http2")))
    loop = asyncio.get_running_loop()
    began = loop.time()
    lanes = [_Lane(plan, began + lane["start_s"]).run(lane["requests"]) for lane in plan["lanes"]]
    return [line for lines in await asyncio.gather(*lanes) for line in lines]


class _Lane:
    """One connection that makes its requests one after the other, from the loop's time `starts_at`."""

    def __init__(self, plan: Json, starts_at: float) -> None:
        self._starts_at = starts_at
        seconds = Duration(_TIMEOUT_SECONDS)
        self._target = Assignment(
            endpoint="bench",
            module="bench",
            url=plan["base_url"].rstrip("/") + "/chat/completions",
            options=Module(prober=Prober.INFERENCE, interval=seconds, timeout=seconds),
            provider=Provider.OPENAI,
            model=plan["model"],
            http2=bool(plan.get("http2")),
        )
        self._origin = parse_origin(self._target.url)
        self._link: Link | None = None

    async def run(self, requests: list[Json]) -> list[Json]:
        """Return a line a request."""
        await asyncio.sleep(self._starts_at - asyncio.get_running_loop().time())
        lines = []
        for request in requests:
            await asyncio.sleep(request.get("gap_s", 0))
            lines.append({"id": request["id"], **await self._measure(request)})
        if self._link is not None:
            self._link.http.close()
        return lines

    async def _measure(self, request: Json) -> Json:
        try:
            async with Deadline(total_seconds=_TIMEOUT_SECONDS) as deadline:
                return await self._ask(request, deadline)
        except TimeoutError:
            return {"error": str(deadline.failure())}
        except Failure as exc:
            return {"error": str(exc)}

    async def _ask(self, request: Json, deadline: Deadline) -> Json:
        wire = PROVIDERS[Provider.OPENAI]
        attempt = Attempt(self._target, Prober.INFERENCE, clock=_CLOCK)
        link = await self._connection(attempt, deadline)
        headers = {"Content-Type": "application/json", "Accept": wire.framing.media_types[0], **request["headers"]}
        deadline.expect(Outcome.TIMEOUT_HEADERS, "no response headers", seconds=_TIMEOUT_SECONDS)
        answer = await link.http.request(
            "POST", self._origin.target, headers=headers, body=json.dumps(request["body"]).encode()
        )
        reader = StreamReader(wire, attempt, options=InferenceOptions(), deadline=deadline)
        try:
            await check_answer(answer, wire.framing)
            await reader.read(answer)
        finally:
            await answer.close()
        return _line(link, reader)

    async def _connection(self, attempt: Attempt, deadline: Deadline) -> Link:
        if self._link is not None and not self._link.http.usable():
            self._link.http.close()
            self._link = None
        if self._link is None:
            self._link = await open_link(self._origin, attempt, deadline)
        return self._link


def _line(link: Link, reader: StreamReader) -> Json:
    departure = link.http.departure
    started_ns = None if departure is None else departure.started_ns
    first_ns = reader.arrivals[0].at_ns
    return {
        "t_start_ns": started_ns,
        "t_first_ns": first_ns,
        "token_ns": [arrival.at_ns for arrival in reader.arrivals],
        "bounds_s": [arrival.bound_ns / 1e9 for arrival in reader.arrivals],
        "ttft_s": None if started_ns is None else (first_ns - started_ns) / 1e9,
        "tps": pace(reader.arrivals, reader.usage).tokens_per_second,
        "rtt_s": link.round_trip()[0],
    }


if __name__ == "__main__":
    main()
