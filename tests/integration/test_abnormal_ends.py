"""Whatever breaks between two applications, neither takes it for a clean end: it sees a RST, never a FIN.

Killed and frozen nodes, a cut line, peers that break off in every way that HTTP/2 has, and connections that could
not be made. How applications end connections themselves is in test_ends.py.
"""

from __future__ import annotations

import re
import signal
import socket
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import h2.events
import pytest
from h2.errors import ErrorCodes

from tests.support.apps import (
    Application,
    End,
    Heard,
    SocksReply,
    direct,
    hears_at_once,
    through_socks5,
)
from tests.support.nodes import HBONE_PORT, Mesh, Node, as_text, eventually
from tests.support.peers import Peer, context
from tests.support.wire import Wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

BEGINNING = b"the first half of an ans"
RESET = "ECONNRESET"
# A ping goes out this often, and its answer may take this long, which is long for whoever is awake, also beside others.
IMPATIENT = {"pingInterval": "200ms", "pingTimeout": "1500ms"}


# What `kill -9` of a node, or a broken line, must never look like to an application.
CLEAN = "FIN"


@dataclass(frozen=True)
class Pair:
    """Two nodes, a line between them, an application behind the far one, a way in at the near one."""

    mesh: Mesh
    near: Node
    far: Node
    wire: Wire
    application: Application
    target: str

    def in_mid_answer(self) -> tuple[End, End]:
        """A connection of which the client has read a part of the answer."""
        client, server = self.application.pair(partial(direct, self.near.forwards[self.target]))
        client.says(b"question")
        assert server.takes(8) == b"question"
        server.says(BEGINNING)
        assert client.takes(len(BEGINNING)) == BEGINNING
        return client, server


@contextmanager
def nodes(folder: Path, **settings: Any) -> Iterator[Pair]:
    """Both nodes, with these settings in both."""
    with Mesh(folder, network="127.1") as mesh, ExitStack() as stack:
        mesh.workload("client")
        address = mesh.workload("server")
        application = stack.enter_context(Application.listen(address))
        target = as_text(application.address)
        far = stack.enter_context(Node(mesh, "server", **settings))
        wire = stack.enter_context(Wire((address, HBONE_PORT)))
        near = stack.enter_context(
            Node(
                mesh,
                "client",
                forwards=[target],
                socks5=True,
                hbone_port=wire.port,
                **settings,
            )
        )
        yield Pair(mesh, near, far, wire, application, target)


def test_killed_far_node_is_a_reset_for_the_client(tmp_path: Path) -> None:
    with nodes(tmp_path) as pair:
        client, _ = pair.in_mid_answer()
        pair.far.kill()
        assert client.hears() == Heard(b"", RESET)
        line = pair.near.access.wait_for("connection complete")
        assert line["level"] == "error", line


def test_killed_far_node_comes_back_and_the_next_connection_passes(tmp_path: Path) -> None:
    with nodes(tmp_path) as pair:
        client, _ = pair.in_mid_answer()
        pair.far.kill()
        assert client.hears().end == RESET
        pair.far.start()
        client, server = pair.in_mid_answer()
        server.closes()
        assert client.hears() == Heard(b"", CLEAN)


def test_killed_near_node_is_a_reset_for_the_server(tmp_path: Path) -> None:
    with nodes(tmp_path) as pair:
        _, server = pair.in_mid_answer()
        pair.near.kill()
        assert server.hears() == Heard(b"", RESET)
        line = pair.far.access.wait_for("connection complete")
        assert line["level"] == "error", line


@pytest.mark.parametrize("who", ["client", "server"])
def test_killed_node_is_a_reset_for_its_own_application(tmp_path: Path, who: str) -> None:
    """The kernel closes a dead node's sockets, and would say FIN for it."""
    with nodes(tmp_path) as pair:
        client, server = pair.in_mid_answer()
        (pair.near if who == "client" else pair.far).kill()
        assert (client if who == "client" else server).hears() == Heard(b"", RESET)


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_cut_line_between_the_nodes_is_a_reset_at_both_ends(tmp_path: Path, how: str) -> None:
    """A FIN without close_notify may have been sent by anyone on the way (RFC 8446 §6.1)."""
    with nodes(tmp_path) as pair:
        client, server = pair.in_mid_answer()
        pair.wire.cut(how=how)
        assert client.hears() == Heard(b"", RESET)
        assert server.hears() == Heard(b"", RESET)
        for node in (pair.near, pair.far):
            assert node.access.wait_for("connection complete")["level"] == "error"


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_cut_line_is_a_reset_for_an_end_that_had_finished(tmp_path: Path, how: str) -> None:
    """The client has said all it had to say; that does not make half an answer a whole one."""
    with nodes(tmp_path) as pair:
        client, server = pair.in_mid_answer()
        client.finishes()
        assert server.hears() == Heard(b"", CLEAN)
        pair.wire.cut(how=how)
        assert client.hears() == Heard(b"", RESET)
        assert server.breaks() == "EPIPE"


