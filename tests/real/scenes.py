"""The scenes of the run, in order: one probe by hand, the running agent, what happens when things break."""

import json
from collections import Counter
from dataclasses import dataclass
from statistics import median
from time import monotonic
from typing import Any, Final

from tests.real import witness
from tests.real.checks import Tally, faults_of_inference
from tests.real.lab import Lab, wait_for
from tests.real.product import AGENT, REGION, Product
from tests.real.servers import GATEWAY_KEY_NAME, MODEL, Gateway, ModelServer

PROBES: Final = 5
RATIO_LOW, RATIO_HIGH = 0.5, 2.0
"""How far two independent medians of a few streams may lie apart on a busy machine."""
PATIENCE_SECONDS: Final = 120
ENOUGH: Final = 3
"""Good results of one endpoint and module before the agent's work is judged."""
LLAMA, GATEWAY, WRONG = "llama", "litellm", "litellm-wrong-model"
MODULES: Final = ("rtt", "chat", "chat_warm")
NO_SUCH_MODEL: Final = "no-such-model"

_TARGETS: Final = """\
modules:
  rtt:       {{prober: rtt, interval: 3s, timeout: 2s, rtt: {{method: tcp, count: 3, spacing: 100ms}}}}
  chat:      {{prober: inference, interval: 8s, timeout: 7s, inference: {{connection: cold, max_output_tokens: 32}}}}
  chat_warm: {{prober: inference, interval: 8s, timeout: 7s, inference: {{connection: warm, max_output_tokens: 32}}}}
endpoints:
  - {{name: {llama}, url: "{llama_url}", provider: openai, model: {model}, modules: [rtt, chat, chat_warm]}}
  - name: {gateway}
    url: "{gateway_url}"
    provider: openai
    model: {model}
    api_key: {{env: {key_name}}}
    modules: [rtt, chat, chat_warm]
  - name: {wrong}
    url: "{gateway_url}"
    provider: openai
    model: {no_such_model}
    api_key: {{env: {key_name}}}
    modules: [chat]
regions:
  - {{name: {region}, latitude: 50.1, longitude: 8.7, country: DE, weight: 1.0}}
"""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that stands on the stage."""

    lab: Lab
    product: Product
    server: ModelServer
    gateway: Gateway
    key: str

    def targets(self) -> str:
        """Return the target file of both endpoints and of one that is wrong on purpose."""
        return _TARGETS.format(
            llama=LLAMA,
            llama_url=self.server.url,
            gateway=GATEWAY,
            gateway_url=self.gateway.url,
            wrong=WRONG,
            model=MODEL,
            no_such_model=NO_SUCH_MODEL,
            key_name=GATEWAY_KEY_NAME,
            region=REGION,
        )


def measured_at_once(scene: Scene, tally: Tally) -> dict[str, list[dict[str, Any]]]:
    """`isochrone-agent probe` against both, judged by a plain socket; return its results."""
    print("isochrone-agent probe", flush=True)
    request, refused = witness.capture(scene.lab, (AGENT, "probe", "{url}/v1", "--model", MODEL, "--json"))
    tally.expect("a refusing server ends the probe with 1", met=refused.returncode == 1, detail=refused.returncode)
    attempt_probe(
        scene, scene.gateway.url, "--model", MODEL, key=scene.key
    )  # the gateway's first stream loads its libraries
    probed = {
        LLAMA: _probe(scene, tally, name=LLAMA, url=scene.server.url),
        GATEWAY: _probe(scene, tally, name=GATEWAY, url=scene.gateway.url, key=scene.key),
    }
    seconds = witness.median_ttft_seconds(port=scene.server.port, request=request)
    agree(tally, LLAMA, probed[LLAMA], expected_seconds=seconds)
    _warm_and_bare(scene, tally)
    _refusals(scene, tally)
    return probed


def stands_everywhere(scene: Scene, tally: Tally) -> None:
    """Start collector and agent; what they measure stands in /v1/results, in Postgres and in /metrics."""
    print("isochrone-agent run", flush=True)
    product = scene.product
    seconds = product.start_collector(scene.targets())
    tally.expect("the collector is ready", met=True, detail=f"{seconds:.1f} s")
    agent = product.start_agent({GATEWAY_KEY_NAME: scene.key})
    wait_for("results of every target", lambda: _enough(scene), seconds=PATIENCE_SECONDS, process=agent)
    for endpoint in (LLAMA, GATEWAY):
        _streams_are_plausible(scene, tally, endpoint)
        _streams_are_stored_and_counted(scene, tally, endpoint)


def outlives_faults(scene: Scene, tally: Tally) -> None:
    """Break things: each is an outcome with a reason, the agent goes on, and loses nothing at its end."""
    print("faults", flush=True)
    product = scene.product
    wrong = product.results(endpoint=WRONG)
    tally.expect(
        "a wrong model is http_4xx with the gateway's own words",
        met=bool(wrong) and all(r["outcome"] == "http_4xx" and NO_SUCH_MODEL in (r["reason"] or "") for r in wrong),
        detail=wrong[0]["reason"] if wrong else "no result",
    )
    failures = product.metric("isochrone_probe_failures_total", endpoint=WRONG, reason="http_4xx")
    tally.expect("its failures are counted", met=failures > 0, detail=f"{failures:.0f}")
    scene.server.kill()
    gone = _await_result(scene, LLAMA, "a dead server's outcome", ok=False)
    tally.expect(
        "a dead server is an outcome with a reason",
        met=bool(gone["reason"]),
        detail=f"{gone['outcome']}: {gone['reason']}",
    )
    behind = _await_result(scene, GATEWAY, "the gateway's outcome", ok=False, prober="inference")
    tally.expect(
        "so is a gateway without its server",
        met=bool(behind["reason"]),
        detail=f"{behind['outcome']}: {behind['reason']}",
    )
    scene.server.start()
    back = _await_result(scene, LLAMA, "a stream of the server that came back", ok=True, prober="inference")
    tally.expect("the agent measures the server that came back", met=not faults_of_inference(back))
    _nothing_lost(scene, tally)


def _streams_are_plausible(scene: Scene, tally: Tally, endpoint: str) -> None:
    results = scene.product.results(endpoint=endpoint)
    chats = [r for r in results if r["prober"] == "inference" and r["outcome"] == "ok"]
    faults = [fault for result in chats for fault in faults_of_inference(result)]
    tally.expect(
        f"{endpoint}: {len(chats)} streams in /v1/results are plausible",
        met=len(chats) > 0 and not faults,
        detail=faults[:3] or "",
    )
    rated = sum(r["tokens_per_second"] is not None and not r["flags"] for r in chats)
    tally.expect(f"{endpoint}: {rated} of them unspoiled, with tokens/s", met=rated > 0)
    kinds = sorted({r["connection"] for r in chats})
    tally.expect(f"{endpoint}: on cold and warm connections", met=kinds == ["cold", "warm"], detail=kinds)


def _streams_are_stored_and_counted(scene: Scene, tally: Tally, endpoint: str) -> None:
    ((count, rtt, ttft),) = scene.product.query(
        "SELECT count(*), min(rtt_seconds), min(ttft_seconds) FROM v_result"
        " WHERE endpoint = %s AND prober = 'inference' AND outcome = 'ok'",
        (endpoint,),
    )
    tally.expect(f"{endpoint}: {count} streams in v_result", met=count > 0 and rtt > 0 and ttft > 0)
    streams = scene.product.metric("isochrone_ttft_seconds_count", endpoint=endpoint)
    tally.expect(f"{endpoint}: {streams:.0f} streams in /metrics", met=streams > 0)
    trips = scene.product.metric("isochrone_network_rtt_seconds_count", endpoint=endpoint)
    tally.expect(f"{endpoint}: {trips:.0f} round trips in /metrics", met=trips > 0)


def _warm_and_bare(scene: Scene, tally: Tally) -> None:
    """Probe on a connection that stands, and without a model."""
    _, results, _ = attempt_probe(scene, scene.server.url, "--model", MODEL, "--warm", "--count", str(PROBES))
    faults = [fault for result in results for fault in faults_of_inference(result)]
    met = {r["connection"] for r in results} == {"warm"} and not faults
    tally.expect(f"{LLAMA}: {len(results)} warm streams are plausible", met=met, detail=faults[:3] or "")
    code, results, errors = attempt_probe(scene, scene.server.url)
    met = code == 0 and [(r["prober"], r["rtt_seconds"] > 0) for r in results] == [("rtt", True)]
    tally.expect(f"{LLAMA}: without a model the round trip is measured", met=met, detail=errors)


def _refusals(scene: Scene, tally: Tally) -> None:
    """Probe with a model that is not there, and without the gateway's key."""
    for what, model, key, outcome in (
        ("a model that is not there", NO_SUCH_MODEL, scene.key, "http_4xx"),
        ("a missing key", MODEL, None, "auth"),
    ):
        code, results, errors = attempt_probe(scene, scene.gateway.url, "--model", model, key=key)
        met = code == 1 and [(r["outcome"], bool(r["reason"])) for r in results] == [(outcome, True)]
        told = results[0]["reason"] if results else errors
        tally.expect(f"{GATEWAY}: {what} ends the probe with 1, outcome {outcome}", met=met, detail=told)


