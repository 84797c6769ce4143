"""docker-compose.yml fits its own parts: users and secrets, agents and targets, mounts and files."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from deploy.compose import stack

ROOT = Path(__file__).parents[2]
STACK: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
TARGETS: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose/config/targets.yml").read_text(encoding="utf-8"))
AGENTS = {name: service for name, service in SERVICES.items() if name.startswith("agent-")}
HOSTS = {urlsplit(one["url"]).hostname for one in (*TARGETS["endpoints"], *TARGETS["sites"])}


def user_of(service: dict[str, Any]) -> int:
    """Return the number of the user; our own images say it themselves."""
    return int(service["user"].partition(":")[0]) if "user" in service else stack.ISOCHRONE


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_can_do_no_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert user_of(service) > 0
    assert "user" in service or "build" in service


@pytest.mark.parametrize("name", sorted({*SERVICES} - {"migrate"}))
def test_a_service_says_whether_it_is_well(name: str) -> None:
    service = SERVICES[name]
    assert "build" in service or "healthcheck" in service
    check = service.get("healthcheck", {"test": ["CMD"]})["test"]
    assert check[0] == "CMD", "needs a shell"


def test_nobody_but_this_machine_reaches_the_ports() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 4
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert "ports" not in SERVICES["postgres"]


def test_every_secret_is_made_for_the_user_that_reads_it() -> None:
    assert STACK["secrets"].keys() == stack.new_secrets().keys() == stack.READERS.keys()
    for name, secret in STACK["secrets"].items():
        assert ROOT / secret["file"] == stack.SECRETS / name
    used = {(secret, user_of(service)) for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(stack.READERS.items())


def test_every_image_that_is_built_here_is_built_once() -> None:
    own = {service["image"] for service in SERVICES.values() if "build" in service}
    assert sorted(SERVICES[name]["image"] for name in stack.BUILT) == sorted(own)
    assert stack.HELPER_IMAGE in own


def test_no_secret_stands_in_the_file() -> None:
    values = [str(value) for service in SERVICES.values() for value in service.get("environment", {}).values()]
    assert not [value for value in values if "password" in value.lower() and not value.startswith("/run/secrets/")]
    assert "@postgres" in SERVICES["collector"]["environment"]["ISOCHRONE_DATABASE_URL"]
    assert ":" not in urlsplit(SERVICES["collector"]["environment"]["ISOCHRONE_DATABASE_URL"]).netloc.partition("@")[0]


def test_every_agent_is_let_in_under_a_region_of_the_targets() -> None:
    assert {f"agent-{region}" for region in stack.AGENTS.values()} == AGENTS.keys()
    assert set(stack.AGENTS.values()) == {region["name"] for region in TARGETS["regions"]}


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_reaches_every_target_by_its_name_and_may_probe_it(name: str) -> None:
    agent = AGENTS[name]
    assert set(agent["environment"]["ISOCHRONE_ALLOW_PRIVATE"].split(",")) == HOSTS
    near = set(agent["networks"]) - {"reports"}
    aliases = [
        alias
        for service in SERVICES.values()
        if isinstance(service["networks"], dict)
        for network, options in service["networks"].items()
        if network in near
        for alias in options["aliases"]
    ]
    assert sorted(aliases) == sorted(HOSTS)


def test_only_who_needs_the_database_reaches_it() -> None:
    assert STACK["networks"]["storage"] == {"internal": True}
    there = {name for name, service in SERVICES.items() if "storage" in service["networks"]}
    assert there == {"postgres", "migrate", "collector", "grafana"}


@pytest.mark.parametrize("name", sorted({*SERVICES} - {"grafana"}))
def test_what_is_mounted_stands_in_the_repository_or_is_a_volume(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        source, _, rest = mount.partition(":")
        if source.startswith("./"):
            assert (ROOT / source).exists(), source
            assert rest.endswith(":ro")
        else:
            assert source in STACK["volumes"]
