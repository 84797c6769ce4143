"""A target file that takes most away is refused, whichever way it comes, until somebody confirms it."""

from pathlib import Path

import msgspec
import pytest

from collector import admin
from collector.cli import main
from collector.config import Settings
from collector.errors import ConfirmationNeeded, TargetsRefused
from collector.rollout import Rollout
from isochrone.config import Site, Targets
from tests.collecting import TARGETS, running_collector

MODULES = {"rtt": TARGETS.modules["rtt"]}
HEAD = "modules:\n  rtt: {prober: rtt, interval: 30s, timeout: 5s}\nsites:\n"


def sites(count: int) -> Targets:
    named = (Site(name=f"site-{n}", url="http://127.0.0.1:9/", modules=("rtt",)) for n in range(count))
    return Targets(modules=MODULES, sites=tuple(named))


def file_of(count: int) -> str:
    if not count:
        return HEAD.replace("sites:\n", "sites: []\n")
    return HEAD + "".join(f'  - {{name: site-{n}, url: "http://127.0.0.1:9/", modules: [rtt]}}\n' for n in range(count))


@pytest.mark.parametrize("with_agent", [True, False])
@pytest.mark.parametrize(("left", "refused"), [(0, True), (1, True), (4, True), (5, False), (10, False)])
def test_f60_a_file_that_takes_away_most_is_refused_without_confirmation(
    database_url: str, left: int, *, refused: bool, with_agent: bool
) -> None:
    if with_agent:
        admin.add_agent(database_url, name="a", region="eu")
    admin.apply_targets(database_url, sites(10))
    if refused:
        with pytest.raises(ConfirmationNeeded, match=rf"takes away {10 - left} of 10 .*site-.*--confirm") as told:
            admin.apply_targets(database_url, sites(left))
        assert len(str(told.value).splitlines()) == 1
        assert admin.current_targets(database_url) == (1, sites(10))
    done = admin.apply_targets(database_url, sites(left), Rollout(share_percent=100, confirmed=True))
    assert done.changed == (left != 10)
    assert admin.current_targets(database_url) == (2 if done.changed else 1, sites(left))


def test_f60_what_counts_is_what_agents_are_given_not_what_the_file_names(database_url: str) -> None:
    admin.add_agent(database_url, name="a", region="eu")
    admin.apply_targets(database_url, sites(4))
    elsewhere = tuple(
        msgspec.structs.replace(site, agents=msgspec.structs.replace(site.agents, regions=("us",)))
        for site in sites(4).sites
    )
    with pytest.raises(ConfirmationNeeded, match="takes away 4 of 4"):
        admin.apply_targets(database_url, msgspec.structs.replace(sites(4), sites=elsewhere))


def test_f60_a_rollback_to_less_wants_the_same_word(database_url: str) -> None:
    admin.apply_targets(database_url, sites(1))
    admin.apply_targets(database_url, sites(10))
    with pytest.raises(ConfirmationNeeded):
        admin.roll_back_targets(database_url, None, confirmed=False)
    assert admin.roll_back_targets(database_url, None, confirmed=True).revision == 3
    assert admin.current_targets(database_url) == (3, sites(1))


def test_f60_the_command_says_what_would_go_and_how_to_confirm(
    database_url: str, tmp_path: Path, *, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ISOCHRONE_DATABASE_URL", database_url)
    path = tmp_path / "targets.yml"
    path.write_text(file_of(10), encoding="utf-8")
    assert main(["targets", "apply", str(path)]) == 0
    path.write_text(file_of(1), encoding="utf-8")
    assert main(["targets", "apply", str(path)]) == 2
    assert "takes away 9 of 10 assigned targets" in capsys.readouterr().err
    assert main(["targets", "apply", str(path), "--confirm"]) == 0
    assert main(["targets", "rollback"]) == 0
    assert main(["targets", "show", "--revision", "2"]) == 0
    assert "site-0" in capsys.readouterr().out


@pytest.mark.anyio
async def test_f60_a_reload_refuses_it_too(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "targets.yml"
    path.write_text(file_of(10), encoding="utf-8")
    settings = Settings(database_url=database_url, targets=path)
    async with running_collector(database_url, targets=None, settings=settings) as collector:
        assert (await collector.client.post("/-/reload")).status_code == 200
        before = (await collector.fetch("/v1/agent/config")).content
        path.write_text(file_of(0), encoding="utf-8")
        refused = await collector.client.post("/-/reload")
        assert refused.status_code == 409
        assert refused.json()["type"] == "urn:isochrone:problem:confirmation_needed"
        assert "confirm=true" in refused.json()["detail"]
        assert (await collector.fetch("/v1/agent/config")).content == before
        assert (await collector.client.post("/-/reload?confirm=true")).status_code == 200
        assert (await collector.fetch("/v1/agent/config")).json()["targets"] == []


def test_f60_a_file_whose_share_no_agent_could_take_is_refused(database_url: str) -> None:
    admin.add_agent(database_url, name="a", region="eu")
    with pytest.raises(TargetsRefused, match="agent a would get"):
        admin.apply_targets(database_url, sites(3_000))