def _nothing_lost(scene: Scene, tally: Tally) -> None:
    product = scene.product
    started = monotonic()
    code = product.stop_agent()
    tally.expect("SIGTERM ends the agent with 0", met=code == 0, detail=f"exit {code}, {monotonic() - started:.1f} s")
    recorded = sorted((r["boot_id"], r["seq"]) for r in product.recorded())
    stored = sorted((str(boot_id), seq) for boot_id, seq in product.query("SELECT boot_id, seq FROM v_result"))
    tally.expect(
        "every result that the agent recorded stands in Postgres exactly once",
        met=recorded == stored and len(recorded) > 0,
        detail=f"{len(recorded)} recorded, {len(stored)} stored",
    )


def _probe(scene: Scene, tally: Tally, *, name: str, url: str, key: str | None = None) -> list[dict[str, Any]]:
    code, results, errors = attempt_probe(scene, url, "--model", MODEL, "--count", str(PROBES), key=key)
    tally.expect(f"{name}: the probe ends with 0", met=code == 0, detail=errors or "")
    faults = [fault for result in results for fault in faults_of_inference(result)]
    tally.expect(
        f"{name}: {len(results)} results are plausible",
        met=len(results) == PROBES and not faults,
        detail=faults[:3] or "",
    )
    return results


