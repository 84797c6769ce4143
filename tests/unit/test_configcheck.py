"""A target file is taken whole or refused with every problem: file, line, key, value, and what would be right."""

# ruff: noqa: E501  the expected lines stand here as they are printed

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.config import ApiKey, Targets
from isochrone.configfile import MAX_FILE_BYTES, ConfigFileError, load_targets
from isochrone.outcome import Connection, Prober, RttMethod

EXAMPLE = Path(__file__).parents[2] / "deploy" / "targets.example.yml"
MODULES = """modules:
  rtt: {prober: rtt, interval: 30s, timeout: 5s}
  chat: {prober: inference, interval: 60s, timeout: 50s}
"""
ENDPOINT = """endpoints:
  - name: near
    url: https://near.example.org/v1
    provider: openai
    model: m
    modules: [rtt, chat]
"""
SECRET = "sk-THIS-IS-SECRET-0123456789"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigFileError) as refused:
        load_targets(text, "targets.yml")
    assert str(refused.value) == "\n".join(str(problem) for problem in refused.value.problems)
    return [str(problem) for problem in refused.value.problems]


def test_the_example_is_good() -> None:
    targets = load_targets(EXAMPLE.read_text(), EXAMPLE.name)
    assert set(targets.modules) == {"rtt", "chat", "chat_warm"}
    assert targets.endpoints[0].api_key == ApiKey(env="OPENAI_API_KEY")
    assert targets.endpoints[0].agents.regions == ("eu-*", "ap-*")
    assert targets.sites[0].modules == ("rtt",)
    assert targets.regions[0].country == "DE"


def test_the_scheme_of_an_endpoint_that_speaks_http2_counts_in_any_case() -> None:
    text = MODULES + ENDPOINT.replace("https://near", "HTTPS://near") + "    http2: true\n"
    assert load_targets(text, "targets.yml").endpoints[0].http2


@pytest.mark.parametrize("url", ["https://near.example.org/v1", "'https://[2001:db8::1]/v1'"])
def test_an_endpoint_may_be_bound_to_one_ip_version(url: str) -> None:
    text = MODULES + ENDPOINT.replace("https://near.example.org/v1", url) + "    ip_version: 6\n"
    assert load_targets(text, "targets.yml").endpoints[0].ip_version == 6
    assert load_targets(MODULES + ENDPOINT, "targets.yml").endpoints[0].ip_version is None


