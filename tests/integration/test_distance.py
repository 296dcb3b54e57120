"""A peer that is far away: the stream's window grows until it fills the distance.

Counterpart: `bench/distance`, which compares with other proxies over the same link.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from bench.child import Child
from bench.distance.stream import carries
from tests.support.nodes import HBONE_PORT, Mesh, Node, as_text

if TYPE_CHECKING:
    from pathlib import Path

    from bench.distance.stream import Direction

MIB = 2**20
ROUND_TRIP = 0.08
# The most that a stream's window grows to, and so what the link may carry in a round trip.
WINDOW = 4 * MIB
# A trial that brings nothing is taken back and made again after 2 s (hbone's flow.rs); on a processor that others want, the
# Python relay may be what holds the bytes up. So long is room for several.
FINDING = 9.0


@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_window_grows_until_it_fills_a_long_way(tmp_path: Path, direction: Direction) -> None:
    with Mesh(tmp_path, network="127.1") as mesh, ExitStack() as stack:

        def child(*words: str) -> Child:
            started = Child(*words)
            stack.callback(started.end)
            return started

        mesh.workload("client")
        host = mesh.workload("server")
        application = as_text(child("bench.application", host).address)
        stack.enter_context(Node(mesh, "server"))
        to = ["--to", f"{host}:{HBONE_PORT}", "--delay", str(ROUND_TRIP / 2)]
        relay = child("bench.distance.relay", "--listen", f"{host}:0", *to)
        port = relay.address[1]
        near = stack.enter_context(Node(mesh, "client", forwards=[application], hbone_port=port))
        carries(near.forwards[application], direction, finding=FINDING, seconds=1)
        most = json.loads(relay.result(30))[direction]
        # What the relay has counted, and not what went through in a second, which is the machine's as much as ours
        # (bench/distance). Records and frames have headers, too.
        assert 0.9 * WINDOW < most < 1.02 * WINDOW, f"{most / MIB:.2f} MiB on the way"
