"""The scripted endpoint: a small HTTP/1.1 server that answers when its script says, to the millisecond.

POST on any path streams a chat completion; HEAD, GET and OPTIONS on any path are answered after the scripted round
trip. Each moment is reckoned from the request's last byte. Asked to, it tells when its kernel saw each stream come and
go.
"""

import asyncio
import contextlib
import json
import random
import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import msgspec

from agent.simulator.play import Write, plan
from agent.simulator.script import Scenario, Script, Silence
from agent.simulator.witness import Seen, Witness, WitnessServer, WitnessTransport

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_BODY_BYTES: Final = 1024 * 1024


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """One request."""

    method: str
    model: str | None
    limit: int | None
    """How many tokens it asks for at most."""
    at: float
    """The loop's time at its last byte."""


class Refused(Exception):
    """The request is none that this server understands."""


class Simulator:
    """Serves one script until closed."""

    def __init__(
        self,
        script: Script,
        *,
        seed: int | None = None,
        tls: ssl.SSLContext | None = None,
        on_stream: Callable[[Seen], None] | None = None,
    ) -> None:
        self._script = script
        self._tls = tls
        self._on_stream = on_stream
        """Called after each stream with what this end's kernel saw of it; None: nobody looks."""
        self._random = random.Random(seed)  # noqa: S311  jitter, not a secret
        self._server: asyncio.Server | WitnessServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> str:
        """Listen, and return the base URL; port 0 takes a free one. Raises OSError when the address is taken."""
        self._server = await self._listen(host, port)
        name = self._server.sockets[0].getsockname()
        literal = f"[{name[0]}]" if ":" in name[0] else name[0]
        return f"{'http' if self._tls is None else 'https'}://{literal}:{name[1]}/v1"

    async def close(self) -> None:
        """Stop listening and cut what is open."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self, host: str, port: int) -> asyncio.Server | WitnessServer:
        if self._on_stream is None:
            return await asyncio.start_server(self._serve, host, port, limit=MAX_HEAD_BYTES, ssl=self._tls)
        server = WitnessServer(self._serve, limit=MAX_HEAD_BYTES, context=self._tls)
        server.start(host, port)
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, Refused):
            pass
        except asyncio.CancelledError:
            return  # the server is closing: asyncio would log a cancelled handler
        finally:
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection stays."""
        request = await read_request(reader)
        scenario = self._script.scenario(request.model)
        if request.method != "POST":
            await _sleep_until(request.at + self._spread(scenario, scenario.rtt))
            return await _send(writer, _head(HTTPStatus.OK, {"Content-Length": "0"}))
        if scenario.silence is Silence.HEADERS:
            await asyncio.Event().wait()
        if scenario.status != HTTPStatus.OK or scenario.body is not None:
            return await self._answer_whole(scenario, request, writer)
        return await self._answer_stream(scenario, request, writer)

    async def _answer_whole(self, scenario: Scenario, request: Incoming, writer: asyncio.StreamWriter) -> bool:
        await _sleep_until(request.at + self._spread(scenario, scenario.rtt))
        text = scenario.body
        if text is None:
            text = json.dumps({"error": {"message": f"scripted status {scenario.status}", "type": "scripted"}})
        body = text.encode()
        fields = {"Content-Type": scenario.content_type or "application/json", "Content-Length": str(len(body))}
        if scenario.retry_after is not None:
            fields["Retry-After"] = scenario.retry_after
        return await _send(writer, _head(scenario.status, fields) + body)

    async def _answer_stream(self, scenario: Scenario, request: Incoming, writer: asyncio.StreamWriter) -> bool:
        fields = {"Content-Type": scenario.content_type or "text/event-stream", "Transfer-Encoding": "chunked"}
        head: bytes | None = _head(HTTPStatus.OK, fields)
        writes = plan(scenario, limit=request.limit, spread=lambda seconds: self._spread(scenario, seconds))
        witness = Witness(writer.transport) if isinstance(writer.transport, WitnessTransport) else None
        for write in writes:
            await _sleep_until(request.at + write.at)
            await _send(writer, (head or b"") + _framed(write))
            head = None
            if witness is not None and write.tokens:
                witness.note_write()
        if head is not None:
            await _send(writer, head)
        if scenario.silence is not None:
            await asyncio.Event().wait()
        if scenario.cut_after is not None:
            writer.transport.abort()
            return False
        if witness is not None and self._on_stream is not None:
            self._on_stream(witness.seen(request.model))  # before the end: a client that has it may leave
        return await _send(writer, b"0\r\n\r\n")

    def _spread(self, scenario: Scenario, seconds: float) -> float:
        if not scenario.jitter:
            return seconds
        return seconds * (1 + scenario.jitter * self._random.uniform(-1, 1))


async def read_request(reader: asyncio.StreamReader) -> Incoming:
    """Return the next request; raise Refused for none of ours, IncompleteReadError at the end."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = fields.get("content-length", "0")
    if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
        raise Refused(f"content-length {length}")
    body = await reader.readexactly(int(length))
    asked = _asked(body)
    limit = asked.get("max_completion_tokens", asked.get("max_tokens"))
    model = asked.get("model")
    return Incoming(
        method=lines[0].partition(" ")[0],
        model=model if isinstance(model, str) else None,
        limit=limit if isinstance(limit, int) else None,
        at=asyncio.get_running_loop().time(),
    )


def _asked(body: bytes) -> dict[str, object]:
    with contextlib.suppress(ValueError):
        asked = json.loads(body or b"{}")
        if isinstance(asked, dict):
            return asked
    return {}


def _head(status: int, fields: dict[str, str]) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Scripted"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _framed(write: Write) -> bytes:
    return b"%x\r\n%s\r\n" % (len(write.data), write.data)


async def _send(writer: asyncio.StreamWriter, data: bytes) -> bool:
    writer.write(data)  # asyncio sets TCP_NODELAY on every TCP transport
    await writer.drain()
    return True


async def _sleep_until(at: float) -> None:
    wait = at - asyncio.get_running_loop().time()
    if wait > 0:
        await asyncio.sleep(wait)
