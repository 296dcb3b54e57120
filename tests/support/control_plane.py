"""Dedicated proxies on loopback that learn everything from a fake istiod: two pods of a mesh, and the way between them.

    with Town(tmp_path) as town, BackgroundIstiod(tmp_path) as istiod:
        istiod.put(*town.resources())
        with Proxy(town, "server", istiod.environment(…)), Proxy(town, "client", …) as client:
            client.dials((town.address["server"], 8080))

Counterpart: `nodes.py`, whose nodes read a file.
"""

from __future__ import annotations

import http.client
import json
import os
from typing import TYPE_CHECKING, Any, Self

from tests.support import dedicated
from tests.support.apps import through_socks5
from tests.support.nodes import (
    DEADLINE,
    HBONE_PORT,
    ROOT,
    Address,
    Mesh,
    Node,
    python_path,
)
from ztunnel.testing.istiod import mesh

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from pathlib import Path

    from ztunnel.testing.istiod.resources import Resource

NODE = "node-a"
# Several proxies start at once, beside a control plane and whatever else the machine does.
START_DEADLINE = 30.0
PORTS = {
    "socks5": 15080,
    "metrics": 15020,
    "readiness": 15021,
    "admin": 15000,
    "inbound": HBONE_PORT,
}


class Town:
    """The addresses of a test's pods, and what istiod says of them."""

    def __init__(self, folder: Path, *pods: str, network: str = "127.66") -> None:
        self.folder = folder
        # Of a mesh file only the addresses are used: this mesh is in no file.
        self.claimed = Mesh(folder, network=network)
        self.address = {pod: self.claimed.address() for pod in pods or ("client", "server")}

    def __enter__(self) -> Self:
        """Nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the addresses back."""
        self.claimed.__exit__()

    def workload(self, pod: str, **more: Any) -> Resource:
        """A pod as istiod describes it."""
        return mesh.workload(pod, ip=self.address[pod], node=NODE, **more)

    def resources(self) -> list[Resource]:
        """All pods."""
        return [self.workload(pod) for pod in self.address]


class Proxy(Node):
    """One `ztunnel proxy ztunnel`; `with` starts it, waits until it is ready, and ends it."""

    program = ("-m", "tests.support.dedicated")

    def __init__(self, town: Town, pod: str, environment: Mapping[str, str]) -> None:
        self.workload = pod
        self.address = town.address[pod]
        self._mesh = town.claimed
        self.environment = dict(environment)
        self.bound: dict[str, Address] = {
            name: (self.address, port) for name, port in PORTS.items()
        }
        self._process = None

    def __enter__(self) -> Self:
        """Start, and wait until it is ready; one that is not ends at once, and leaves its addresses free."""
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def start(self) -> None:
        """Start it, and wait for its `ready` line."""
        self.begin()
        self.wait_until_ready()

    def begin(self) -> None:
        """Start it, and wait for nothing."""
        listen = {name: f"{host}:{port}" for name, (host, port) in self.bound.items()}
        told = {
            "PROXY_MODE": "dedicated",
            "PROXY_WORKLOAD_INFO": f"default/{self.workload}/{self.workload}",
            "NODE_NAME": NODE,
            "ISTIO_META_DNS_CAPTURE": "false",
            "IPV6_ENABLED": "false",
            "ENABLE_ORIG_SRC": "false",
            "ZTUNNEL_WORKER_THREADS": "2",
            "LOG_FORMAT": "json",
            "CONNECTION_TERMINATION_DEADLINE": "5s",
            dedicated.LISTEN: json.dumps(listen),
            # The program is one of the tests', and starts in a folder of the test's.
            "PYTHONPATH": os.pathsep.join([python_path(), str(ROOT)]),
            **self.environment,
        }
        self.launch("proxy", "ztunnel", environment=told)

    def wait_until_ready(self, within: float = START_DEADLINE) -> None:
        """Until it says so."""
        self.access.wait_for("ready", within=within)

    def dials(self, target: Address) -> socket.socket:
        """An application's connection through it."""
        return through_socks5(self.bound["socks5"], *target)

    def readiness(self) -> tuple[int, str]:
        """The status of `/healthz/ready`, and what it says."""
        return self._get("readiness", "/healthz/ready")

    def names(self) -> set[str]:
        """The workloads that it knows, by name."""
        return {workload["name"] for workload in self.config_dump()["workloads"]}

    def config_dump(self) -> dict[str, Any]:
        """`/config_dump`, read."""
        status, text = self._get("admin", "/config_dump")
        assert status == 200, text
        found = json.loads(text)
        assert isinstance(found, dict)
        return found

    def is_listening(self) -> bool:
        """Whether its readiness port answers anything."""
        try:
            self.readiness()
        except OSError:
            return False
        return True

    def _get(self, listener: str, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(*self.bound[listener], timeout=DEADLINE)
        try:
            # The admin port answers whoever means this machine, by that name.
            connection.request("GET", path, headers={"Host": "localhost"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()