def test_values_become_what_the_model_says() -> None:
    targets = load_targets(MODULES + ENDPOINT, "targets.yml")
    rtt, chat = targets.modules["rtt"], targets.modules["chat"]
    assert (rtt.prober, rtt.interval, rtt.timeout, rtt.rtt) == (Prober.RTT, 30, 5, None)
    assert chat.prober is Prober.INFERENCE
    text = MODULES.replace("timeout: 5s}", "timeout: 5s, rtt: {method: http, count: 3, spacing: 50ms}}")
    text = text.replace("timeout: 50s}", "timeout: 50s, inference: {connection: warm, stall_timeout: 2m}}")
    targets = load_targets(text + ENDPOINT, "targets.yml")
    assert targets.modules["rtt"].rtt is not None
    assert targets.modules["rtt"].rtt.method is RttMethod.HTTP
    assert targets.modules["chat"].inference is not None
    assert targets.modules["chat"].inference.connection is Connection.WARM
    assert targets.modules["chat"].inference.stall_timeout == 120


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("interval: 30s", "interval: 5", 2, "modules.rtt.interval: 5 is not a duration: write a number and a unit, as in 500ms, 30s, 5m, 1h, 1d"),
        ("interval: 30s", "interval: '5'", 2, "modules.rtt.interval: '5' is not a duration: write a number and a unit, as in 500ms, 30s, 5m, 1h, 1d"),
        ("interval: 30s", "interval: 4s", 2, "modules.rtt.interval: 4s is shorter than the timeout (5s)"),
        ("interval: 30s", "interval: 2d", 2, "modules.rtt.interval: 2d is longer than a day (1d)"),
        ("interval: 30s, ", "", 2, "modules.rtt.interval: missing: it has no default"),
        ("timeout: 5s", "timeout: 1ms", 2, "modules.rtt.timeout: 1ms is shorter than 10ms"),
        ("prober: rtt", "prober: rrt", 2, "modules.rtt.prober: 'rrt' is not available (did you mean 'rtt'?); available: rtt, inference"),
        ("timeout: 5s", "timeout: 5s, rtt: {method: quic}", 2, "modules.rtt.rtt.method: 'quic' is not available; available: tcp, http, tls, icmp"),
        ("timeout: 5s", "timeout: 5s, rtt: {cuont: 3}", 2, "modules.rtt.rtt.cuont: unknown key (did you mean 'count'?); known here: method, count, spacing"),
        ("timeout: 5s", "timeout: 5s, rtt: {count: 0}", 2, "modules.rtt.rtt.count: 0 where a whole number >= 1 belongs"),
        ("timeout: 5s", "timeout: 5s, rtt: {count: 30}", 2, "modules.rtt.rtt: 30 samples every 200ms do not fit into the timeout (5s)"),
        ("timeout: 5s", "timeout: 5s, inference: {}", 2, "modules.rtt.inference: belongs to the prober inference, this module has rtt: leave it out"),
        ("timeout: 50s", "timeout: 50s, rtt: {}", 3, "modules.chat.rtt: belongs to the prober rtt, this module has inference: leave it out"),
        ("timeout: 50s", "timeout: 50s, inference: {stall_timeout: 0s}", 3, "modules.chat.inference.stall_timeout: 0ms is shorter than 10ms"),
        ("  rtt: {", "  R T T: {", 2, "modules.R T T: 'R T T' is no name: a-z, 0-9 and . _ / - (first a letter or digit, at most 64 characters)"),
        ("name: near", "name: Near", 5, "endpoints[0].name: 'Near' is no name: a-z, 0-9 and . _ / - (first a letter or digit, at most 64 characters)"),
        ("name: near", "name: 5", 5, "endpoints[0].name: 5 is no name: a-z, 0-9 and . _ / - (first a letter or digit, at most 64 characters)"),
        ("provider: openai", "provider: anthropc", 7, "endpoints[0].provider: 'anthropc' is not available (did you mean 'anthropic'?); available: openai, openai-completions, openai-responses, anthropic, gemini, bedrock, azure-openai, ollama, cohere, tgi, triton"),
        ("model: m", "model: 4", 8, "endpoints[0].model: 4 where text (in quotes if it looks like a number) belongs"),
        ("model: m", "model:", 8, "endpoints[0].model: nothing where text (in quotes if it looks like a number) belongs"),
        ("model: m", "modl: m", 8, "endpoints[0].modl: unknown key (did you mean 'model'?); known here: name, url, provider, model, modules, api_key, location, price, budget, agents, ip_version, http2, simulated"),
        ("modules: [rtt, chat]", "modules: rtt", 9, "endpoints[0].modules: 'rtt' where a list belongs, as in [rtt]"),
        ("modules: [rtt, chat]", "modules: []", 9, "endpoints[0].modules: is empty: name at least one module"),
        ("modules: [rtt, chat]", "modules: [rtt, caht]", 9, "endpoints[0].modules[1]: no module 'caht' (did you mean 'chat'?); there are: chat, rtt"),
        ("modules: [rtt, chat]", "modules: [rtt, rtt]", 9, "endpoints[0].modules[1]: 'rtt' stands here twice"),
        ("https://near.example.org/v1", "near.example.org", 6, "endpoints[0].url: 'near.example.org' is no address: write http:// or https:// and a host"),
        ("https://near.example.org/v1", "ftp://near.example.org", 6, "endpoints[0].url: 'ftp://near.example.org' is no address: write http:// or https:// and a host"),
        ("https://near.example.org/v1", "https://", 6, "endpoints[0].url: 'https://' is no address: write http:// or https:// and a host"),
        ("https://near.example.org/v1", "https://near.example.org:0/", 6, "endpoints[0].url: 'https://near.example.org:0/' has the port 0, which nothing can dial"),
        ("https://near.example.org/v1", "https://near.example.org:99999", 6, "endpoints[0].url: is no address: Port out of range 0-65535"),
        ("https://near.example.org/v1", "https://near.example.org/#a", 6, "endpoints[0].url: 'https://near.example.org/#a' has a #fragment, which is never sent: leave it out"),
        ("https://near.example.org/v1", "'https://near.example.org/a b'", 6, "endpoints[0].url: 'https://near.example.org/a b' has spaces or control characters: write them as %20 and the like"),
        ("model: m", "model: m\n    location: {region: eu, latitude: 91, longitude: 0}", 9, "endpoints[0].location.latitude: 91 where a number <= 90.0 belongs"),
        ("model: m", "model: m\n    location: {region: eu, latitude: 9}", 9, "endpoints[0].location.longitude: missing: latitude and longitude stand together or not at all"),
        ("model: m", "model: m\n    location: here", 9, "endpoints[0].location: 'here' where keys with values belong"),
        ("model: m", "model: m\n    budget: {usd_per_day: 1.5}", 9, "endpoints[0].budget.usd_per_day: needs a price: {input_per_million, output_per_million}"),
        ("https://near.example.org/v1", "http://near.example.org/v1\n    http2: true", 7, "endpoints[0].http2: is agreed on by TLS: it takes an https:// url"),
        ("model: m", "model: m\n    ip_version: 5", 9, "endpoints[0].ip_version: 5 is not available; available: 4, 6"),
        ("model: m", "model: m\n    ip_version: '6'", 9, "endpoints[0].ip_version: '6' is not available; available: 4, 6"),
        ("https://near.example.org/v1", "http://10.0.0.1:80/v1\n    ip_version: 6", 7, "endpoints[0].ip_version: 6 does not fit the address in the url, which is IPv4: leave it out"),
        ("https://near.example.org/v1", "'https://[2001:db8::1]/'\n    ip_version: 4", 7, "endpoints[0].ip_version: 4 does not fit the address in the url, which is IPv6: leave it out"),
        ("model: m", "model: m\n    simulated: yes", 9, "endpoints[0].simulated: 'yes' where true or false belongs"),
        ("model: m", "model: m\n    agents: {names: []}", 9, "endpoints[0].agents.names: is empty: say which agents probe, or leave it out for all"),
        ("model: m", "model: m\n    agents: {regions: []}", 9, "endpoints[0].agents.regions: is empty: say which agents probe, or leave it out for all"),
        ("model: m", "model: m\n    agents: {labels: {}}", 9, "endpoints[0].agents.labels: is empty: say which agents probe, or leave it out for all"),
        ("model: m", "model: m\n    api_key: {env: ISOCHRONE_CREDENTIAL_FILE}", 9, "endpoints[0].api_key.env: 'ISOCHRONE_CREDENTIAL_FILE' names a setting of the agent itself, not a key"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_exactly_and_alone(*, old: str, new: str, line: int, message: str) -> None:
    text = MODULES + ENDPOINT.replace("[rtt, chat]", "[chat]") if "R T T" in new else MODULES + ENDPOINT
    assert problems(text.replace(old, new, 1)) == [f"targets.yml:{line}: {message}"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("  - {name: near, url: 'http://b', provider: openai, model: m, modules: [rtt]}\n", "targets.yml:10: endpoints[1].name: 'near' is the name of endpoints[0] already"),
        ("sites:\n  - {name: near, url: 'http://b', modules: [rtt]}\n", "targets.yml:11: sites[0].name: 'near' is the name of endpoints[0] already"),
        ("sites:\n  - {name: s, url: 'http://b', modules: [chat]}\n", "targets.yml:11: sites[0].modules[0]: 'chat' asks a model (inference), and a site has none: only rtt modules"),
        ("sites:\n  - {name: s, url: 'http://b', modules: [rtt], model: m}\n", "targets.yml:11: sites[0].model: unknown key (did you mean 'modules'?); known here: name, url, modules, location, agents, ip_version"),
        ("sites:\n  - {name: s, url: 'http://10.0.0.1', modules: [rtt], ip_version: 6}\n", "targets.yml:11: sites[0].ip_version: 6 does not fit the address in the url, which is IPv4: leave it out"),
        ("regions:\n  - {name: eu, latitude: 1, longitude: 1}\n  - {name: eu, latitude: 2, longitude: 2}\n", "targets.yml:12: regions[1].name: 'eu' is the name of regions[0] already"),
        ("regions:\n  - {name: eu, latitude: 1, longitude: 1, country: Norway}\n", "targets.yml:11: regions[0].country: 'Norway' where text (in quotes if it looks like a number) matching regex '^[A-Z]{2}\\\\Z' belongs"),
        ("endpoint: []\n", "targets.yml:10: endpoint: unknown key (did you mean 'endpoints'?); known here: modules, endpoints, sites, regions"),
        ("model: x\nmodel: y\n", "targets.yml:11: model: stands here twice (first in line 10)"),
    ],
)  # fmt: skip
def test_mistakes_between_parts_are_told(more: str, message: str) -> None:
    assert problems(MODULES + ENDPOINT + more) == [message]


