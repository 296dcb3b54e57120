"""Upstream's ztunnel and ours at the two ends of a wire: same environment, same mesh, same authority.

    with Town(network, tmp_path, near=OURS, far=upstream) as town, town.running():
        with town.server.listens(8080) as application:
            near, far = application.pair(lambda: town.client.dials(town.web))

A side is a command: what it is told does not depend on whose it is, and neither does what is read of it. Which tests
there are, and that they need `--upstream PATH`: `test_upstream*.py` and `tests/conftest.py`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import ztunnel
from tests.netns.capture import NODE_MARK
from tests.netns.pods import HOSTS, PodMesh, PodNode, Pods
from tests.support.apps import Application, Heard
from tests.support.certs import Leaf
from tests.support.http import Answered, ask
from tests.support.istio_ca import TOKEN, IstioCa
from tests.support.nodes import (
    START_DEADLINE,
    Fields,
    Lines,
    eventually,
)

if TYPE_CHECKING:
    import contextlib
    import ssl

    from tests.netns.namespaces import Host, Network
    from tests.netns.pods import Pod
    from tests.support.nodes import Address, Metrics

LOCAL = "127.0.0.1"
ADMIN: Address = (LOCAL, 15000)
PORTS: dict[str, Address] = {
    "admin": ADMIN,
    "inbound": (LOCAL, 15008),
    "metrics": (LOCAL, 15020),
    "readiness": (LOCAL, 15021),
}
CLIENT, SERVER = (f"spiffe://cluster.local/ns/default/sa/{name}" for name in ("client", "server"))
SHUT, DENIED, ECHO = 7999, 7301, 8080
"""Ports of the server: nobody listens, a policy says no, an application."""


DIRECTIONS = ("ours-to-upstream", "upstream-to-ours")
CONTROL = "upstream-to-upstream"
BOTH_WAYS = pytest.mark.parametrize("direction", DIRECTIONS, scope="module")
ALSO_CONTROL = pytest.mark.parametrize("direction", [*DIRECTIONS, CONTROL], scope="module")


@dataclass(frozen=True)
class Side:
    """Whose ztunnel."""

    name: str
    words: tuple[str, ...]


OURS = Side("ours", (sys.executable, "-m", "ztunnel", "proxy", "ztunnel"))


def upstream(path: str) -> Side:
    """The program at `path`, as its image starts it."""
    return Side("upstream", (path, "proxy", "ztunnel"))


class Exact(str):
    """A string match. Upstream's reader takes `!Exact name`, and no other spelling of it."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, _: object) -> bool:
        return True


_Dumper.add_representer(
    Exact, lambda dumper, value: dumper.represent_scalar("!Exact", str(value), style='"')
)


class TownMesh(PodMesh):
    """A mesh file that both read, with everything that a log or a metric can tell of a workload."""

    def workload(self, name: str, *, protocol: str = "HBONE", **more: object) -> str:
        """Add a workload that lacks nothing."""
        whole: dict[str, object] = {
            "uid": f"Kubernetes//Pod/default/{name}-0",
            "trustDomain": "cluster.local",
            "node": f"node-{name}",
            "workloadName": f"{name}-deployment",
            "workloadType": "deployment",
            "canonicalName": f"{name}-app",
            "canonicalRevision": "v1",
            "clusterId": "Kubernetes",
            "locality": {"region": "r1", "zone": f"zone-{name}", "subzone": ""},
            "services": {},
        }
        return super().workload(name, protocol=protocol, **whole, **more)

    def write_text(self, text: str) -> None:
        """The same, with tags where upstream wants them."""
        whole = {
            "workloads": self._workloads,
            "services": self._services,
            "policies": self.policies,
        }
        super().write_text(yaml.dump(whole, Dumper=_Dumper, sort_keys=False))


