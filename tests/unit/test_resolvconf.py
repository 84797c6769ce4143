"""Whom to ask for a name: what the system's files say, and where only the system's own way gives its answer."""

import os
from pathlib import Path

import pytest

from agent.transport.resolvconf import ResolvConf, SystemFiles, asks_dns, parse_resolv_conf
from tests.name_server import etc

HOST = "api.example.org"


def names(folder: Path, host: str = HOST) -> tuple[str, ...] | None:
    plan = SystemFiles(folder, environment={}).plan(host)
    return None if plan is None else plan.names


def test_resolv_conf_is_read_as_the_system_reads_it() -> None:
    text = (
        "# a comment\nnameserver 10.0.0.1\n;nameserver 10.0.0.9\nnameserver fe80::1%lo\n"
        "domain old.example.\nsearch a.example b.example.\noptions timeout:3 attempts:4 ndots:2 edns0 rotate\n"
    )
    assert parse_resolv_conf(text) == ResolvConf(
        servers=("10.0.0.1", "fe80::1%lo"),
        search=("a.example", "b.example"),
        ndots=2,
        timeout_seconds=3,
        attempts=4,
    )


def test_resolv_conf_is_bounded_and_nonsense_in_it_is_passed_over() -> None:
    text = "nameserver 1.1.1.1\n" * 9 + "options timeout:999 attempts:99 ndots:99\nnameserver\nwhat\n"
    conf = parse_resolv_conf(text)
    assert (len(conf.servers), conf.timeout_seconds, conf.attempts, conf.ndots) == (3, 5, 5, 15)
    conf = parse_resolv_conf("nameserver elsewhere\noptions timeout:0 attempts:x\n")
    assert (conf.servers, conf.timeout_seconds, conf.attempts) == (("127.0.0.1",), 1, 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("hosts: files dns", True),
        ("passwd: files\nhosts:\tdns files # sss", True),
        ("hosts: files [SUCCESS=continue] dns myhostname", True),
        ("hosts: files [NOTFOUND=return] dns", False),
        ("hosts: files mdns4_minimal [NOTFOUND=return] dns", False),
        ("hosts: mymachines resolve [!UNAVAIL=return] files myhostname dns", False),
        ("hosts: files", False),
        ("hosts:", False),
    ],
)
def test_dns_is_asked_only_where_nothing_but_files_stands_before_it(text: str, expected: bool) -> None:  # noqa: FBT001  a table
    assert asks_dns(text) is expected


@pytest.mark.parametrize(
    "host", ["localhost", "db", "a.localhost", "127.1", "0x7f.1", "listed.example", "LISTED.example.", "2130706433"]
)
def test_names_of_the_system_are_left_to_it(tmp_path: Path, host: str) -> None:
    etc(tmp_path, hosts="# mine\n10.0.0.1\tother listed.example # not-this.example\n")
    assert names(tmp_path, host) is None
    assert names(tmp_path) == (HOST,)
    assert names(tmp_path, "unlisted.example") == ("unlisted.example",)


def test_search_domains_come_first_for_names_with_few_dots(tmp_path: Path) -> None:
    etc(tmp_path, more="search a.example b.example\noptions ndots:3\n")
    assert names(tmp_path) == (f"{HOST}.a.example", f"{HOST}.b.example", HOST)
    assert names(tmp_path, HOST + ".") == (HOST,)
    assert names(tmp_path, "www." + HOST) == ("www." + HOST,)


@pytest.mark.parametrize("options", ["use-vc", "no-aaaa"])
def test_options_that_only_the_system_knows_leave_all_to_it(tmp_path: Path, options: str) -> None:
    assert names(etc(tmp_path, more=f"options {options}\n")) is None


def test_without_files_that_can_be_read_the_system_is_asked(tmp_path: Path) -> None:
    assert names(tmp_path) is None
    etc(tmp_path)
    for name in ("hosts", "nsswitch.conf"):
        (tmp_path / name).unlink()
    assert names(tmp_path) == (HOST,)
    (tmp_path / "hosts").mkdir()
    assert names(tmp_path) is None


def test_an_environment_that_changes_the_files_leaves_all_to_the_system(tmp_path: Path) -> None:
    etc(tmp_path)
    assert SystemFiles(tmp_path, environment={"RES_OPTIONS": "ndots:2"}).plan(HOST) is None


def test_a_file_is_read_anew_once_it_has_changed(tmp_path: Path) -> None:
    etc(tmp_path)
    files = SystemFiles(tmp_path, environment={})
    path = tmp_path / "resolv.conf"
    before = path.stat().st_mtime_ns
    assert servers(files) == ("127.0.0.2",)
    path.write_text("nameserver 127.0.0.9\n")
    os.utime(path, ns=(before, before))
    assert servers(files) == ("127.0.0.2",)
    os.utime(path, ns=(before, before + 1))
    assert servers(files) == ("127.0.0.9",)
    (tmp_path / "hosts").write_text(f"10.0.0.1 {HOST}\n")
    assert servers(files) is None


def servers(files: SystemFiles) -> tuple[str, ...] | None:
    plan = files.plan(HOST)
    return None if plan is None else plan.servers
