"""Everything that the story needs on its stage: two nodes, two servers, the tap. Up in one go, gone at the end.

Starts and stops; what is shown with it is told in `steps/`.
"""

from __future__ import annotations

import http.client
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ztunnel.demo import curl
from ztunnel.demo.clients import Ways
from ztunnel.demo.network import Side
from ztunnel.demo.payload import write_payload
from ztunnel.demo.places import GREETER, HOST, HTTP, SOURCE, write_whole
from ztunnel.demo.processes import PATIENCE
from ztunnel.demo.story import expect
from ztunnel.demo.wire import Wire

if TYPE_CHECKING:
    from pathlib import Path

    from ztunnel.demo.network import Network
    from ztunnel.demo.payload import Payload
    from ztunnel.demo.places import Places
    from ztunnel.demo.processes import Child, Processes

# Renewed after some four seconds, so that a rotation can be waited for; six more until it would be too late, for
# machines that are busy with something else.
LEAF_LIFETIME = "10s"
# From a cold start, with everything else starting at the same time.
START = 20.0

PAGE = b"<h1>A page from behind node B</h1>\n"


@dataclass(slots=True, kw_only=True)
class Node:
    """A running `ztunnel run`."""

    title: str
    side: Side
    file: Path
    child: Child
    readiness: str
    ready: str = ""
    """The line in which it said so."""

    @property
    def ready_ms(self) -> int:
        """Milliseconds from its start to `ready`, in its own words."""
        found = re.search(r"\bms=(\d+)", self.ready)
        return int(found[1]) if found else 0


@dataclass(slots=True, kw_only=True)
class Stage:
    """What the steps act on."""

    folder: Path
    places: Places
    network: Network
    processes: Processes
    payload: Payload
    ways: Ways
    wire: Wire
    servers: list[Child] = field(default_factory=list)
    a: Node
    b: Node

    def start_node(self, node: Node) -> None:
        """Starts a node again from its file, and waits until it is ready."""
        node.child = _start_node(self.processes, self.network, node.title, node.side, node.file)
        wait_ready(node, self.ways)

    def new_node(self, title: str, side: Side, file: Path, readiness: str) -> Node:
        """One more; it is ready a little later."""
        return _node(self.processes, self.network, title, side, file, readiness)

    def nodes(self) -> tuple[Node, Node]:
        """Both."""
        return self.a, self.b

    def apply(self, *policies: str) -> None:
        """Rewrites the mesh file and waits until both nodes live by it."""
        marks = [(node, node.child.mark()) for node in self.nodes()]
        write_whole(self.folder / "mesh.yaml", self.places.mesh(*policies))
        for node, mark in marks:
            node.child.wait_for(
                lambda line: "\tmesh applied\t" in line, after=mark, what="mesh applied"
            )

    def curl(self, *arguments: str) -> curl.Curl:
        """A running curl on node A's side."""
        return curl.Curl(
            self.processes, self.network.command(Side.NEAR, self.curl_words(*arguments))
        )

    def curl_words(self, *arguments: str) -> list[str]:
        """The command, as one would type it, but for the options that make it quiet and bounded."""
        quiet = ["-q", "--silent", "--show-error", "--max-time", str(curl.MAX_TIME)]
        return [curl.path() or "curl", *quiet, *arguments]

    def url(self, path: str, *, by_name: bool = False) -> str:
        """Of the HTTP service, at node A's local port, or by its name (for SOCKS5), or at its VIP."""
        at = HOST if by_name else self.places.forwards.get(HTTP, self.places.vip)
        return f"http://{at}{path}"


def set_up(
    folder: Path, places: Places, network: Network, processes: Processes, *, size: int
) -> Stage:
    """Writes the files and starts everything; gives the stage when both nodes are ready."""
    www = folder / "www"
    www.mkdir()
    (www / "index.html").write_bytes(PAGE)
    write_whole(folder / "mesh.yaml", places.mesh())
    files = {}
    for name, text in (
        ("a", places.near_node(LEAF_LIFETIME)),
        ("b", places.far_node(LEAF_LIFETIME)),
    ):
        files[name] = folder / f"node-{name}.yaml"
        files[name].write_text(text)
    b = _node(processes, network, "node B", Side.FAR, files["b"], places.far_readiness)
    a = _node(processes, network, "node A", Side.NEAR, files["a"], places.near_readiness)
    servers = _start_servers(processes, network, places, www)
    # The nodes start while the file is written.
    payload = write_payload(www / "file.bin", size)
    wire = Wire.start(processes, network, places, payload.marker)
    ways = Ways(places, network)
    for node in (a, b):
        wait_ready(node, ways)
    for server in servers:
        server.wait_for(
            lambda line: line.startswith(("ready", "Serving HTTP")), what="ready", patience=START
        )
    wire.wait_ready()
    return Stage(
        folder=folder,
        places=places,
        network=network,
        processes=processes,
        payload=payload,
        ways=ways,
        wire=wire,
        servers=servers,
        a=a,
        b=b,
    )


def wait_ready(node: Node, ways: Ways) -> None:
    """Waits until the node says so, then asks its readiness port."""
    node.ready = node.child.wait_for(
        lambda line: "\tapp\tready\t" in line, what="ready", patience=START
    )
    connection = http.client.HTTPConnection(node.readiness, timeout=PATIENCE)
    connection.sock = ways.at(node.readiness, node.side)
    try:
        connection.request("GET", "/healthz/ready")
        status = connection.getresponse().status
    finally:
        connection.close()
    expect(status == 200, f"{node.title} says ready in its log, but its readiness port: {status}")


def python(module: str, *arguments: str) -> list[str]:
    """A Python program of ours or of the standard library. -P: nothing is taken from the current directory."""
    return [sys.executable, "-P", "-m", module, *arguments]


def _node(
    processes: Processes, network: Network, title: str, side: Side, file: Path, readiness: str
) -> Node:
    child = _start_node(processes, network, title, side, file)
    return Node(title=title, side=side, file=file, child=child, readiness=readiness)


def _start_node(
    processes: Processes, network: Network, title: str, side: Side, file: Path
) -> Child:
    command = network.command(side, python("ztunnel", "run", str(file)))
    return processes.start(title.replace(" ", "-").lower(), command)


def _start_servers(
    processes: Processes, network: Network, places: Places, www: Path
) -> list[Child]:
    """The unmodified HTTP server of Python, and two TCP services."""
    host, _, port = places.targets[HTTP].rpartition(":")
    serve = python("http.server", port, "--bind", host, "--directory", str(www))
    others = python("ztunnel.demo.applications", places.targets[GREETER], places.targets[SOURCE])
    return [
        processes.start("http-server", network.command(Side.FAR, serve)),
        processes.start("applications", network.command(Side.FAR, others), steered=True),
    ]