@pytest.mark.parametrize(
    ("item", "key"),
    [
        ("endpoints:\n  - {name: e, url: URL, provider: openai, model: m, modules: [hello]}\n", "endpoints[0]"),
        ("sites:\n  - {name: s, url: URL, modules: [hello]}\n", "sites[0]"),
    ],
)
def test_a_round_trip_by_tls_needs_https(item: str, key: str) -> None:
    hello = "  hello: {prober: rtt, interval: 30s, timeout: 5s, rtt: {method: tls}}\n"
    fault = "'hello' measures by tls, and the url is http://: write https://, or take another method"
    told = problems(MODULES + hello + item.replace("URL", "'http://b'"))
    assert told == [f"targets.yml:6: {key}.modules[0]: {fault}"]
    assert load_targets(MODULES + hello + item.replace("URL", "'https://b'"), "targets.yml").modules["hello"]


def test_all_problems_are_told_at_once_in_the_order_of_their_lines() -> None:
    text = MODULES.replace("30s", "never") + ENDPOINT.replace("chat]", "caht]").replace("openai", "opnai")
    told = problems(text.replace("https://", "ftp://"))
    assert [line.split(" ")[0] for line in told] == [
        "targets.yml:2:",
        "targets.yml:6:",
        "targets.yml:7:",
        "targets.yml:9:",
    ]