class Proxy(PodNode):
    """A dedicated proxy in its pod."""

    side: Side
    environment: dict[str, str]

    def start(self) -> None:
        """Start it, and wait for its readiness port."""
        if not self._mesh.path.exists():
            self._mesh.write()
        self.host.call(self._start)
        self.bound = PORTS
        eventually(self._ready, f"{self.side.name} is ready", START_DEADLINE)

    def _start(self) -> None:
        told = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(ztunnel.__file__).parents[1]),
            "PROXY_MODE": "dedicated",
            "PROXY_WORKLOAD_INFO": f"default/{self.workload}/{self.workload}",
            "NODE_NAME": f"node-{self.workload}",
            "XDS_ADDRESS": "",
            "LOCAL_XDS_PATH": str(self._mesh.path),
            "PACKET_MARK": str(NODE_MARK),
            "ZTUNNEL_WORKER_THREADS": "2",
            "IPV6_ENABLED": "false",
            "ISTIO_META_DNS_CAPTURE": "false",
            "LOG_FORMAT": "json",
            **self.environment,
        }
        self._process = subprocess.Popen(
            self.side.words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._mesh.folder,
            env=told,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        # Upstream writes everything to stdout; in JSON the access log's lines say so (`scope`).
        self.access = Lines(self._process.stdout, f"stdout of {self.workload} ({self.side.name})")
        self.log = Lines(self._process.stderr, f"stderr of {self.workload} ({self.side.name})")

    def _ready(self) -> bool:
        assert self.running, f"{self.access}\n{self.log}"
        try:
            return self.get("readiness", "/healthz/ready") == "ready\n"
        except (OSError, AssertionError):
            return False

    def ask(self, method: str, target: str, port: str = "admin", **headers: str) -> Answered:
        """One request to one of its HTTP ports."""
        return self.host.call(ask, self.bound[port], method, target, **headers)

    def told(self) -> list[Fields]:
        """Its access log, without the way to the authority, which is captured like any other."""
        return [
            line
            for line in self.access.all(re.compile("^connection "))
            if line.get("scope") == "access" and line.get("dst.workload") != "authority"
        ]


class TownPods(Pods):
    """Pods whose proxies are of one side or the other."""

    def __init__(self, network: Network, folder: Path, sides: dict[str, Side]) -> None:
        super().__init__(network, folder)
        self.mesh.__exit__()
        self.mesh = TownMesh(folder)
        self.sides = sides
        self.environment: dict[str, str] = {}

    def node(self, host: Host, workload: str, **settings: object) -> PodNode:
        """A proxy for the pod."""
        proxy = Proxy(host, self.mesh, workload, **settings)
        proxy.side, proxy.environment = self.sides[workload], self.environment
        return proxy


class Town:
    """A client, a server, a machine without a proxy, an authority, and a mesh that knows most of them."""

    def __init__(self, network: Network, folder: Path, *, near: Side, far: Side) -> None:
        self.pods = TownPods(network, folder, {"client": near, "server": far, "waypoint": far})
        self.mesh = self.pods.mesh
        self.network = network
        self.client, self.server = self.pods.add("client"), self.pods.add("server")
        self.stranger = network.host(f"{HOSTS}.9")
        self.unknown = f"{HOSTS}.10"
        self.stranger.takes(self.unknown)
        self.mesh.workload("plain", workloadIps=[self.stranger.address], protocol="TCP")
        self.mesh.workload("lost", workloadIps=[f"{HOSTS}.77"])
        self.web: Address = (self.mesh.vip(self.mesh.service("web", {80: ECHO}, "server")), 80)
        empty = self.mesh.service("empty", {80: ECHO}, "server")
        del self.mesh.edit("server")["services"][f"default/{empty}"]
        self.empty: Address = (self.mesh.vip(empty), 80)
        self.mesh.policies.append(
            self.mesh.policy("no-7301", "Deny", {"destinationPorts": [DENIED]})
        )
        self._peers = count()
        self._authority = network.host(f"{HOSTS}.200")
        self.mesh.workload("authority", workloadIps=[self._authority.address], protocol="TCP")
        self._ca = IstioCa(folder, host=self._authority.address)
        # Upstream sends the file as it is, and a line end is nothing that a header may have.
        self._ca.token.write_text(TOKEN)

    def __enter__(self) -> Self:
        """The authority serves; the proxies start with `running`."""
        self._authority.call(self._ca.__enter__)
        return self

    def __exit__(self, *_: object) -> None:
        """It serves no longer."""
        self._ca.__exit__()
        self.pods.__exit__()

    def running(self, **environment: str) -> contextlib.AbstractContextManager[None]:
        """All proxies, with these variables more than they need."""
        self.pods.environment.update(self._ca.environment(), **environment)
        return self.pods.running()

    def peer(self, *uris: str) -> ssl.SSLContext:
        """TLS of a client with a certificate of the authority for these names."""
        return self._leaf(uris).client_context(self.mesh.folder / f"peer-{next(self._peers)}")

    def peer_as_server(self, *uris: str) -> ssl.SSLContext:
        """The same for a server."""
        return self._leaf(uris).server_context(self.mesh.folder / f"peer-{next(self._peers)}")

    def _leaf(self, uris: tuple[str, ...]) -> Leaf:
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        return Leaf(
            chain=self._ca.server.authority.sign(key.public_key(), names).encode(),
            key=key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def outside(self, port: int) -> Application:
        """A server on the machine without a proxy."""
        return self.stranger.call(Application.listen, "", port)

    @property
    def near(self) -> Proxy:
        """The client's proxy."""
        return proxy(self.client)

    @property
    def far(self) -> Proxy:
        """The server's."""
        return proxy(self.server)


def proxy(pod: Pod) -> Proxy:
    """The proxy of a pod."""
    assert isinstance(pod.node, Proxy)
    return pod.node


def says_hello(town: Town, address: Address) -> None:
    """Bytes and FIN both ways, by the server's application."""
    with town.server.listens(ECHO) as application:
        near, far = application.pair(lambda: town.client.dials(address))
        near.says(b"question").finishes()
        assert far.hears() == Heard(b"question", "FIN")
        far.says(b"an answer").finishes()
        assert near.hears() == Heard(b"an answer", "FIN")


def comparable(line: Fields) -> list[tuple[str, Any]]:
    """A log line with its fields in their order, without what no two connections have in common."""
    told: dict[str, Any] = {**line, "time": "TIME"}
    if "duration" in told:
        told["duration"] = re.sub(r"^\d+ms$", "DURATION", told["duration"])
    if "src.addr" in told:
        told["src.addr"] = re.sub(r":\d+$", ":PORT", told["src.addr"])
    return list(told.items())


def counted(metrics: Metrics) -> dict[str, float]:
    """Every series of TCP traffic as it is written, without the way to the authority."""
    return {
        f"{name}{list(labels.items())}": value
        for name, labels, value in metrics.samples
        if name.startswith("istio_tcp_")
        and name != "istio_tcp_sockets_open"
        and labels.get("destination_workload") != "authority-deployment"
    }
