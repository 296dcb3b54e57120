"""Two network namespaces with a wire between them, and rules that send traffic through the nodes. Needs root.

The rules are those of spec/istio.md A4.3, as far as outgoing TCP and the client's address toward the
application need them. Applications in there know nothing of it: they connect to addresses.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ztunnel.demo.network import Side
from ztunnel.demo.places import MARK, between_namespaces
from ztunnel.demo.story import DemoFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ztunnel.demo.places import Places

CLONE_NEWNET = 0x40000000
DEVICE = "wire0"
# On connections that a node has opened with a borrowed source address; their answers come back to it.
RETURN_MARK = 0x111
MASK = 0xFFF
ROUTES = "100"
COMMAND_DEADLINE = 20.0


class Namespaces:
    """The network of `--root`. A `Network`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def name(self, side: Side) -> str:
        """As `ip netns` lists it."""
        return f"{self._prefix}-{side.value}"

    def command(self, side: Side, command: Sequence[str]) -> list[str]:
        """By `ip netns exec`, which becomes the command: same process, same id."""
        return ["ip", "netns", "exec", self.name(side), *command]

    def tcp_socket(self, side: Side) -> socket.socket:
        """A socket stays in the namespace that it was made in; only the thread that makes it goes there."""
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(self._make, side).result()

    def _make(self, side: Side) -> socket.socket:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{self.name(side)}", "rb") as namespace:  # noqa: PTH123 - only a descriptor
            if libc.setns(namespace.fileno(), CLONE_NEWNET):
                number = ctypes.get_errno()
                raise OSError(number, f"setns: {os.strerror(number)}")
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)


@contextlib.contextmanager
def namespaces() -> Iterator[tuple[Places, Namespaces]]:
    """Makes them and removes them; `DemoFailed` if something is missing for it."""
    _check()
    network = Namespaces(f"ztunnel-demo-{os.getpid()}")
    places = between_namespaces(DEVICE)
    try:
        _wire(network, places)
        for side in Side:
            _redirect(network, side)
        yield places, network
    finally:
        for side in Side:
            # The devices go with their namespaces.
            with contextlib.suppress(DemoFailed):
                _run("ip", "netns", "delete", network.name(side))


def _check() -> None:
    if os.geteuid() != 0:
        raise DemoFailed("--root makes network namespaces and iptables rules: run it as root")
    for tool, package in (("ip", "iproute2"), ("iptables", "iptables")):
        if shutil.which(tool) is None:
            raise DemoFailed(f"--root needs `{tool}`; apt-get install {package}")


def _wire(network: Namespaces, places: Places) -> None:
    near, far = network.name(Side.NEAR), network.name(Side.FAR)
    for name in (near, far):
        _run("ip", "netns", "add", name)
    _run(
        *("ip", "link", "add", DEVICE, "netns", near),
        *("type", "veth", "peer", "name", DEVICE, "netns", far),
    )
    for name, address in ((near, places.near), (near, places.other_near), (far, places.far)):
        _run("ip", "-n", name, "address", "add", f"{address}/24", "dev", DEVICE)
    for name in (near, far):
        for device in ("lo", DEVICE):
            _run("ip", "-n", name, "link", "set", device, "up")
    # A route for the VIP, so that a connection to it gets as far as the rules; it never leaves.
    _run("ip", "-n", near, "route", "add", "default", "via", places.far)


def _redirect(network: Namespaces, side: Side) -> None:
    """Rules 1, 2, 11, 12 and 13 of spec/istio.md A4.3 and their routes."""
    name = network.name(side)
    own, back = f"{MARK:#x}/{MASK:#x}", f"{RETURN_MARK:#x}/{MASK:#x}"
    elsewhere = ("!", "-d", "127.0.0.1/32")
    to_node = ("-j", "REDIRECT", "--to-ports", "15001")
    for table, chain, rule in (
        (
            "mangle",
            "PREROUTING",
            ("-m", "mark", "--mark", own, "-j", "CONNMARK", "--set-xmark", back),
        ),
        (
            "mangle",
            "OUTPUT",
            ("-m", "connmark", "--mark", back, "-j", "CONNMARK", "--restore-mark"),
        ),
        ("nat", "OUTPUT", ("-p", "tcp", "-m", "mark", "--mark", back, "-j", "ACCEPT")),
        ("nat", "OUTPUT", (*elsewhere, "-o", "lo", "-j", "ACCEPT")),
        (
            "nat",
            "OUTPUT",
            (*elsewhere, "-p", "tcp", "-m", "mark", "!", "--mark", own, *to_node),
        ),
    ):
        _run(*network.command(side, ["iptables", "-w", "-t", table, "-A", chain, *rule]))
    _run("ip", "-n", name, "rule", "add", "fwmark", back, "lookup", ROUTES, "pref", "32764")
    _run("ip", "-n", name, "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", ROUTES)


def _run(*command: str) -> None:
    try:
        # A group of its own: Ctrl-C is for the demo, which then takes away what this makes.
        done = subprocess.run(  # noqa: S603 - no shell; every word is the demo's own
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=COMMAND_DEADLINE,
            process_group=0,
        )
    except subprocess.TimeoutExpired:
        raise DemoFailed(
            f"did not end within {COMMAND_DEADLINE:g} s: {' '.join(command)}"
        ) from None
    if done.returncode:
        words = done.stderr.strip() or f"exit {done.returncode}"
        raise DemoFailed(f"{words}: {' '.join(command)}")
