"""The listener for plain captured traffic, without a capture: who finds it gets no further.

What passes it needs rules in a namespace: tests/netns/test_plaintext.py.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import Heard, hears_at_once
from tests.support.nodes import HBONE_PORT, Mesh, Node, as_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    """One workload."""
    with Mesh(tmp_path, network="127.1") as mesh:
        mesh.workload("web")
        yield mesh


def node(mesh: Mesh, plaintext: str) -> Node:
    """A node that listens for plain traffic, too."""
    address = mesh.address_of("web")
    listen = {
        "inbound": f"{address}:{HBONE_PORT}",
        "inboundPlaintext": plaintext,
        "metrics": f"{address}:0",
        "readiness": f"{address}:0",
    }
    return Node(mesh, "web", listen=listen)


def test_who_connects_to_it_without_a_capture_is_refused_and_makes_no_loop(mesh: Mesh) -> None:
    with node(mesh, f"{mesh.address_of('web')}:0") as web:
        listener = web.bound["inboundPlaintext"]
        for _ in range(3):
            assert hears_at_once(listener) == Heard(b"", "ECONNRESET")
            line = web.access.wait_for("connection failed", dst_addr=as_text(listener))
        assert line["direction"] == "inbound"
        assert line["error"] == "attempted recursive call to ourselves"
        metrics = web.metrics()
        assert metrics.total("ztunnel_refusals_total", side="inbound", reason="self_call") == 3
        assert metrics.total("istio_tcp_connections_opened_total") == 0
        assert metrics.total("istio_tcp_sockets_open", reporter="destination") == 0


def test_a_port_that_somebody_else_has_is_known_before_anything_runs(mesh: Mesh) -> None:
    with contextlib.closing(socket.create_server((mesh.address_of("web"), 0))) as other:
        taken = as_text(other.getsockname()[:2])
        web = node(mesh, taken)
        with pytest.raises(pytest.fail.Exception):
            web.start()
        assert web.wait() != 0
        said = "\n".join(str(line) for line in web.log.text)
        assert taken in said
        assert "in use" in said
