"""What an operator's policy makes of a configuration from outside: refused with what to write, or narrowed."""

import socket
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.addresses import parse_literal, special_kind, unwrapped
from agent.config import parse_origin
from agent.policy import Policy
from isochrone.config import AgentConfig, ApiKey, Assignment, Duration, InferenceOptions, Module, Provider, TokenPrice
from isochrone.outcome import Prober

METADATA = "169.254.169.254"


def target(
    url: str = "https://api.example.org/v1",
    *,
    key: str | None = None,
    interval: float = 60,
    max_output_tokens: int = 32,
    price: TokenPrice | None = None,
    prober: Prober = Prober.INFERENCE,
) -> Assignment:
    inference = InferenceOptions(max_output_tokens=max_output_tokens) if prober is Prober.INFERENCE else None
    return Assignment(
        endpoint="e",
        module="m",
        url=url,
        options=Module(prober=prober, interval=Duration(interval), timeout=Duration(30), inference=inference),
        provider=Provider.OPENAI,
        model="x",
        api_key=None if key is None else ApiKey(env=key),
        price=price,
    )


@pytest.mark.parametrize(
    ("url", "allow", "allowed"),
    [
        ("https://api.example.org/v1", (), True),
        ("https://api.example.org/v1", ("https://api.example.org:443",), True),
        ("https://API.example.org:443/v1", ("https://api.example.org:443",), True),
        ("http://api.example.org/v1", ("https://api.example.org:443",), False),
        ("https://api.example.org:8443/v1", ("https://api.example.org:443",), False),
        ("https://api.example.org.evil.example/v1", ("https://api.example.org:443",), False),
        ("https://api.example.org@evil.example/v1", ("https://api.example.org:443",), False),
        ("http://[::1]:8000/", ("http://[::1]:8000",), True),
        ("file:///etc/passwd", (), False),
        ("https://", (), False),
        ("https://host:99999/", (), False),
        ("http://host:0/", ("http://host:80",), False),
        ("https://user:word@host/", (), False),
        ("https://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example/", ("https://xn--bcher-kva.example:443",), True),
    ],
)
def test_only_listed_origins_are_probed_and_only_over_http(*, url: str, allow: tuple[str, ...], allowed: bool) -> None:
    assert (Policy(allow=allow).problems(target(url)) == []) == allowed


@pytest.mark.parametrize("name", ["ISOCHRONE_CREDENTIAL_FILE", "isochrone_anything"])
def test_no_setting_of_the_agent_goes_out_as_a_key(name: str) -> None:
    assert Policy().problems(target(key=name)) == [f"api_key names {name}, a setting of the agent itself"]
    assert Policy().problems(target(key="OPENAI_API_KEY")) == []


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.9.10", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", METADATA),
        *("224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.0.192", "100.100.100.200", "198.18.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:a9fe:a9fe::1", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1"),
        *("64:ff9b:1::a00:1", "::127.0.0.1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
    ],
)
def test_what_is_not_public_is_told_by_its_kind(address: str) -> None:
    assert special_kind(unwrapped(ip_address(address))) is not None
    refusal = Policy().address_refusal(parse_origin("https://api.example.org"), ("93.184.216.34", address))
    assert refusal is not None
    assert refusal.startswith("api.example.org stands for ")
    assert "write allow_private = [" in refusal


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"]
)
def test_public_addresses_are_dialled_also_through_nat64(address: str) -> None:
    assert Policy().address_refusal(parse_origin("https://api.example.org"), (address,)) is None


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("2852039166", METADATA),
        ("0xa9fea9fe", METADATA),
        ("0xA9.0xFE.0xA9.0xFE", METADATA),
        ("0251.0376.0251.0376", METADATA),
        ("169.254.43518", METADATA),
        ("127.1", "127.0.0.1"),
        ("127.1.", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("::ffff:a9fe:a9fe", "::ffff:169.254.169.254"),
        ("example.org", None),
        ("1.2.3.4.5", None),
        ("256.1.1.1", None),
        ("4294967296", None),
        ("08", None),
        ("1..2", None),
        ("1.2.3.4x", None),
    ],
)
def test_an_address_is_known_in_every_form(host: str, address: str | None) -> None:
    assert parse_literal(host) == (None if address is None else ip_address(address))


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.lists(st.sampled_from("doh"), min_size=4, max_size=4))
def test_addresses_are_read_as_the_system_reads_them(number: int, parts: int, forms: list[str]) -> None:
    heads = [number >> 8 * (3 - place) & 0xFF for place in range(parts - 1)]
    numbers = [*heads, number & (1 << 8 * (5 - parts)) - 1]
    write = {"d": str, "o": lambda n: f"0{n:o}", "h": hex}
    text = ".".join(write[form](part) for form, part in zip(forms, numbers, strict=False))
    assert str(parse_literal(text)) == socket.inet_ntoa(socket.inet_aton(text))