def attempt_probe(
    scene: Scene, url: str, *options: str, key: str | None = None
) -> tuple[int, list[dict[str, Any]], str]:
    """Return the exit code of `isochrone-agent probe`, its results, and what it said beside them."""
    key_options = ("--api-key-env", GATEWAY_KEY_NAME) if key is not None else ()
    done = scene.lab.attempt(
        *(AGENT, "probe", url, "--json", *options, *key_options),
        environment={GATEWAY_KEY_NAME: key} if key is not None else {},
        seconds=PATIENCE_SECONDS,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.strip()[-500:]


def agree(tally: Tally, name: str, results: list[dict[str, Any]], *, expected_seconds: float) -> None:
    """Expect the median TTFT of `results` near `expected_seconds`, a plain socket's."""
    measured = [r["ttft_seconds"] for r in results if r["ttft_seconds"] is not None]
    ratio = median(measured) / expected_seconds if measured else 0.0
    tally.expect(
        f"{name}: TTFT agrees with a plain socket's",
        met=RATIO_LOW <= ratio <= RATIO_HIGH,
        detail=f"{expected_seconds * 1e3:.1f} ms by socket, ratio {ratio:.2f}",
    )


def _enough(scene: Scene) -> bool:
    good = [r for r in scene.product.results() if r["outcome"] == "ok"]
    counts = Counter((r["endpoint"], r["module"]) for r in good)
    return all(counts[endpoint, module] >= ENOUGH for endpoint in (LLAMA, GATEWAY) for module in MODULES)


def _await_result(scene: Scene, endpoint: str, what: str, *, ok: bool, prober: str | None = None) -> dict[str, Any]:
    """Return the first result of this kind that the agent records from now on, once the collector has it."""
    before = {(r["boot_id"], r["seq"]) for r in scene.product.results()}
    found: list[dict[str, Any]] = []

    def arrived() -> bool:
        found.extend(
            r
            for r in scene.product.results(endpoint=endpoint)
            if (r["boot_id"], r["seq"]) not in before and (r["outcome"] == "ok") is ok and prober in (None, r["prober"])
        )
        return bool(found)

    wait_for(what, arrived, seconds=PATIENCE_SECONDS)
    return found[0]
