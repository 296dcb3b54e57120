"""Where everything is: addresses, ports, and what is written into the nodes' files.

Two layouts with the same services: `loopback` for one machine without root, `namespaces` for two of them with a
wire between. Opens nothing but a socket that claims the addresses.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ztunnel.demo.story import DemoFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMESPACE = "demo"
HOST = f"web.{NAMESPACE}.svc.cluster.local"
CLIENT = f"spiffe://cluster.local/ns/{NAMESPACE}/sa/client"
WEB = f"spiffe://cluster.local/ns/{NAMESPACE}/sa/web"

# Service ports of `web`.
HTTP, GREETER, SOURCE = 80, 25, 9000

# The mark of a node's own packets, which no rule may redirect (spec/istio.md A4.3).
MARK = 0x539


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Every address of one run, `ip` or `ip:port`."""

    near: str
    """Of node A and its clients."""
    other_near: str
    """Another address of node A's clients: connections from it never share a tunnel with the first one's."""
    far: str
    """Of node B and its applications."""
    vip: str
    near_hbone: str
    far_hbone: str
    dialled: str
    """Where node A dials node B: the tap, if there is one in the way."""
    outbound: str
    socks: str | None
    forwards: dict[int, str]
    """Service port → local port of node A, in the layout that has them."""
    targets: dict[int, str]
    """Service port → application."""
    plain: str | None
    """The way around the mesh to the HTTP server that the tap looks into as well."""
    near_readiness: str
    far_readiness: str
    near_metrics: str
    captured: bool = False
    """Connections get into node A by rules of the kernel, on their way to the VIP."""
    device: str | None = None
    """Node B's end of a wire that can be listened to, where there is no tap."""

    def mesh(self, *policies: str) -> str:
        """The mesh file, with policies as YAML items."""
        ports = ", ".join(f"{port}: {_port(target)}" for port, target in self.targets.items())
        return _MESH.format(
            near=self.near,
            far=self.far,
            vip=self.vip,
            ports=ports,
            host=HOST,
            namespace=NAMESPACE,
            policies="".join(policies) if policies else "[]",
        )

    def near_node(self, lifetime: str) -> str:
        """Node A's file."""
        listen: dict[str, str | None] = {
            "outbound": self.outbound,
            "inbound": self.near_hbone,
            "socks5": self.socks,
            "metrics": self.near_metrics,
            "readiness": self.near_readiness,
        }
        return self._node("client", listen, self.forwards, _port(self.dialled), lifetime)

    def far_node(self, lifetime: str) -> str:
        """Node B's file."""
        listen: dict[str, str | None] = {"inbound": self.far_hbone, "readiness": self.far_readiness}
        return self._node("web", listen, {}, _port(self.far_hbone), lifetime)

    def direct_node(self, way_in: str, readiness: str) -> str:
        """One more node of the client, which dials node B without a tap between."""
        return self._node(
            "client",
            {"readiness": readiness},
            {SOURCE: way_in},
            _port(self.far_hbone),
            "24h",
            access_log="off",
        )

    def _node(
        self,
        workload: str,
        listen: dict[str, str | None],
        forwards: dict[int, str],
        hbone_port: int,
        lifetime: str,
        access_log: str = "plain",
    ) -> str:
        opened = "".join(f"    {name}: {at}\n" for name, at in listen.items() if at)
        ways = "".join(
            f'\n  - {{listen: "{at}", to: "{HOST}:{port}"}}' for port, at in forwards.items()
        )
        return _NODE.format(
            workload=f"{NAMESPACE}/{workload}",
            listen=opened.rstrip(),
            forwards=ways or " []",
            hbone_port=hbone_port,
            lifetime=lifetime,
            access_log=access_log,
            mark=f"\n  packetMark: {MARK}" if self.captured else "",
        )


