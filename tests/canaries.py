"""Secrets with a unique middle, an endpoint that repeats them in every way, and the search for them."""

import json
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from agent.probes.inference import QUESTION
from isochrone.config import ApiKey, Duration, Endpoint, InferenceOptions, Module, Provider, Targets
from isochrone.outcome import Connection, Prober
from tests.scripted_http import Reply, Request

KEY_VARIABLE = "CANARY_KEY"
STREAM = "text/event-stream"


@dataclass
class Canaries:
    """`marks` by the name of the secret: what is looked for, whatever encloses it."""

    marks: dict[str, str] = field(
        default_factory=lambda: {name: secrets.token_hex(12) for name in ("key", "file key", "join token", "answer")}
    )

    @property
    def key(self) -> str:
        """Of nobody's form, and written differently by URLs and JSON."""
        return f'canary/{self.marks["key"]}+"end"'

    @property
    def file_key(self) -> str:
        return f"canary%{self.marks['file key']}\\end"

    @property
    def join_token(self) -> str:
        return f"isoe_canary_{self.marks['join token']}{'x' * 19}"

    @property
    def answer(self) -> str:
        return f"canary {self.marks['answer']} of the model"

    def know(self, name: str, mark: str) -> None:
        self.marks[name] = mark

    def found(self, places: Mapping[str, bytes]) -> set[tuple[str, str]]:
        """Return (secret, place) of every hit; the question counts as a secret too."""
        looked_for = self.marks | {"prompt": QUESTION[:40]}
        return {
            (name, place)
            for name, mark in looked_for.items()
            for place, content in places.items()
            if mark.encode().lower() in content.lower()
        }


@dataclass(frozen=True)
class Raw(Reply):
    """Bytes that need not be HTTP; the connection ends with them."""

    raw: bytes = b""
    cut: int | None = 10**9

    def encoded(self) -> bytes:
        return self.raw


class Parrot:
    """An endpoint that repeats what it was asked, its key included, in the way that the path names."""

    def __init__(self, canaries: Canaries) -> None:
        self._canaries = canaries
        self.nonces: list[str] = []

    def __call__(self, request: Request) -> Reply:
        way = request.path.split("/")[1]
        prompt = json.loads(request.body)["messages"][0]["content"]
        self.nonces.append(prompt.split()[0])
        authorization = request.headers["authorization"]
        key = authorization.removeprefix("Bearer ")
        forms = " ".join((key, quote(key, safe=""), repr(key), json.dumps(json.dumps(key)), authorization))
        words = f"{prompt} {self._canaries.join_token}" if way == "question" else forms
        return WAYS[way](words, key, self._canaries.answer)


def _event(value: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(value).encode()


def _token(answer: str) -> bytes:
    return _event({"choices": [{"delta": {"content": answer}}]})


def _good(_forms: str, key: str, answer: str) -> Reply:
    end = _event({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"completion_tokens": 2}})
    headers = {"server-timing": f'total;dur=5;desc="{quote(key)}"', "x-ms-region": key, "x-request-id": key}
    return Reply(body=_token(answer) * 2 + end + b"data: [DONE]\n\n", content_type=STREAM, headers=headers)


def _refused(forms: str, _key: str, _answer: str) -> Reply:
    return Reply(401, json.dumps({"error": {"message": forms}}).encode())


def _cut(_forms: str, _key: str, answer: str) -> Reply:
    return Reply(body=_token(answer) * 20, content_type=STREAM, cut=400)


WAYS: dict[str, Callable[[str, str, str], Reply]] = {
    "good": _good,
    "refused": _refused,
    "question": _refused,
    "plain": lambda forms, _key, _answer: Reply(500, forms.encode(), content_type="text/plain"),
    "headers": lambda _forms, key, _answer: Reply(
        429, headers={"retry-after": key, "x-request-id": key, "www-authenticate": f"Bearer {key}"}
    ),
    "redirect": lambda _forms, key, _answer: Reply(307, headers={"location": f"/?key={quote(key, safe='')}&k={key}"}),
    "event": lambda forms, _key, _answer: Reply(body=_event({"error": {"message": forms}}), content_type=STREAM),
    "nonsense": lambda forms, _key, answer: Reply(body=f"data: {{{forms} {answer}\n\n".encode(), content_type=STREAM),
    "encoding": lambda _forms, key, _answer: Reply(content_type=STREAM, headers={"content-encoding": key}),
    "no-http": lambda forms, _key, _answer: Raw(raw=forms.replace("\n", " ").encode() + b"\r\n\r\n"),
    "bad-header": lambda _forms, key, _answer: Raw(raw=f"HTTP/1.1 200 OK\r\nX: {key}\0\r\n\r\n".encode()),
    "bad-length": lambda _forms, key, _answer: Raw(raw=f"HTTP/1.1 200 OK\r\nContent-Length: {key}\r\n\r\n".encode()),
    "cut": _cut,
    "fault": lambda _forms, _key, answer: Reply(body=_token(answer), content_type=STREAM, headers={"x-fault": "1"}),
}

AGENT = """
import sys
from agent.cli import main
from agent.probes import inference

real = inference.InferenceProbe._stream

async def stream(self, answer, deadline):
    if "x-fault" in answer.headers:
        raise RuntimeError(f"a fault that quotes {self._secrets} and {await answer.body(limit=1000)}")
    await real(self, answer, deadline)

inference.InferenceProbe._stream = stream
LEAK
sys.exit(main(["run", "--json"]))
"""
"""The agent, with a fault of its own at one endpoint. LEAK stands for what a careless change might do."""


def agent_command(leak: str = "") -> tuple[str, ...]:
    return (sys.executable, "-c", AGENT.replace("LEAK", leak))


def targets(url: str, key_file: Path) -> Targets:
    """Return an endpoint for each way and each key."""
    module = {
        "prober": Prober.INFERENCE,
        "interval": Duration(1),
        "timeout": Duration(0.9),
    }
    modules = {
        connection.value: Module(**module, inference=InferenceOptions(connection=connection))  # type: ignore[arg-type]
        for connection in Connection
    }
    keys = {"env": ApiKey(env=KEY_VARIABLE), "file": ApiKey(file=str(key_file))}
    return Targets(
        modules=modules,
        endpoints=tuple(
            Endpoint(
                name=f"{way}-{name}",
                url=f"{url}/{way}/v1",
                provider=Provider.OPENAI,
                model="m",
                modules=tuple(modules),
                api_key=key,
            )
            for way in WAYS
            for name, key in keys.items()
        ),
    )


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shown_of(*pids: int) -> dict[str, bytes]:
    """Return what `ps` shows of the processes to everybody, and the limits that they have."""
    names = ("cmdline", "limits")
    return {f"{name} of {pid}": Path(f"/proc/{pid}/{name}").read_bytes() for pid in pids for name in names}