@pytest.mark.parametrize(
    "place",
    [
        f"api_key: {SECRET}",
        f"api_key: [{SECRET}]",
        f"api_key: {{value: {SECRET}}}",
        f"api_key: {{env: {SECRET}}}",
        f"api_key: {{env: A, file: {SECRET}}}",
        f"api_key: {{file: [{SECRET}]}}",
        f"key: {SECRET}",
        "api_key:",
        "api_key: {}",
    ],
)
def test_a_literal_key_is_refused_and_never_shown(place: str) -> None:
    told = problems(MODULES + ENDPOINT + f"    {place}\n") if place != "api_key:" else [place]
    assert len(told) == 1
    assert "SECRET" not in told[0]


@pytest.mark.parametrize(
    "url",
    [
        f"https://{SECRET}@near.example.org/",
        f"https://user:{SECRET}@near.example.org/",
        f"https://near.example.org/?api_key={SECRET}",
        f"https://near.example.org/?v=1&Access-Token={SECRET}#f",
        f"https://near.example.org/?sig={SECRET}",
    ],
)
def test_a_key_in_an_address_is_refused_and_never_shown(url: str) -> None:
    told = problems((MODULES + ENDPOINT).replace("https://near.example.org/v1", url))
    assert len(told) == 1
    assert "(not shown): name the key under api_key instead" in told[0]
    assert "SECRET" not in told[0]


