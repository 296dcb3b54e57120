"""What passes between the nodes, as the tap sees it.

Counterparts, each a process of its own: `tap.py`, and `sniffer.py` where there is a wire to listen to.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ztunnel.demo.network import Side
from ztunnel.demo.places import HTTP

if TYPE_CHECKING:
    from ztunnel.demo.network import Network
    from ztunnel.demo.places import Places
    from ztunnel.demo.processes import Child, Processes


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """By one relay of the tap, so far."""

    connections: int
    up: int
    """Bytes toward node B."""
    down: int
    found: int
    """How often the marker was among them."""
    first: bytes
    """The first bytes of the first connection."""

    @property
    def total(self) -> int:
        """Bytes, both ways."""
        return self.up + self.down


class Wire:
    """The tap: between the nodes, and in front of the HTTP server as a control."""

    def __init__(self, child: Child) -> None:
        self._child = child

    @classmethod
    def start(cls, processes: Processes, network: Network, places: Places, marker: bytes) -> Self:
        """Starts it; it is ready a little later."""
        program = [sys.executable, "-P", "-m"]
        if places.device:
            http = places.targets[HTTP]
            program += ["ztunnel.demo.sniffer", marker.hex(), places.device, places.far_hbone, http]
        else:
            # From node A's address, so that node B sees whom it would see without a tap.
            relay = f"{places.dialled}={places.far_hbone}@{places.near}"
            control = f"{places.plain}={places.targets[HTTP]}"
            program += ["ztunnel.demo.tap", marker.hex(), relay, control]
        return cls(processes.start("tap", network.command(Side.FAR, program), steered=True))

    @property
    def pid(self) -> int:
        """Of the tap."""
        return self._child.pid

    def wait_ready(self) -> None:
        """Until it listens."""
        self._child.wait_for(lambda line: line == "ready", what="ready")

    def seen(self) -> list[Seen]:
        """Between the nodes, and around them; from the sniffer also what was neither."""
        return [
            Seen(
                connections=report["connections"],
                up=report["up"],
                down=report["down"],
                found=report["found"],
                first=bytes.fromhex(report["first"]),
            )
            for report in json.loads(self._child.ask())
        ]