def test_frozen_far_node_is_a_reset_for_the_client(tmp_path: Path) -> None:
    with nodes(tmp_path, deadlines=IMPATIENT) as pair:
        client, _ = pair.in_mid_answer()
        pair.far.signal(signal.SIGSTOP)
        assert client.hears() == Heard(b"", RESET)
        line = pair.near.access.wait_for("connection complete")
        assert "ping timeout" in line["error"], line


def test_frozen_near_node_is_a_reset_for_the_server(tmp_path: Path) -> None:
    with nodes(tmp_path, deadlines=IMPATIENT) as pair:
        _, server = pair.in_mid_answer()
        pair.near.signal(signal.SIGSTOP)
        assert server.hears() == Heard(b"", RESET)
        line = pair.far.access.wait_for("connection complete")
        assert "ping timeout" in line["error"], line


def test_pings_keep_a_silent_tunnel_that_answers_them(tmp_path: Path) -> None:
    """Ten intervals without a byte of the applications, and the connection is as good as before."""
    with nodes(tmp_path, deadlines=IMPATIENT) as pair:
        client, server = pair.in_mid_answer()
        quiet = pair.wire.passed
        # 200 ms apart, at least 9 + 8 bytes of frame and 22 of record each way.
        eventually(lambda: pair.wire.passed > quiet + 10 * 2 * 39, "ten pings have been answered")
        server.says(b"wer").closes()
        assert client.hears() == Heard(b"wer", CLEAN)


@dataclass(frozen=True)
class Scripted:
    """One real node whose peer does what the test says."""

    node: Node
    application: Application
    target: str
    tls: ssl.SSLContext
    listener: socket.socket | None = None

    def client_and_stream(self, stack: ExitStack) -> tuple[End, Peer, int]:
        """A client of the real node, connected to the scripted server."""
        assert self.listener is not None
        client = self.application.adopts(direct(self.node.forwards[self.target]))
        peer = stack.enter_context(Peer.accepts(self.listener, self.tls))
        return client, peer, peer.takes_request()

    def server_and_stream(self, stack: ExitStack) -> tuple[End, Peer, int]:
        """The application behind the real node, connected to the scripted client."""
        address = (self.node.address, HBONE_PORT)
        peer = stack.enter_context(Peer.dials(address, self.tls))
        stream = peer.requests(self.target)
        return self.application.accepts(), peer, stream


@pytest.fixture(scope="module")
def scripted_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    """A real near node."""
    folder = tmp_path_factory.mktemp("scripted-server")
    with Mesh(folder, network="127.1") as mesh, ExitStack() as stack:
        mesh.workload("client")
        address = mesh.workload("server")
        application = stack.enter_context(Application.listen(address))
        target = as_text(application.address)
        # One worker: its pool is the only one, so a second request takes the tunnel of the first.
        node = stack.enter_context(Node(mesh, "client", forwards=[target], workers=1))
        listener = stack.enter_context(socket.create_server((address, HBONE_PORT)))
        tls = context(folder, "server", server=True)
        yield Scripted(node, application, target, tls, listener)


@pytest.fixture(scope="module")
def scripted_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    """A real far node."""
    folder = tmp_path_factory.mktemp("scripted-client")
    with Mesh(folder, network="127.1") as mesh, ExitStack() as stack:
        mesh.workload("client")
        application = stack.enter_context(Application.listen(mesh.workload("server")))
        node = stack.enter_context(Node(mesh, "server"))
        tls = context(folder, "client", server=False)
        yield Scripted(node, application, as_text(application.address), tls)