def test_an_address_may_carry_a_version_in_its_query() -> None:
    text = (MODULES + ENDPOINT).replace("/v1", "/v1?api-version=2025-01-01")
    assert load_targets(text, "t").endpoints[0].url.endswith("api-version=2025-01-01")


def test_norway_keeps_its_name_and_plain_numbers_are_numbers() -> None:
    more = "regions:\n  - {name: no, latitude: 59.9, longitude: 10, country: NO}\n"
    region = load_targets(MODULES + ENDPOINT + more, "t").regions[0]
    assert (region.name, region.country, region.latitude, region.longitude) == ("no", "NO", 59.9, 10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "targets.yml: the file is empty: it needs at least modules and endpoints"),
        ("# nothing\n", "targets.yml: the file is empty: it needs at least modules and endpoints"),
        ("- a\n", "targets.yml:1: a list where keys with values belong"),
        ("modules: {}\n--- \nmodules: {}\n", "targets.yml:2: a second document: one file holds one"),
        ("modules:\n\t- a\n", "targets.yml:2: not YAML: "),
        ("modules: {a: 1\n", "targets.yml:2: not YAML: "),
        ("modules: \x00", "targets.yml: not YAML: "),
        ("modules: {a: 1, a: 2}\n", "targets.yml:1: modules.a: stands here twice (first in line 1)"),
        ("modules: !!python/object/apply:os.system [true]\n", "targets.yml:1: the tag tag:yaml.org,2002:python/object"),
        ("a: &a {}\nmodules: {<<: *a}\n", "targets.yml:2: merge keys (<<) are not read: write the keys out"),
        ("modules: &m {x: *m}\n", "targets.yml:1: the alias *m has no finished anchor before it"),
        ("? [a]\n: b\n", "targets.yml:1: a key must be plain text"),
        ("modules: " + "[" * 40 + "]" * 40, "targets.yml:1: nested deeper than 16 levels"),
        ("modules: " + "[" * 200_000, "targets.yml:1: n"),
        ("#" * (MAX_FILE_BYTES + 1), "targets.yml: the file is larger than 1048576 bytes"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(text: str, message: str) -> None:
    told = problems(text)
    assert len(told) == 1
    assert told[0].startswith(message)
    assert "\n" not in told[0]


def test_a_file_of_nested_aliases_is_bounded() -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    told = problems("a0: &a0 [x]\n" + "\n".join(levels) + "\n")
    assert len(told) == 1
    assert told[0].endswith("more than 100000 values, aliases written out")


def test_aliases_may_save_typing() -> None:
    text = MODULES + ENDPOINT.replace("[rtt, chat]", "&both [rtt, chat]")
    text += "  - {name: far, url: 'http://b', provider: openai, model: m, modules: *both}\n"
    assert load_targets(text, "t").endpoints[1].modules == ("rtt", "chat")


def told_or_loaded(text: str) -> list[str] | Targets:
    try:
        return load_targets(text, "t")
    except ConfigFileError as refused:
        return [str(problem) for problem in refused.problems]


@given(st.text(max_size=200))
@settings(max_examples=200)
def test_no_text_does_anything_but_load_or_be_refused(text: str) -> None:
    assert told_or_loaded(text)


@given(st.data())
@settings(max_examples=200)
def test_a_damaged_file_loads_or_is_refused_in_short_printable_lines(data: st.DataObject) -> None:
    text = MODULES + ENDPOINT
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    told = told_or_loaded(text[:start] + data.draw(st.text(max_size=10)) + text[end:])
    if isinstance(told, list):
        assert told
        assert all(line.isprintable() and len(line) < 400 for line in told)
