"""Pods: a host whose traffic is captured, the node in it, and the mesh that all nodes share.

    with Pods(network, tmp_path) as pods:
        client, server = pods.add("client"), pods.add("server")
        pods.mesh.service("web", {80: 8080}, "server")
        with pods.running():
            client.host.run("curl", "http://10.77.9.1/")

Counterpart: `tests/support/nodes.py` starts the processes; here they get their namespace and their settings.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Any, Self

from tests.netns.capture import NODE_MARK, OUTBOUND_PORT, PLAINTEXT_PORT, redirect
from tests.support.apps import DEADLINE, Application, End, Heard
from tests.support.nodes import HBONE_PORT, Address, Mesh, Metrics, Node, http_get

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.netns.namespaces import Host, Network

# 10.77.0.x are hosts, 10.77.9.x services; nobody but capture rules knows what to do with the latter.
HOSTS = "10.77.0"
SERVICES = "10.77.9"
# Long enough for a debug build on a busy machine, short enough for a test.
QUICK = {"dial": "2s", "handshake": "5s", "connect": "5s"}
QUICK_PING = {**QUICK, "pingInterval": "500ms", "pingTimeout": "1s"}


class PodMesh(Mesh):
    """A mesh of pods: services get addresses that lead nowhere without capture."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, network="127.77")
        self._vips = iter(range(1, 250))

    def address(self) -> str:
        """The next service's."""
        return f"{SERVICES}.{next(self._vips)}"

    def policy(self, name: str, action: str, *matches: dict[str, Any]) -> dict[str, Any]:
        """A policy for the whole mesh that says one thing: any of these."""
        return {
            "name": name,
            "namespace": "default",
            "scope": "Global",
            "action": action,
            "dryRun": False,
            "rules": [[list(matches)]],
        }


class PodNode(Node):
    """A node in dedicated mode, in its pod's namespace, on the ports that the rules lead to."""

    def __init__(self, host: Host, mesh: Mesh, workload: str, **more: object) -> None:
        self.host = host
        listen = {
            "outbound": f"0.0.0.0:{OUTBOUND_PORT}",
            "inbound": f"0.0.0.0:{HBONE_PORT}",
            "inboundPlaintext": f"0.0.0.0:{PLAINTEXT_PORT}",
            "metrics": "0.0.0.0:15020",
            "readiness": "0.0.0.0:15021",
        }
        settings = {
            "packetMark": NODE_MARK,
            "originalSource": True,
            "deadlines": QUICK,
            "listen": listen,
            # Nothing here is for users to change, and a test's own figures should not wait for one core.
            "workers": 2,
            **more,
        }
        super().__init__(mesh, workload, **settings)  # type: ignore[arg-type]
        namespace = mesh.edit(workload)["namespace"]
        self._settings["workload"] = f"{namespace}/{workload}"

    def start(self) -> None:
        """Start it: a process belongs to the namespace of the thread that starts it."""
        self.host.call(super().start)

    def metrics(self) -> Metrics:
        """All metrics, now, as somebody in the pod reads them."""
        return Metrics(self.get("metrics", "/metrics"))

    def get(self, listener: str, path: str) -> str:
        """The body of an answer with status 200."""
        return self.host.call(http_get, self.bound[listener], path)


class Pod:
    """A workload: its host, its node, its applications."""

    def __init__(self, host: Host, node: PodNode) -> None:
        self.host = host
        self.node = node
        self.address = host.address

    def listens(self, port: int) -> Application:
        """A server on all addresses of the pod."""
        return self.host.call(Application.listen, "", port)

    def dials(self, address: Address, *, around: bool = False) -> socket.socket:
        """An application's connection, captured as any other; `around` the node, if it says so."""
        return self.host.call(_connect, address, NODE_MARK if around else 0)

    def tries(self, address: Address, data: bytes = b"hello?") -> Heard:
        """What an application hears on a connection that ends by itself, whenever it ends."""
        name = errno.errorcode.get
        try:
            with self.dials(address) as connection:
                try:
                    connection.sendall(data)
                except OSError as error:
                    # The RST was faster than we are, but not than what came before it.
                    return Heard(End(connection).hears().data, name(error.errno or 0, "?"))
                return End(connection).hears()
        except OSError as error:  # it came before the connection was there
            return Heard(b"", name(error.errno or 0, "?"))


class Pods:
    """The pods of a test."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network = network
        self.mesh = PodMesh(folder)
        self.all: list[Pod] = []

    def __enter__(self) -> Self:
        """Nothing yet: nodes start with `running`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give back what the mesh holds; the network is its owner's."""
        self.mesh.__exit__()

    def add(self, workload: str, *, namespace: str = "default", **settings: object) -> Pod:
        """A pod that the mesh knows. `settings` go into `node:`."""
        host = self.network.host(f"{HOSTS}.{len(self.network.ports) + 1}")
        redirect(host)
        self.mesh.workload(workload, workloadIps=[host.address], namespace=namespace)
        pod = Pod(host, self.node(host, workload, **settings))
        self.all.append(pod)
        return pod

    def node(self, host: Host, workload: str, **settings: object) -> PodNode:
        """The node of a pod."""
        return PodNode(host, self.mesh, workload, **settings)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start every node, the last one first; end them all."""
        with contextlib.ExitStack() as nodes:
            for pod in reversed(self.all):
                nodes.enter_context(pod.node)
            yield


class Pair:
    """A client and a server whose nodes run, and a machine without a node."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.pods = Pods(network, folder)
        self.client = self.pods.add("client")
        self.server = self.pods.add("server")
        self.stranger = network.host(f"{HOSTS}.9")
        # The same machine by an address that the mesh has never heard of.
        self.unknown = f"{HOSTS}.10"
        self.stranger.takes(self.unknown)
        self.web = self.pods.mesh.service("web", {80: 8080}, "server")
        self.vip = self.pods.mesh.vip(self.web)
        # The mesh knows of the stranger, but it takes no tunnels.
        self.pods.mesh.workload("plain", workloadIps=[self.stranger.address], protocol="TCP")
        self.plain = self.pods.mesh.service("plain", {80: 8080}, "plain")
        self.plain_vip = self.pods.mesh.vip(self.plain)
        # A service that nobody is behind, and a pod that is nowhere.
        self.empty = self.pods.mesh.service("empty", {80: 8080}, "server")
        del self.pods.mesh.edit("server")["services"][f"default/{self.empty}"]
        self.pods.mesh.workload("lost", workloadIps=[f"{HOSTS}.77"])

    def outside(self, port: int) -> Application:
        """A server on the machine without a node."""
        return self.stranger.call(Application.listen, "", port)


def _connect(address: Address, mark: int) -> socket.socket:
    connection = socket.socket()
    try:
        connection.settimeout(DEADLINE)
        if mark:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection
