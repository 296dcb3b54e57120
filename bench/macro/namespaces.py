"""Two machines on one wire: namespaces joined by veth, the near one captured as a pod is.

Outbound connections of the near side to the mesh's network are redirected to 15001, except those that
carry the proxy's mark and those to a tunnel's port; nothing is captured on the far side, where tunnels come in on 15008.
Counterpart: `mesh.py`, which has the addresses.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.macro import mesh
from tests.netns.namespaces import Namespace, command, sweep

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFIX_LENGTH = mesh.NETWORK.partition("/")[2]

# Per namespace, so that the machine's own settings stay as they are.
SETTINGS: Mapping[str, str] = {
    "net/ipv4/ip_local_port_range": "1024 65535",
    # No client may sit on a port that the next proxy wants to listen on.
    "net/ipv4/ip_local_reserved_ports": "8080,15000-15100",
    # A busy listener's queue is not what is measured; who asks for less gets less.
    "net/core/somaxconn": "4096",
    "net/ipv4/tcp_max_syn_backlog": "8192",
    # Thousands of connections a second for minutes: neither ports nor tracking entries may run out.
    "net/ipv4/tcp_tw_reuse": "1",
    "net/ipv4/tcp_max_tw_buckets": "4096",
    "net/netfilter/nf_conntrack_tcp_timeout_time_wait": "1",
    "net/netfilter/nf_conntrack_tcp_timeout_close": "1",
    "net/netfilter/nf_conntrack_tcp_timeout_last_ack": "1",
}
RULES = f"""\
*nat
-A OUTPUT -p tcp -m mark --mark {mesh.MARK} -j RETURN
-A OUTPUT -p tcp --dport {mesh.HBONE_PORT} -j RETURN
-A OUTPUT -p tcp -d {mesh.NETWORK} -j REDIRECT --to-ports {mesh.OUTBOUND_PORT}
COMMIT
"""


@dataclass(frozen=True, kw_only=True)
class Bed:
    """Where everything runs."""

    near: Namespace
    far: Namespace
    refused: tuple[str, ...]
    """Settings that this kernel does not have or would not take."""

    def at(self, place: mesh.Place) -> Namespace:
        """The namespace of an end."""
        return self.near if place is mesh.NEAR else self.far


@contextmanager
def test_bed() -> Iterator[Bed]:
    """Make it; nothing is left of it afterwards, nor of one whose maker was killed."""
    sweep()
    with ExitStack() as stack:
        near, far = Namespace("a"), None
        stack.callback(near.close)
        far = Namespace("b")
        stack.callback(far.close)
        near.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", far.name)
        refused: list[str] = []
        for namespace, addresses in (
            (near, [mesh.NEAR_ADDRESS]),
            (far, [mesh.FAR_ADDRESS, mesh.OUTSIDE_ADDRESS]),
        ):
            for address in addresses:
                namespace.ip("addr", "add", f"{address}/{PREFIX_LENGTH}", "dev", "eth0")
            namespace.ip("link", "set", "eth0", "up")
        near.must("iptables-restore", "--noflush", given=RULES)
        for namespace in (near, far):
            refused += namespace.call(_set_all)
            _cubic(namespace)
        yield Bed(near=near, far=far, refused=tuple(dict.fromkeys(refused)))


def _set_all() -> list[str]:
    """Runs in a thread of the namespace: /proc/sys/net is that of whoever looks."""
    refused = []
    for name, value in SETTINGS.items():
        try:
            (Path("/proc/sys") / name).write_text(value)
        except OSError as error:
            refused.append(f"{name}={value}: {error.strerror}")
    return refused


def _cubic(namespace: Namespace) -> None:
    """On every route, loopback's too: it holds where a namespace may not choose its own default."""
    for table in ("main", "local"):
        for route in command(
            "ip", "-n", namespace.name, "-4", "route", "show", "table", table
        ).splitlines():
            if not route.startswith("broadcast"):
                namespace.ip("route", "replace", *route.split(), "table", table, "congctl", "cubic")
