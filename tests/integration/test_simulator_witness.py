"""What the simulator says that its kernel saw is what came and left, plain and over TLS."""

import json
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import msgspec
import pytest

from agent.clock import SystemClock
from agent.probes import Probes
from agent.selftest.cells import Errors, Stream, compare
from agent.simulator import LOOPBACK_PEM, Scenario, Script, Seen, Simulator, server_context
from agent.timeline import TokenArrival
from agent.transport import tls_context
from isochrone.config import Assignment, Duration
from isochrone.outcome import ClockSource, Outcome
from tests.simulated import KEY, inference

SCENARIO = Scenario(ttft=Duration(0.05), tpot=Duration(0.02), tokens=6)
SIMULATE = [sys.executable, "-m", "agent.cli", "simulate", "--listen", "127.0.0.1:0", "--json"]


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setenv("SSL_CERT_FILE", str(LOOPBACK_PEM))
    tls_context.cache_clear()
    yield
    tls_context.cache_clear()


@asynccontextmanager
async def watched(seen: list[Seen], *, tls: bool, host: str = "127.0.0.1") -> AsyncIterator[str]:
    server = Simulator(Script(default=SCENARIO), tls=server_context() if tls else None, on_stream=seen.append)
    url = await server.start(host, 0)
    try:
        yield url
    finally:
        await server.close()


async def measured(url: str, count: int) -> list[Stream]:
    arrivals: dict[str, tuple[TokenArrival, ...]] = {}

    def note(target: Assignment, came: list[TokenArrival]) -> None:
        arrivals[target.model or ""] = tuple(came)

    probes = Probes(SystemClock(), lambda _: KEY, observe=note)
    try:
        results = [(str(at), await probes.run(inference(url, str(at)))) for at in range(count)]
    finally:
        await probes.close()
    return [Stream(result=result, arrivals=arrivals.get(name, ())) for name, result in results]


@pytest.mark.anyio
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.usefixtures("trusted")
async def test_what_the_servers_kernel_saw_is_what_the_agent_measured(*, tls: bool) -> None:
    seen: list[Seen] = []
    async with watched(seen, tls=tls) as url:
        streams = await measured(url, 6)
    assert [stream.result.outcome for stream in streams] == [Outcome.OK] * 6
    assert [one.model for one in seen] == [str(at) for at in range(6)]
    found = [compare(stream, one) for stream, one in zip(streams, seen, strict=True)]
    good = [one for one in found if isinstance(one, Errors)]
    assert len(good) == 6, found
    # The machine may hold up any of them, but not all: what is wrong by design would be wrong each time.
    assert min(abs(one.ttft_seconds) for one in good) < 0.001
    assert min(abs(gap) for one in good for gap in one.gaps_seconds) < 0.001


@pytest.mark.anyio
async def test_moments_are_the_kernels_and_not_before_the_scripts() -> None:
    seen: list[Seen] = []
    async with watched(seen, tls=False) as url:
        await measured(url, 2)
    assert len(seen) == 2
    for one in seen:
        assert one.clock is (ClockSource.KERNEL if sys.platform == "linux" else ClockSource.USER)
        assert len(one.sent_ns) == SCENARIO.tokens
        assert list(one.sent_ns) == sorted(one.sent_ns)
        assert one.sent_ns[0] - one.received_ns >= SCENARIO.ttft * 1e9 * 0.99


@pytest.mark.anyio
async def test_a_client_that_leaves_in_the_middle_leaves_the_server_well() -> None:
    seen: list[Seen] = []
    async with watched(seen, tls=False) as url:
        port = int(url.split(":")[2].partition("/")[0])
        client = await anyio.connect_tcp("127.0.0.1", port)
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        assert (await client.receive(12)).startswith(b"HTTP/1.1 200")
        await client.aclose()
        (stream,) = await measured(url, 1)
    assert stream.result.outcome is Outcome.OK


@pytest.mark.anyio
async def test_a_client_that_speaks_no_tls_is_let_go() -> None:
    async with watched([], tls=True) as url:
        port = int(url.split(":")[2].partition("/")[0])
        async with await anyio.connect_tcp("127.0.0.1", port) as client:
            await client.send(b"GET / HTTP/1.1\r\n\r\n")
            with anyio.fail_after(10), suppress(anyio.BrokenResourceError):
                assert b"HTTP" not in b"".join([piece async for piece in client])


@pytest.mark.anyio
@pytest.mark.usefixtures("trusted")
async def test_the_certificate_serves_without_a_log_too() -> None:
    server = Simulator(Script(default=SCENARIO), tls=server_context())
    url = await server.start("127.0.0.1", 0)
    try:
        (stream,) = await measured(url, 1)
    finally:
        await server.close()
    assert url.startswith("https://")
    assert stream.result.outcome is Outcome.OK


@pytest.mark.anyio
async def test_nobody_trusts_the_certificate_who_was_not_told_to() -> None:
    async with watched([], tls=True) as url:
        (stream,) = await measured(url, 1)
    assert stream.result.outcome is Outcome.TLS


def test_the_certificate_can_sign_no_other_and_names_loopback_alone() -> None:
    context = ssl.create_default_context(cafile=str(LOOPBACK_PEM))
    assert context.get_ca_certs() == []  # none of an authority
    decoded = ssl._ssl._test_decode_cert(str(LOOPBACK_PEM))  # type: ignore[attr-defined]  # noqa: SLF001  ssl reads no file otherwise
    assert decoded["subjectAltName"] == (
        ("DNS", "localhost"),
        ("IP Address", "127.0.0.1"),
        ("IP Address", "0:0:0:0:0:0:0:1"),
    )


def test_simulate_logs_streams_over_tls_and_ends_with_its_input(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    command = [*SIMULATE, "--tls", "--log", str(log), "--until-eof", "--ttft", "20ms", "--tokens", "4"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        probe = [sys.executable, "-m", "agent.cli", "probe", url, "--model", "logged", "--json"]
        subprocess.run(
            probe, check=True, env={**os.environ, "SSL_CERT_FILE": str(LOOPBACK_PEM)}, stdout=subprocess.DEVNULL
        )
        process.stdin.close()
        assert process.wait(10) == 0
    (line,) = log.read_bytes().splitlines()
    seen = msgspec.json.decode(line, type=Seen)
    assert (seen.model, len(seen.sent_ns)) == ("logged", 4)


def test_a_log_that_cannot_be_written_is_wrong_usage(tmp_path: Path) -> None:
    done = subprocess.run([*SIMULATE, "--log", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"isochrone-agent simulate: --log {tmp_path}: Is a directory\n"
