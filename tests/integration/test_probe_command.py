"""`isochrone-agent probe` and `simulate`, as a person starts them."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

AGENT = [sys.executable, "-W", "error", "-c", "from agent.cli import main; raise SystemExit(main())"]
LIMITED = '[scenarios.limited]\nstatus = 429\nretry_after = "20"\n'
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give a simulator that was started by its command, and stop it as Ctrl-C does."""
    script = tmp_path_factory.mktemp("script") / "script.toml"
    script.write_text("[scenarios.unauthorized]\nstatus = 401\n[scenarios.cut]\ncut_after = 2\n" + LIMITED)
    options = ["--ttft", "30ms", "--tpot", "10ms", "--tokens", "8", "--rtt", "20ms", "--script", str(script)]
    command = [*AGENT, "simulate", "--listen", "127.0.0.1:0", "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def probe(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*AGENT, "probe", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    )


def test_a_waterfall_shows_where_the_time_went(url: str) -> None:
    done = probe(url, "--model", "any")
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("TCP", "wait", "first token", "stream", "network", "model", "streaming", "tokens/s"):
        assert word in done.stdout
    assert "\x1b" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_json_is_one_result_per_line_with_every_field(url: str) -> None:
    done = probe(url, "--model", "any", "--count", "3", "--warm", "--json")
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["seq"] for result in results] == [0, 1, 2]
    assert {result["connection"] for result in results} == {"warm"}
    assert {result["outcome"] for result in results} == {"ok"}
    assert all(result["ttft_seconds"] >= 0.05 for result in results)
    assert "pings" in results[0]


def test_a_location_brings_the_floor_into_picture_and_json(url: str) -> None:
    """The simulator stands on this machine: a round trip to the other side of the world is faster than light."""
    places = ["--location", "aws/eu-central-1", "--endpoint-location=-33.87,151.21"]
    done = probe(url, "--model", "any", *places)
    text = " ".join(done.stdout.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"floor 16\d ms: light in fibre over 16,\d\d\d km to -33.87,151.21", text)
    assert "note: RTT" in text
    assert max(len(line) for line in done.stdout.splitlines()) <= 80

    result = json.loads(probe(url, "--json", "--module-option", "count=1", *places).stdout)
    assert result["flags"] == ["below_floor"]
    assert result["endpoint_location_source"] == "given"
    assert result["efficiency"] == pytest.approx(result["network_rtt_floor_seconds"] / result["rtt_seconds"])
    assert result["great_circle_distance_meters"] == pytest.approx(16_480_000, rel=0.01)


def test_with_one_location_the_option_for_the_other_is_named(url: str) -> None:
    done = probe(url, "--module-option", "count=1", "--location", "50.11,8.68")
    assert done.returncode == 0
    assert "--endpoint-location" in done.stdout
    alone = json.loads(probe(url, "--json", "--module-option", "count=1", "--location", "50.11,8.68").stdout)
    assert (alone["network_rtt_floor_seconds"], alone["efficiency"], alone["flags"]) == (None, None, [])
    unasked = json.loads(probe(url, "--json", "--module-option", "count=1").stdout)
    assert "efficiency" not in unasked


def test_several_probes_end_with_a_summary(url: str) -> None:
    done = probe(url, "--model", "any", "--count", "2", "--cold")
    assert "2 probes: 2 ok, none failed" in done.stdout


@pytest.mark.parametrize(("method", "least"), [("tcp", 0), ("http", 0.02)])
def test_without_a_model_the_round_trip_alone_is_measured(url: str, method: str, least: float) -> None:
    done = probe(url, "--json", "--module-option", f"method={method}", "--module-option", "count=2")
    result = json.loads(done.stdout)
    assert (result["prober"], result["outcome"], result["pings"]["sent"]) == ("rtt", "ok", 2)
    assert result["rtt_seconds"] >= least


@pytest.mark.parametrize(("model", "words"), [("unauthorized", "failed: auth: HTTP 401"), ("cut", "failed: truncated")])
def test_a_failed_probe_exits_1_and_says_why(url: str, model: str, words: str) -> None:
    done = probe(url, "--model", model)
    assert done.returncode == 1
    assert words in done.stdout


def test_debug_tells_each_moment_and_no_key(url: str) -> None:
    done = probe(url, "--model", "any", "--debug", "--api-key-env", "THE_KEY", THE_KEY="sk-secret\n")
    assert done.returncode == 0
    assert "first_token" in done.stderr
    assert "sk-secret" not in done.stdout + done.stderr


def test_a_reader_who_leaves_ends_the_command_without_a_complaint(url: str) -> None:
    command = [*AGENT, "probe", url, "--count", "300", "--json", "--module-option", "count=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=BUFFERED) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["seq"] == 0
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) == 130