@pytest.mark.parametrize(
    ("url", "policy", "words"),
    [
        ("http://127.0.0.1:1/v1", Policy(), "127.0.0.1 is a loopback address: to let it be probed write allow_private"),
        ("http://2852039166/v1", Policy(), f"2852039166 stands for {METADATA}, which is a link-local or metadata"),
        ("http://[::ffff:10.0.0.1]/", Policy(), "stands for 10.0.0.1, which is a private address"),
        ("http://localhost:1/", Policy(), "localhost stands for 127.0.0.1, which is a loopback address"),
        ("http://a.localhost.:1/", Policy(), "a loopback address"),
        ("http://127.0.0.1:1/v1", Policy(allow_private=("127.0.0.0/8",)), None),
        ("http://127.0.0.1:1/v1", Policy(allow_private=("10.0.0.0/8", "127.0.0.1/32")), None),
        ("http://127.0.0.1:1/v1", Policy(allow=("http://127.0.0.1:1",)), None),
        ("http://127.0.0.1:2/v1", Policy(allow=("http://127.0.0.1:1",)), "127.0.0.1:2 is not in this agent's allow"),
        ("http://localhost:1/v1", Policy(allow=("http://localhost:1",)), None),
        (f"http://{METADATA}/", Policy(allow_private=("0.0.0.0/0", "::/0")), "a link-local or metadata address"),
        (f"http://{METADATA}/", Policy(allow_private=("169.254.169.254/32",)), None),
        (f"http://[::ffff:{METADATA}]/", Policy(allow_private=("0.0.0.0/0", "::/0")), "metadata address"),
        ("http://[fd00:ec2::254]/", Policy(allow_private=("0.0.0.0/0", "::/0")), "metadata address"),
        ("http://[fd00::1]/", Policy(allow_private=("0.0.0.0/0", "::/0")), None),
    ],
)
def test_a_private_address_is_refused_unless_the_operator_wrote_it(url: str, policy: Policy, words: str | None) -> None:
    problems = policy.problems(target(url))
    assert (problems == []) == (words is None), problems
    assert words is None or words in problems[0]


def test_a_name_may_be_opened_for_private_addresses_but_never_for_metadata() -> None:
    origin = parse_origin("http://llm.internal:8000")
    policy = Policy(allow=("http://llm.internal:8000",), allow_private=("llm.internal",))
    assert policy.address_refusal(origin, ("10.0.0.1", "127.0.0.1")) is None
    assert policy.address_refusal(origin, (METADATA,)) is not None
    assert Policy(allow=policy.allow).address_refusal(origin, ("10.0.0.1",)) is not None


def test_a_key_outside_the_table_is_a_problem_of_a_prompt_and_none_of_a_round_trip() -> None:
    policy = Policy(keys={"A_KEY": ("https://api.example.org:443",)})
    assert policy.problems(target(key="A_KEY")) == []
    assert "the key B_KEY is not in the table [keys]" in policy.problems(target(key="B_KEY"))[0]
    assert "is bound to https://api.example.org:443" in policy.problems(target("https://b.example", key="A_KEY"))[0]
    assert policy.problems(target("https://b.example", key="A_KEY", prober=Prober.RTT)) == []


def test_money_without_a_price_cannot_be_counted() -> None:
    policy = Policy(max_usd_per_day=1.0)
    price = TokenPrice(input_per_million=1, output_per_million=1)
    assert "give the endpoint a price, or the policy min_usd_per_million_tokens" in policy.problems(target())[0]
    assert policy.problems(target(price=price)) == policy.problems(target(prober=Prober.RTT)) == []
    assert Policy(max_usd_per_day=1.0, min_usd_per_million_tokens=1.0).problems(target()) == []


def test_an_interval_is_raised_and_tokens_are_lowered_and_both_are_told() -> None:
    policy = Policy(min_interval=10, max_output_tokens=16)
    asked = target(interval=0.001, max_output_tokens=4096)
    given = policy.narrowed(asked)
    assert (given.options.interval, given.options.inference) == (10, InferenceOptions(max_output_tokens=16))
    assert policy.cuts(asked) == [
        "interval 1ms becomes 10s by this agent's policy (min_interval)",
        "max_output_tokens 4096 becomes 16 by this agent's policy",
    ]
    within = target(interval=10, max_output_tokens=16)
    assert policy.narrowed(within) is within
    assert policy.cuts(within) == policy.problems(within) == []


def test_the_default_of_a_module_is_lowered_too() -> None:
    module = Module(prober=Prober.INFERENCE, interval=Duration(60), timeout=Duration(30))
    asked = Assignment(endpoint="e", module="m", url="https://a.example", options=module)
    assert Policy(max_output_tokens=8).narrowed(asked).options.inference == InferenceOptions(max_output_tokens=8)


def test_a_configuration_is_reviewed_as_a_whole() -> None:
    good, bad, fast = target(), target("http://10.0.0.1/"), target(interval=1)
    config = AgentConfig(revision=7, agent="a", agent_region="eu", targets=(good, bad, fast))
    reviewed = Policy(min_interval=5).review(config)
    assert reviewed.config.revision == 7
    assert [one.options.interval for one in reviewed.config.targets] == [60, 60, 5]
    assert [line.partition(": ")[0] for line in reviewed.refused] == ["e m"]
    assert reviewed.narrowed == ("e m: interval 1s becomes 5s by this agent's policy (min_interval)",)