@contextmanager
def loopback() -> Iterator[Places]:
    """Addresses of 127.90.0.0/16 that no other demo on this machine uses now."""
    with _claimed_net() as net:
        near, far = f"{net}.1", f"{net}.2"
        yield Places(
            near=near,
            other_near=f"{net}.3",
            far=far,
            vip=f"{net}.10",
            near_hbone=free(near, 15008),
            far_hbone=free(far, 15008),
            dialled=free(far, 15009),
            outbound=free(near, 15001),
            socks=free(near, 1080),
            forwards={
                HTTP: free(near, 8080),
                GREETER: free(near, 2525),
                SOURCE: free(near, 9000),
            },
            targets={HTTP: free(far, 8080), GREETER: free(far, 2525), SOURCE: free(far, 9000)},
            plain=free(far, 8090),
            near_readiness=free(near, 15021),
            far_readiness=free(far, 15021),
            near_metrics=free(near, 15020),
        )


def between_namespaces(device: str) -> Places:
    """Addresses of a wire of our own, with the ports that a mesh has (spec/istio.md A4.3)."""
    near, far = "10.90.0.1", "10.90.0.2"
    return Places(
        near=near,
        other_near="10.90.0.3",
        far=far,
        vip="10.90.9.9",
        near_hbone=f"{near}:15008",
        far_hbone=f"{far}:15008",
        dialled=f"{far}:15008",
        # Where REDIRECT sends what a process of this machine has sent.
        outbound="127.0.0.1:15001",
        socks=None,
        forwards={},
        targets={HTTP: f"{far}:8080", GREETER: f"{far}:2525", SOURCE: f"{far}:9000"},
        plain=None,
        near_readiness=f"{near}:15021",
        far_readiness=f"{far}:15021",
        near_metrics=f"{near}:15020",
        captured=True,
        device=device,
    )


def free(host: str, wished: int) -> str:
    """The wished port of an address that is ours, or the next one if somebody listens on it on all addresses."""
    for port in range(wished, wished + PORTS_TO_TRY):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return f"{host}:{port}"
    raise DemoFailed(f"no free port from {wished} on {host}")


def write_whole(path: Path, text: str) -> None:
    """Replaces a file in one step, as whoever edits a mesh file should."""
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.replace(path)


@contextmanager
def _claimed_net() -> Iterator[str]:
    """`127.90.N`, ours as long as a socket is bound there; the system gives it back if we die."""
    for turn in range(254):
        net = f"127.90.{(os.getpid() + turn) % 254 + 1}"
        with socket.socket() as claim:
            try:
                claim.bind((f"{net}.254", CLAIM_PORT))
            except OSError:
                continue
            yield net
            return
    raise DemoFailed("no free addresses: 127.90.0.0/16")


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


PORTS_TO_TRY = 50
CLAIM_PORT = 15000

DENY_ALL = f"""
- name: deny-all                 # an allow policy that matches nothing: what no other one allows is refused
  namespace: {NAMESPACE}
  scope: Namespace
  action: Allow
  rules: []"""

ALLOW_CLIENT = f"""
- name: only-the-client
  namespace: {NAMESPACE}
  scope: Namespace
  action: Allow
  rules:
  - - - principals: [{{Exact: {CLIENT.removeprefix("spiffe://")}}}]"""

_MESH = """\
# Both nodes of the demo read this file, and read it again when it changes.
workloads:
- {{name: client, namespace: {namespace}, serviceAccount: client, workloadIps: [{near}], protocol: HBONE}}
- name: web
  namespace: {namespace}
  serviceAccount: web
  workloadIps: [{far}]
  protocol: HBONE
  services:
    {namespace}/{host}: {{{ports}}}

services:
- name: web
  namespace: {namespace}
  hostname: {host}
  vips: [/{vip}]
  ports: {{{ports}}}

policies: {policies}
"""

_NODE = """\
node:
  workload: {workload}
  mesh: ./mesh.yaml
  listen:
{listen}
  forwards:{forwards}
  hbonePort: {hbone_port}
  ca: {{directory: ./ca, leafLifetime: {lifetime}}}
  accessLog: {{format: {access_log}}}
  drain: 1s{mark}
"""