# Every way in which a peer can break off a stream that stands.
BREAKS: dict[str, Callable[[Peer, int], None]] = {
    **{
        f"RST_STREAM {code.name}": partial(
            lambda peer, stream, code: peer.resets(stream, code), code=code
        )
        for code in (
            ErrorCodes.NO_ERROR,
            ErrorCodes.CANCEL,
            ErrorCodes.INTERNAL_ERROR,
            ErrorCodes.REFUSED_STREAM,
            ErrorCodes.CONNECT_ERROR,
            ErrorCodes.STREAM_CLOSED,
        )
    },
    "a RST_STREAM code that nobody knows": lambda peer, stream: peer.resets(stream, 0xBAD),
    "GOAWAY NO_ERROR and the end of TLS": lambda peer, stream: peer.goes_away(
        stream
    ).closes_in_order(),
    "GOAWAY ENHANCE_YOUR_CALM and a FIN": lambda peer, stream: peer.goes_away(
        stream, ErrorCodes.ENHANCE_YOUR_CALM
    ).hangs_up(),
    "the end of TLS": lambda peer, _: peer.closes_in_order(),
    "a FIN without close_notify": lambda peer, _: peer.hangs_up(),
    "a frame that breaks the protocol": lambda peer, _: peer.babbles(),
}


@pytest.mark.parametrize("how", [*BREAKS, "GOAWAY below the stream"])
def test_peer_that_breaks_off_an_answer_is_a_reset_for_the_client(
    scripted_server: Scripted, how: str
) -> None:
    with ExitStack() as stack:
        client, peer, stream = scripted_server.client_and_stream(stack)
        peer.says(stream, BEGINNING)
        assert client.takes(len(BEGINNING)) == BEGINNING
        if how in BREAKS:
            BREAKS[how](peer, stream)
        else:
            peer.goes_away(stream - 1)  # "never looked at", although it was answered
        assert client.hears() == Heard(b"", RESET)


@pytest.mark.parametrize("how", BREAKS)
def test_peer_that_breaks_off_a_request_is_a_reset_for_the_server(
    scripted_client: Scripted, how: str
) -> None:
    with ExitStack() as stack:
        server, peer, stream = scripted_client.server_and_stream(stack)
        peer.says(stream, BEGINNING)
        assert server.takes(len(BEGINNING)) == BEGINNING
        BREAKS[how](peer, stream)
        assert server.hears() == Heard(b"", RESET)


@pytest.mark.parametrize("how", BREAKS)
def test_bytes_before_a_break_arrive_before_the_reset(scripted_server: Scripted, how: str) -> None:
    """All of them, although the reader comes late."""
    with ExitStack() as stack:
        client, peer, stream = scripted_server.client_and_stream(stack)
        peer.says(stream, BEGINNING)
        BREAKS[how](peer, stream)
        scripted_server.node.access.wait_for(
            "connection complete", src_addr=as_text(client.socket.getsockname())
        )
        assert client.hears() == Heard(BEGINNING, RESET)


def test_answer_and_its_break_in_one_record_reach_a_client_that_had_finished(
    scripted_server: Scripted,
) -> None:
    """The relay has not begun when the stream is over, and there is nothing left to send."""
    with ExitStack() as stack:
        assert scripted_server.listener is not None
        client = scripted_server.application.adopts(
            direct(scripted_server.node.forwards[scripted_server.target])
        )
        client.says(b"question").finishes()
        peer = stack.enter_context(Peer.accepts(scripted_server.listener, scripted_server.tls))
        stream = peer.takes_request(status=None)
        assert peer.waits_for(h2.events.DataReceived).data == b"question"
        peer.h2.send_headers(stream, [(":status", "200")])
        peer.h2.send_data(stream, BEGINNING)
        peer.resets(stream, ErrorCodes.CANCEL)
        assert client.hears() == Heard(BEGINNING, RESET)


def test_goaway_lets_running_streams_finish_and_the_next_connection_takes_a_new_tunnel(
    scripted_server: Scripted,
) -> None:
    with ExitStack() as stack:
        client, peer, stream = scripted_server.client_and_stream(stack)
        peer.goes_away_softly(stream)
        second, other_peer, other_stream = scripted_server.client_and_stream(stack)
        other_peer.says(other_stream, b"from the new tunnel", end=True)
        assert second.hears() == Heard(b"from the new tunnel", CLEAN)
        peer.says(stream, b"to the end", end=True)
        assert client.hears() == Heard(b"to the end", CLEAN)


