"""Every wire format that the gateway serves: a good stream, a refusal, a stream that breaks; all through LiteLLM.

LiteLLM without a database tells a key that is not its own from a missing one: the first is HTTP 400 ("No connected
db."), only the second HTTP 401. So only the second can end as `auth` here.
LiteLLM hides no failure of its upstream: whether that cuts, sends an error or just ends, each format gets an error
event of its own kind; OpenAI's three get a `[DONE]` after it, which must not make the stream good.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from tests.real import witness
from tests.real.checks import Tally, faults_of_inference
from tests.real.faulty import ERROR, FAULTS, WORDS
from tests.real.product import AGENT
from tests.real.scenes import GATEWAY, NO_SUCH_MODEL, PROBES, Scene, agree, attempt_probe
from tests.real.servers import GATEWAY_KEY_NAME, MODEL

WRONG_KEY: Final = "sk-of-somebody-else"
NO_DATABASE: Final = "No connected db"
FAILED: Final = ("stream_error", "truncated")
_TEXT: Final = re.compile(rb'"text":\s*"[^"]')
_DELTA: Final = re.compile(rb'"delta":\s*"[^"]')


@dataclass(frozen=True)
class Format:
    """A provider's name, the base path at which the gateway serves it, and what its first token looks like."""

    provider: str
    base: str
    token: re.Pattern[bytes]

    @property
    def name(self) -> str:
        """The row in the table."""
        return f"{GATEWAY}: {self.provider}"


FORMATS: Final = (
    Format("openai", "/v1", witness.CONTENT),
    Format("openai-completions", "/v1", _TEXT),
    Format("openai-responses", "/v1", _DELTA),
    Format("anthropic", "", _TEXT),
    Format("gemini", "/v1beta", _TEXT),
)


def every_format(scene: Scene, tally: Tally) -> dict[str, list[dict[str, Any]]]:
    """Ask the gateway in each format; return the results of the good streams by the format's row."""
    print("formats of the gateway", flush=True)
    probed = {}
    for form in FORMATS:
        probed[form.name] = _good(scene, tally, form)
        _refused(scene, tally, form)
        _broken(scene, tally, form)
    return probed


def _good(scene: Scene, tally: Tally, form: Format) -> list[dict[str, Any]]:
    _ask(scene, form, MODEL, key=scene.key)  # the first stream of a format loads its libraries
    _, results, errors = _ask(scene, form, MODEL, "--count", str(PROBES), key=scene.key)
    faults = [fault for result in results for fault in faults_of_inference(result)]
    tally.expect(
        f"{form.name}: {len(results)} streams are plausible",
        met=len(results) == PROBES and not faults,
        detail=faults[:3] or errors,
    )
    command = (AGENT, "probe", f"{{url}}{form.base}", *_options(form, MODEL))
    request, _ = witness.capture(scene.lab, command, environment={GATEWAY_KEY_NAME: scene.key})
    seconds = witness.median_ttft_seconds(port=scene.gateway.port, request=request, token=form.token)
    agree(tally, form.name, results, expected_seconds=seconds)
    return results


def _refused(scene: Scene, tally: Tally, form: Format) -> None:
    for what, model, key, outcome, words in (
        ("a missing key", MODEL, None, "auth", ""),
        ("a key that the gateway cannot look up", MODEL, WRONG_KEY, "http_4xx", NO_DATABASE),
        ("a model that is not there", NO_SUCH_MODEL, scene.key, "http_4xx", NO_SUCH_MODEL),
    ):
        code, results, errors = _ask(scene, form, model, key=key)
        ends = [(r["outcome"], words in (r["reason"] or "")) for r in results]
        told = results[0]["reason"] if results else errors
        tally.expect(f"{form.name}: {what} is {outcome}", met=code == 1 and ends == [(outcome, True)], detail=told)


def _broken(scene: Scene, tally: Tally, form: Format) -> None:
    for fault in FAULTS:
        code, results, errors = _ask(scene, form, fault, key=scene.key)
        words = WORDS if fault == ERROR else ""
        met = code == 1 and all(
            r["outcome"] in FAILED
            and words in r["reason"]
            and r["marks"]["first_token"] is not None
            and r["ttft_seconds"] is None
            for r in results
        )
        told = f"{results[0]['outcome']}: {results[0]['reason']}" if results else errors
        tally.expect(f"{form.name}: {fault} after its tokens is a failure", met=met and len(results) == 1, detail=told)


def _ask(
    scene: Scene, form: Format, model: str, *options: str, key: str | None
) -> tuple[int, list[dict[str, Any]], str]:
    """Probe the gateway in this format; None is no key."""
    url = scene.gateway.url.removesuffix("/v1") + form.base
    return attempt_probe(scene, url, "--provider", form.provider, "--model", model, *options, key=key)


def _options(form: Format, model: str) -> tuple[str, ...]:
    return ("--provider", form.provider, "--model", model, "--api-key-env", GATEWAY_KEY_NAME, "--json")
