"""A network of the test's own, in which packets can be dropped and slowed without harm to anybody else."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000  # linux/sched.h
LOOPBACK_DEVICE = "lo"


class Network:
    """The loopback of a network namespace."""

    def drop(self, port: int, *match: str) -> None:
        """Drop TCP packets to and from a port; `match` are further words for iptables."""
        for direction in ("--dport", "--sport"):
            self.run("iptables", "-A", "INPUT", "-p", "tcp", direction, str(port), *match, "-j", "DROP")

    def dropped(self) -> int:
        """Return how many packets were dropped since the network was last opened."""
        table = self.run("iptables", "-L", "INPUT", "-v", "-n", "-x")
        return sum(int(line.split()[0]) for line in table.splitlines() if " DROP " in line and "policy" not in line)

    def open(self) -> None:
        """Drop nothing any more."""
        self.run("iptables", "-F")

    def slow(self, kilobits: int) -> None:
        """Let through so many kilobits a second, both directions together, in packets of an ordinary size."""
        self.run("ip", "link", "set", LOOPBACK_DEVICE, "mtu", "1500")
        rate = ("rate", f"{kilobits}kbit", "burst", "4kb", "latency", "2s")
        self.run("tc", "qdisc", "add", "dev", LOOPBACK_DEVICE, "root", "tbf", *rate)

    def run(self, *command: str) -> str:
        """Run a program in this network; return what it said."""
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def why_not() -> str | None:
    """Return why no network of its own can be had here; None: it can."""
    missing = [tool for tool in ("ip", "iptables", "tc") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    trial = subprocess.run(["unshare", "--net", "iptables", "-L", "-n"], check=False, capture_output=True)
    return None if trial.returncode == 0 else "network namespaces with iptables need root"


@contextmanager
def own_network() -> Iterator[Network]:
    """Move this thread, and the processes and threads that it starts, into a new network; and back."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _check(libc.unshare(CLONE_NEWNET))
        try:
            network = Network()
            network.run("ip", "link", "set", LOOPBACK_DEVICE, "up")
            yield network
        finally:
            _check(libc.setns(home, CLONE_NEWNET))
    finally:
        os.close(home)


def _check(code: int) -> None:
    if code != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
