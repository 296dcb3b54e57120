"""How a process ends, and what keeps one from starting: upstream's scenarios by their names (spec/dataplane.md §18).

What happens to each connection in a drain is `test_drain.py`'s.
"""

from __future__ import annotations

import re
import signal
import socket
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import Application, End, Heard, direct
from tests.support.http import ask
from tests.support.nodes import Mesh, Node, as_text, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Upstream's bounds, of the same tests, are five seconds and one; ours are a machine's that does something else beside.
LIFECYCLE = 20.0
AFTER_THE_LAST = 10.0
LONG, SHORT = "60s", "500ms"


@dataclass(frozen=True)
class Pair:
    """A node with an admin port, and an application behind another."""

    node: Node
    application: Application
    target: str

    def connects(self) -> tuple[End, End]:
        """Both ends of a connection that stands, with a byte gone."""
        client, server = self.application.pair(partial(direct, self.node.forwards[self.target]))
        client.says(b"?")
        assert server.takes(1) == b"?"
        return client, server


@contextmanager
def running(folder: Path, *, drain: str) -> Iterator[Pair]:
    """Both nodes."""
    with Mesh(folder, network="127.4") as mesh, ExitStack() as stack:
        mesh.workload("client")
        application = stack.enter_context(Application.listen(mesh.workload("server")))
        target = as_text(application.address)
        stack.enter_context(Node(mesh, "server"))
        node = Node(mesh, "client", forwards=[target], admin=True, drain=drain)
        yield Pair(stack.enter_context(node), application, target)


def refuses(node: Node, listener: str) -> bool:
    """Whether nobody can connect there any more."""
    try:
        socket.create_connection(node.bound[listener], 5).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_shutdown_lifecycle(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, drain=LONG) as pair:
        pair.node.signal(number)
        assert pair.node.wait(within=LIFECYCLE) == 0
        pair.node.log.wait_for("drained")


def test_quit_lifecycle(tmp_path: Path) -> None:
    with running(tmp_path, drain=LONG) as pair:
        answer = ask(pair.node.bound["admin"], "POST", "/quitquitquit")
        assert (answer.status, answer.body) == (200, b"shutdown now\n")
        assert pair.node.wait(within=LIFECYCLE) == 0
        pair.node.log.wait_for("drained")


def test_shutdown_drain(tmp_path: Path) -> None:
    with running(tmp_path, drain=LONG) as pair:
        client, server = pair.connects()
        pair.node.signal(signal.SIGTERM)
        eventually(lambda: refuses(pair.node, "readiness"), "readiness is closed")
        client.says(b"still")
        assert server.takes(5) == b"still"
        assert pair.node.running
        client.finishes()
        server.closes()
        assert client.hears().end == "FIN"
        assert pair.node.wait(within=AFTER_THE_LAST) == 0
        assert "error" not in pair.node.access.wait_for("connection complete")


def test_shutdown_forced_drain(tmp_path: Path) -> None:
    """A client that writes, an application that does not read, and a deadline that cuts both."""
    with running(tmp_path, drain=SHORT) as pair:
        client, _ = pair.connects()
        client.says_until_it_blocks(most=64 * 1024 * 1024)
        began = time.monotonic()
        pair.node.signal(signal.SIGTERM)
        assert pair.node.wait(within=0.5 + AFTER_THE_LAST) == 0
        assert time.monotonic() - began >= 0.5
        line = pair.node.access.wait_for("connection complete")
        assert line["error"] == "connection closed due to connection drain"


def test_second_sigterm_is_not_special(tmp_path: Path) -> None:
    with running(tmp_path, drain=LONG) as pair:
        client, server = pair.connects()
        for _ in range(2):
            said = len(pair.node.log)
            pair.node.signal(signal.SIGTERM)
            pair.node.log.wait_for(re.compile("^received signal SIGTERM"), after=said)
        client.says(b"still")
        assert server.takes(5) == b"still"
        client.finishes()
        server.closes()
        assert pair.node.wait(within=AFTER_THE_LAST) == 0


@pytest.mark.parametrize("first", ["SIGINT", "SIGTERM", "quit"])
def test_sigint_ends_a_drain_at_once(tmp_path: Path, first: str) -> None:
    with running(tmp_path, drain=LONG) as pair:
        client, server = pair.connects()
        if first == "quit":
            ask(pair.node.bound["admin"], "POST", "/quitquitquit")
        else:
            pair.node.signal(signal.Signals[first])
        pair.node.log.wait_for("draining")
        pair.node.signal(signal.SIGINT)
        assert pair.node.wait(within=AFTER_THE_LAST) == 0
        assert client.hears() == Heard(b"", "ECONNRESET")
        assert server.hears() == Heard(b"", "ECONNRESET")


def test_every_port_for_operators_is_closed_when_the_drain_begins(tmp_path: Path) -> None:
    with running(tmp_path, drain=LONG) as pair:
        client, server = pair.connects()
        pair.node.signal(signal.SIGTERM)
        for listener in ("admin", "metrics", "readiness"):
            eventually(partial(refuses, pair.node, listener), f"{listener} is closed")
        client.closes()
        server.closes()
        assert pair.node.wait(within=AFTER_THE_LAST) == 0


def test_an_answer_under_way_is_finished(tmp_path: Path) -> None:
    """A request whose last byte comes when the drain has begun."""
    with running(tmp_path, drain=LONG) as pair:
        client, server = pair.connects()
        with socket.create_connection(pair.node.bound["admin"], 5) as asking:
            asking.sendall(
                b"POST /logging HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n"
            )
            # The next one is served after it, so the first has been read.
            assert ask(pair.node.bound["admin"], "GET", "/").status == 200
            pair.node.signal(signal.SIGTERM)
            eventually(lambda: refuses(pair.node, "admin"), "admin is closed")
            asking.sendall(b"x")
            answer = b"".join(iter(lambda: asking.recv(4096), b""))
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"current log level is hickory_server::server=off,info\n")
        client.closes()
        server.closes()
        assert pair.node.wait(within=AFTER_THE_LAST) == 0


def test_the_last_lines_are_written(tmp_path: Path) -> None:
    with running(tmp_path, drain=SHORT) as pair:
        for _ in range(20):
            client, server = pair.connects()
            client.closes()
            server.closes()
        ends = [pair.connects() for _ in range(3)]
        assert pair.node.terminate() == 0
        pair.node.access.join()
        assert len(pair.node.access.all("connection complete")) == 20 + len(ends)


def _starts_with(folder: Path, listener: str, occupied: socket.socket) -> tuple[int, str]:
    """The exit code and the last line of a node that is told to listen where somebody else does."""
    with Mesh(folder, network="127.4") as mesh:
        mesh.workload("web")
        node = Node(mesh, "web")
        address = as_text(occupied.getsockname())
        node._settings["listen"] = {listener: address}
        mesh.write()
        with pytest.raises(pytest.fail.Exception):
            node.start()
        code = node.wait()
        node.log.join()
        return code, node.log.text[-1]


@pytest.mark.parametrize("listener", ["inbound", "inboundPlaintext", "outbound", "admin", "metrics", "readiness", "socks5"])  # fmt: skip
def test_conflicting_bind_error(tmp_path: Path, listener: str) -> None:
    """Upstream: test_conflicting_bind_error_{inbound,inbound_plaintext,outbound,admin}."""
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        code, last = _starts_with(tmp_path, listener, occupied)
        assert code == 1
        assert last.startswith("error: ")
        assert "ddress already in use" in last
        assert as_text(occupied.getsockname()) in last
