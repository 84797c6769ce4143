"""What is measured: a model server and a gateway before it, each told when it answers."""

from pathlib import Path
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

from tests.real.faulty import FAULTS
from tests.real.lab import Lab, Process, free_port, wait_for

MODEL: Final = "random-llama"
GATEWAY_KEY_NAME: Final = "GATEWAY_KEY"
GATEWAY_KEY: Final = "sk-isochrone-laboratory-0123456789abcdef"
"""The gateway starts only with a key of its own; it guards nothing but this run."""
CONTEXT: Final = 2_048
START_SECONDS: Final = 120
"""Generous: the gateway takes 6 s alone on two cores and 60 s beside a compiler."""

DIRECT: Final = build_opener(ProxyHandler({}))
"""Loopback is never asked through a proxy."""

_GATEWAY_ENVIRONMENT: Final = {
    "LITELLM_MASTER_KEY": GATEWAY_KEY,
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "DISABLE_ADMIN_UI": "True",
}
_MODEL: Final = """\
  - model_name: {model}
    litellm_params: {{model: custom_openai/{model}, api_base: "{upstream}", api_key: none}}
"""
_SETTINGS: Final = """\
router_settings: {disable_cooldowns: true, num_retries: 0}
litellm_settings: {num_retries: 0, request_timeout: 20, use_chat_completions_url_for_anthropic_messages: true}
"""


class ModelServer:
    """llama.cpp's server on loopback: one request at a time, one thread."""

    def __init__(self, lab: Lab, *, python: Path, model: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._lab = lab
        self._command = (
            *(str(python), "-m", "llama_cpp.server", "--model", str(model), "--model_alias", MODEL),
            *("--host", "127.0.0.1", "--port", str(self.port), "--n_ctx", str(CONTEXT)),
            *("--n_threads", "1", "--n_threads_batch", "1", "--chat_format", "chatml", "--verbose", "true"),
        )
        self._process: Process | None = None

    def start(self) -> float:
        """Start it, again if need be, and return the seconds until it answered."""
        self._process = self._lab.start("llama", self._command)
        return wait_for(
            "the model server",
            lambda: status(f"{self.url}/models") == 200,
            seconds=START_SECONDS,
            process=self._process,
        )

    def log(self) -> str:
        """Return what it has logged since its first start."""
        return (self._lab.folder / "llama.log").read_text(errors="replace")

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()


class Gateway:
    """LiteLLM's proxy before the model server, and before an upstream that breaks."""

    def __init__(self, lab: Lab, *, python: Path, upstream: str, faulty: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._lab = lab
        config = lab.folder / "litellm.yml"
        served = [(MODEL, upstream), *((fault, faulty) for fault in FAULTS)]
        models = "".join(_MODEL.format(model=model, upstream=url) for model, url in served)
        config.write_text(f"model_list:\n{models}{_SETTINGS}")
        self._command = (
            *(str(python.with_name("litellm")), "--config", str(config)),
            *("--host", "127.0.0.1", "--port", str(self.port), "--num_workers", "1"),
        )

    def start(self) -> float:
        """Start it and return the seconds until it answered."""
        process = self._lab.start("litellm", self._command, environment=_GATEWAY_ENVIRONMENT)
        health = f"http://127.0.0.1:{self.port}/health/liveliness"
        return wait_for("the gateway", lambda: status(health) == 200, seconds=START_SECONDS, process=process)


def write_model(lab: Lab, *, python: Path) -> Path:
    """Make the model and return its file."""
    path = lab.folder / "model.gguf"
    lab.run(str(python), str(Path(__file__).with_name("gguf_model.py")), str(path))
    return path


def status(url: str) -> int | None:
    """Return the status of a GET; None while nobody answers."""
    try:
        with DIRECT.open(url, timeout=5) as response:
            code: int = response.status
            return code
    except HTTPError as exc:
        return exc.code
    except (URLError, OSError):
        return None