def test_request_that_a_goaway_refuses_is_made_again_in_a_new_tunnel(
    scripted_server: Scripted,
) -> None:
    """No byte of the application has been sent yet, so the application need not know."""
    with ExitStack() as stack:
        _, peer, _ = scripted_server.client_and_stream(stack)
        assert scripted_server.listener is not None
        client = scripted_server.application.adopts(
            direct(scripted_server.node.forwards[scripted_server.target])
        )
        refused = peer.takes_request(status=None)
        peer.goes_away_softly(refused - 2)
        again = stack.enter_context(Peer.accepts(scripted_server.listener, scripted_server.tls))
        again.says(again.takes_request(), b"served after all", end=True)
        assert client.hears() == Heard(b"served after all", CLEAN)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 502, 503, 504, 204, 299, 302])
def test_answer_that_is_not_200_is_a_reset(scripted_server: Scripted, status: int) -> None:
    with ExitStack() as stack:
        assert scripted_server.listener is not None
        client = scripted_server.application.adopts(
            direct(scripted_server.node.forwards[scripted_server.target])
        )
        peer = stack.enter_context(Peer.accepts(scripted_server.listener, scripted_server.tls))
        peer.takes_request(status=status)
        assert client.hears() == Heard(b"", RESET)
        line = scripted_server.node.access.wait_for(
            "connection complete", src_addr=as_text(client.socket.getsockname())
        )
        assert f"http status: {status}" in line["error"], line


# One allow policy that matches nobody (spec/dataplane.md §8).
DENY_ALL = {
    "name": "deny-all",
    "namespace": "default",
    "scope": "Namespace",
    "action": "Allow",
    "rules": [],
}

# Why there is no connection: what SOCKS5 says about it (RFC 1928 §6), and what stands in the log.
REFUSALS = {
    "the application's port is closed": (5, "http status: 503"),
    "policy denies it": (2, "http status: 401"),
    "the far node is down": (5, r"^io error: Connection refused \(os error 111\)$"),
    "nobody knows the name": (4, "nobody.default.svc.cluster.local"),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_connection_that_could_not_be_made_is_a_reset(tmp_path: Path, why: str) -> None:
    code, logged = REFUSALS[why]
    with Mesh(tmp_path, network="127.1") as mesh, ExitStack() as stack:
        mesh.workload("client")
        application = stack.enter_context(Application.listen(mesh.workload("server")))
        host, port = application.address
        match why:
            case "the application's port is closed":
                application.stops_listening()
            case "policy denies it":
                mesh.policies.append(DENY_ALL)
            case "nobody knows the name":
                host, port = "nobody.default.svc.cluster.local", 80
        if why != "the far node is down":
            stack.enter_context(Node(mesh, "server"))
        node = stack.enter_context(Node(mesh, "client", forwards=[f"{host}:{port}"], socks5=True))

        assert hears_at_once(node.forwards[f"{host}:{port}"]) == Heard(b"", RESET)
        line = node.access.wait_for(error=re.compile(logged))

        with pytest.raises(SocksReply) as reply:
            through_socks5(node.socks5, host, port)
        told = application.adopts(reply.value.connection)
        assert reply.value.code == code
        assert told.hears() == Heard(b"", RESET)
        again = node.access.wait_for(error=re.compile(logged), after=1)
        assert again["error"] == line["error"]


def test_connection_that_could_not_be_made_is_a_reset_for_a_client_that_has_spoken(
    tmp_path: Path,
) -> None:
    """Bytes that nobody will read, and a FIN behind them, change nothing."""
    with Mesh(tmp_path, network="127.1") as mesh, ExitStack() as stack:
        mesh.workload("client")
        application = stack.enter_context(Application.listen(mesh.workload("server")))
        target = as_text(application.address)
        node = stack.enter_context(Node(mesh, "client", forwards=[target]))
        # A peer that accepts and is silent holds the connection until the client has spoken.
        listener = stack.enter_context(
            socket.create_server((mesh.address_of("server"), HBONE_PORT))
        )
        client = application.adopts(direct(node.forwards[target]))
        silent, _ = listener.accept()
        client.says(b"GET / HTTP/1.0\r\n\r\n").finishes()
        silent.close()
        assert client.hears() == Heard(b"", RESET)