def test_a_reader_who_was_never_there_costs_no_complaint_at_the_end(tmp_path: Path) -> None:
    """What is small is written when the program ends: then Python itself would complain."""
    file = tmp_path / "agent.toml"
    file.write_text('collector_url = "http://127.0.0.1:8420"\ncredential_file = "/run/credential"\n')
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as nobody:
        command = [*AGENT, "check-config", str(file)]
        done = subprocess.run(
            command, stdout=nobody, stderr=subprocess.PIPE, text=True, timeout=60, check=False, env=BUFFERED
        )
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["api.openai.com/v1"], "write http:// or https:// and a host"),
        (["ftp://x/v1"], "write http:// or https:// and a host"),
        (["http://"], "write http:// or https:// and a host"),
        (["http://user:word@x/"], "must not hold a user or password"),
        (["http://x/", "--api-key-env", "NOT_SET_ANYWHERE"], "export NOT_SET_ANYWHERE="),
        (["http://x/", "--module-option", "speed=1"], "write KEY=VALUE with one of timeout, method, count"),
        (["http://x/", "--module-option", "count=many"], "rtt.count"),
        (["http://x/", "--module-option", "method=tls"], "method=tls measures by tls, and the url is http://"),
        (["http://x/", "--module-option", "timeout=5"], "write a number and a unit"),
        (["http://x/", "--warm"], "--warm goes with --model"),
        (["http://x/", "--model", "m m"], "$.model"),
        (["http://x/", "--count", "0"], "not a count"),
        (["http://x/", "--cold", "--warm"], "not allowed with"),
        (["http://x/", "--location", "91,0"], "--location: '91,0' is no place: write LAT,LON in degrees"),
        (["http://x/", "--location", "eu-centrl-1"], "did you mean aws/eu-central-1"),
        (["http://x/", "--location", "hil"], "write hetzner/hil or ovh/hil"),
        (["http://x/", "--location", "0,0", "--endpoint-location", "x"], "--endpoint-location: 'x' is no region"),
        (["http://x/", "--endpoint-location", "0,0"], "goes with --location"),
    ],
)
def test_wrong_usage_exits_2_with_a_clear_line(arguments: list[str], words: str) -> None:
    done = probe(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", "nowhere"], "write HOST:PORT"),
        (["--listen", "192.0.2.1:80"], "--listen 192.0.2.1:80"),
        (["--ttft", "soon"], "write a number and a unit"),
        (["--jitter", "2"], "not a share"),
        (["--tokens", "-1"], "not a count"),
        (["--script", "/nowhere/script.toml"], "No such file"),
    ],
)
def test_a_simulator_that_cannot_start_exits_2(arguments: list[str], words: str) -> None:
    done = subprocess.run([*AGENT, "simulate", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("option", "version"), [("-4", 4), ("--ipv4", 4)])
def test_one_ip_version_alone_is_dialled(url: str, option: str, version: int) -> None:
    done = probe(url.replace("127.0.0.1", "localhost"), option, "--json")
    assert (json.loads(done.stdout)["ip_version"], done.returncode) == (version, 0)


@pytest.mark.parametrize("option", ["-6", "--ipv6"])
def test_the_other_ip_version_is_not_taken_instead(url: str, option: str) -> None:
    done = probe(url.replace("127.0.0.1", "localhost"), option, "--json")
    result = json.loads(done.stdout)  # the simulator listens on 127.0.0.1; a host without IPv6 has no ::1
    assert result["outcome"] in {"connect", "dns", "other"}
    assert (result["ip_version"], done.returncode) != (4, 0)
    assert result["ip_version"] in {6, None}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-6", "http://127.0.0.1:9"), "--ipv6: 127.0.0.1 is an IPv4 address: leave the option out, or give a name"),
        (("-4", "http://[::1]:9"), "--ipv4: ::1 is an IPv6 address: leave the option out, or give a name"),
        (("-4", "-6", "http://localhost:9"), "not allowed with argument"),
    ],
)
def test_an_ip_version_that_cannot_be_is_wrong_usage(arguments: tuple[str, ...], words: str) -> None:
    done = probe(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_http2_that_would_change_nothing_is_refused() -> None:
    done = probe("https://127.0.0.1:9", "--http2")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--http2 changes nothing of round trips by tcp" in done.stderr


def test_an_endpoint_that_asks_to_wait_is_asked_once_and_the_rest_is_told(url: str) -> None:
    done = probe(url, "--model", "limited", "--count", "3", "--json")
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(result["outcome"], result["http_status"]) for result in results] == [
        ("rate_limited", 429),
        ("rate_limited", None),
        ("rate_limited", None),
    ]
    assert "retry after 20 s" in results[0]["reason"]
    assert results[2]["reason"].startswith("not attempted: the endpoint asked to wait, ")
    told = " ".join(probe(url, "--model", "limited", "--count", "2").stdout.split())
    assert "not attempted: the endpoint asked to wait, " in told
    assert "s more (Retry-After)" in told
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--module-option", "method=udp"), "there are: tcp, http, tls, icmp"),
        (("--location", ""), "write LAT,LON in degrees"),
        (("--http2",), "--http2 is agreed on by TLS: it takes an https:// URL"),
    ],
)
def test_a_wrong_word_is_told_with_what_would_be_right(arguments: tuple[str, ...], words: str) -> None:
    done = probe("http://127.0.0.1:9", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
