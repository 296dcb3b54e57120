"""The tunnels whose throughput is compared: a node of ours without a tap in its way, and bench/pure_python.

They take a second or two to start, so that they are started some steps before they are needed: `advance` never
waits, `ready` does. What is measured is `steps/speed.py`'s.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ztunnel.demo.network import Side
from ztunnel.demo.places import SOURCE, free
from ztunnel.demo.stage import START, Node, python, wait_ready

if TYPE_CHECKING:
    from ztunnel.demo.processes import Child
    from ztunnel.demo.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """One that runs."""

    name: str
    way_in: str | None
    """A local port that leads to the source; None: connections to the VIP are captured."""
    proxies: list[Child]


class Contest:
    """Both of them, or ours alone."""

    def __init__(self, stage: Stage) -> None:
        """Starts nothing yet."""
        self._stage = stage
        self.rival_missing = why_no_rival(stage)
        self._rival = None if self.rival_missing else Rival(stage)
        self._direct: Node | None = None
        self._way_in: str | None = None

    def advance(self) -> None:
        """Starts what can be started by now."""
        places = self._stage.places
        if self._direct is None and not places.captured:
            self._way_in = free(places.near, 9100)
            readiness = free(places.near, 15121)
            file = self._stage.folder / "node-direct.yaml"
            file.write_text(places.direct_node(self._way_in, readiness))
            self._direct = self._stage.new_node("node direct", Side.NEAR, file, readiness)
        if self._rival:
            self._rival.advance()

    def ready(self) -> list[Tunnel]:
        """Waits for them."""
        self.advance()
        near = self._stage.a
        if self._direct is not None:
            near = self._direct
            wait_ready(near, self._stage.ways)
        ours = Tunnel(
            name="ztunnel", way_in=self._way_in, proxies=[near.child, self._stage.b.child]
        )
        return [ours, self._rival.ready()] if self._rival else [ours]


class Rival:
    """Both ends of the pure-Python tunnel, with certificates of their own: three processes, one after the other."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._certs = stage.folder / "rival"
        self._issue: Child | None = None
        self._ends: list[Child] = []

    def advance(self) -> None:
        """The certificates first; then the two ends, if those are there."""
        if self._issue is None:
            self._issue = self._start("certs", str(self._certs), "web", "client")
        elif not self._issue.is_running() and not self._ends:
            self._start_ends()

    def ready(self) -> Tunnel:
        """Waits for both ends."""
        self.advance()
        if self._issue is not None and not self._ends:
            last = "sa/client"
            self._issue.wait_for(lambda line: last in line, what="certificates", patience=START)
            self._start_ends()
        lines = [
            end.wait_for(lambda line: line.startswith("ready "), what="ready", patience=START)
            for end in self._ends
        ]
        way_in = lines[-1].removeprefix("ready ").strip()
        return Tunnel(name="pure Python", way_in=way_in, proxies=self._ends)

    def _start_ends(self) -> None:
        places = self._stage.places
        peer, way_in = free(places.far, 15108), free(places.near, 9200)
        certs = self._certs
        server = "spiffe://cluster.local/ns/default/sa/web"
        to_server = ("--peer", peer, "--expect", server, "--authority", places.targets[SOURCE])
        self._ends = [
            self._start("serve", "--certs", str(certs / "web"), "--listen", peer),
            self._start(
                "connect", "--certs", str(certs / "client"), "--listen", way_in, *to_server
            ),
        ]

    def _start(self, verb: str, *arguments: str) -> Child:
        # `bench` is no installed package: it is found in the current directory, the source tree.
        module = [word for word in python("bench.pure_python") if word != "-P"]
        command = [*module, verb, *arguments]
        return self._stage.processes.start(f"rival-{verb}", command, cwd=source_tree())


def why_no_rival(stage: Stage) -> str | None:
    """Why bench/pure_python cannot be run here, or None."""
    if stage.places.captured:
        return "it has no way in for captured traffic"
    if not (source_tree() / "bench" / "pure_python" / "__main__.py").is_file():
        return "bench/pure_python is part of the source tree, not of the installed package"
    if importlib.util.find_spec("h2") is None:
        return "the package `h2` is not installed; pip install h2"
    return None


def source_tree() -> Path:
    """Where the source tree would be, if this is not an installed package."""
    return Path(__file__).resolve().parents[3]
