"""The catalogue finds a region by its name, guesses one from a host name, and says nothing where it is unsure."""

import subprocess
import sys

import pytest

from isochrone.catalogue import Kind, edge, find, guess, match, regions
from isochrone.physics import great_circle_meters


def test_every_place_has_a_name_of_its_own_and_stands_on_the_globe() -> None:
    names = [one.name.lower() for one in regions()]
    assert len(names) == len(set(names)) == 492
    for one in regions():
        assert -90 <= one.latitude <= 90
        assert -180 <= one.longitude <= 180
        assert one.city
        assert len(one.country) == 2
        assert one.country.isupper()
        assert one.ping_url is None or one.ping_url.startswith("https://")
        assert all((one.region_source, one.coordinates_source, one.ping_source))


def test_each_kind_of_place_is_there() -> None:
    counts = {kind: sum(one.kind is kind for one in regions()) for kind in Kind}
    assert counts == {Kind.REGION: 166, Kind.BEHIND_ANYCAST: 18, Kind.EDGE: 308}


@pytest.mark.parametrize(
    ("one", "other", "kilometres"),
    [
        ("aws/eu-central-1", "azure/germanywestcentral", 20),
        ("aws/us-east-1", "gcp/us-east4", 50),
        ("aws/ap-southeast-1", "azure/southeastasia", 50),
        ("aws/ap-northeast-1", "gcp/asia-northeast1", 50),
        ("aws/eu-west-2", "azure/uksouth", 100),
        ("aws/sa-east-1", "gcp/southamerica-east1", 50),
        ("aws/ap-southeast-2", "gcp/australia-southeast1", 50),
        ("cloudflare/FRA", "hetzner/nbg1", 250),
    ],
)
def test_providers_agree_on_where_a_city_stands(one: str, other: str, kilometres: float) -> None:
    a, b = find(one), find(other)
    distance = great_circle_meters(a.latitude, a.longitude, latitude_b=b.latitude, longitude_b=b.longitude)
    assert distance <= kilometres * 1000


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("aws/eu-central-1", "aws/eu-central-1"),
        ("eu-central-1", "aws/eu-central-1"),
        (" EU-Central-1 ", "aws/eu-central-1"),
        ("eastus", "azure/eastus"),
        ("cloudflare/mia", "cloudflare/MIA"),
        ("ovh/hil", "ovh/hil"),
    ],
)
def test_a_region_is_found_by_its_full_name_or_a_bare_one_that_is_its_own(name: str, found: str) -> None:
    assert find(name).name == found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hil", "the name of several regions: write hetzner/hil or ovh/hil"),
        ("ams", "write fly/ams or cloudflare/AMS"),
        ("eu-centrl-1", "did you mean aws/eu-central-1 or"),
        ("paris", "did you mean aws/eu-west-3 or gcp/europe-west9 or"),
        ("aws/us-east-9", "did you mean aws/us-east-"),
        ("qqqqqq", "'qqqqqq' is no region of the catalogue"),
        ("", "'' is no region of the catalogue"),
    ],
)
def test_a_wrong_name_is_refused_with_what_was_meant_perhaps(name: str, words: str) -> None:
    with pytest.raises(ValueError, match="region") as caught:
        find(name)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 160


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("bedrock-runtime.eu-central-1.amazonaws.com", "aws/eu-central-1"),
        ("BEDROCK-RUNTIME.US-EAST-1.AMAZONAWS.COM.", "aws/us-east-1"),
        ("vpce-0a1b.bedrock-runtime.us-west-2.vpce.amazonaws.com", "aws/us-west-2"),
        ("bedrock-mantle.us-east-2.api.aws", "aws/us-east-2"),
        ("europe-west4-aiplatform.googleapis.com", "gcp/europe-west4"),
        ("europe-west1-aiplatform.googleapis.com", "gcp/europe-west1"),
        ("europe-west10-aiplatform.googleapis.com", "gcp/europe-west10"),
        ("aiplatform.us-east5.rep.googleapis.com", "gcp/us-east5"),
        ("llm-1234567890.europe-west9.run.app", "gcp/europe-west9"),
        ("eastus.api.cognitive.microsoft.com", "azure/eastus"),
        ("my-model.eastus2.models.ai.azure.com", "azure/eastus2"),
        ("contoso-swedencentral.openai.azure.com", "azure/swedencentral"),
        ("us-ord-1.linodeobjects.com", "akamai-linode/us-ord"),
        ("fsn1-speed.hetzner.com", "hetzner/fsn1"),
        ("gra.proof.ovh.net", "ovh/gra"),
        ("api.openai.com", None),
        ("generativelanguage.googleapis.com", None),
        ("aiplatform.googleapis.com", None),
        ("contoso.openai.azure.com", None),
        ("from-eastus-to-westus.openai.azure.com", None),
        ("contosoeastus.openai.azure.com", None),
        ("us-east-1.api.example", None),
        ("eu-central-1.notamazonaws.com", None),
        ("europe-west4.amazonaws.com", None),
        ("europe-west40-aiplatform.googleapis.com", None),
        ("amazonaws.com", None),
        ("127.0.0.1", None),
        ("::1", None),
        ("", None),
    ],
)
def test_a_region_is_guessed_from_a_clouds_host_name_alone(host: str, region: str | None) -> None:
    found = guess(host)
    assert (None if found is None else found.name) == region


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("East US", "azure/eastus"),
        ("Sweden Central", "azure/swedencentral"),
        ("us-east-1", "aws/us-east-1"),
        ("europe-west4", "gcp/europe-west4"),
        ("us", None),
        ("global", None),
        ("edge:MIA", None),
        ("MIA", None),
        ("hil", None),
        ("", None),
    ],
)
def test_a_providers_word_is_matched_where_it_is_certain(text: str, region: str | None) -> None:
    found = match(text)
    assert (None if found is None else found.name) == region


def test_an_airport_tells_the_edge() -> None:
    found = edge("MIA")
    assert found is not None
    assert (found.city, found.kind) == ("Miami", Kind.EDGE)
    assert edge("QQQ") is None


@pytest.mark.parametrize("module", ["agent.cli", "agent.app", "agent.commands.run", "agent.simulator"])
def test_the_agent_proper_never_reads_it(module: str) -> None:
    """It costs memory that a long-running agent has no use for."""
    code = f"import sys, {module}; raise SystemExit('isochrone.regiondata' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
