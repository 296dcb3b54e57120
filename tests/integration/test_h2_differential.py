"""Our engine against Python's `h2`, over real sockets with TLS, as client and as server.

The same conversation in many spellings (whole, byte by byte, seeded by chance) must deliver the same bytes and
the same ends. What h2spec cannot ask of a server without bodies is asked here on CONNECT streams.
"""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import PriorityFrame, SettingsFrame, WindowUpdateFrame

from tests.interop.scripted import ScriptedPeer
from tests.interop.spelling import BYTES, SPELLINGS, WHOLE, Spelling
from tests.interop.transfer import random_bytes
from tests.support.apps import Application, End, Heard, direct
from tests.support.certs import Authority
from tests.support.nodes import HBONE_PORT, Mesh, Node, as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Address = tuple[str, int]

CLIENT = "spiffe://cluster.local/ns/default/sa/client"
SERVER = "spiffe://cluster.local/ns/default/sa/server"
KIB = 1024

each_spelling = pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda each: each.name)


def size_of(spelling: Spelling) -> int:
    """Of the payload: byte by byte costs a TLS record each."""
    return 3 * KIB if spelling is BYTES else 100 * KIB


# -- our node is the server --------------------------------------------------------------------------------------


class Server(NamedTuple):
    """A node, and the way to be its client."""

    app: Application
    dial: Callable[[], ssl.SSLSocket]

    def peer(self, spelling: Spelling, **settings: int) -> ScriptedPeer:
        """A client with these settings."""
        values = {SettingCodes[name.upper()]: value for name, value in settings.items()}
        return ScriptedPeer(self.dial(), spelling, client=True, settings=values)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with Mesh(folder, network="127.3") as mesh:
        mesh.workload("client")
        here = mesh.workload("server")
        with Application.listen(here) as app, Node(mesh, "server", workers=1) as node:
            leaf = Authority.of_node(folder / "ca").leaf(CLIENT)
            context = leaf.client_context(folder / "leaf")

            def dial() -> ssl.SSLSocket:
                connection = socket.create_connection(node.bound["inbound"], 10)
                return context.wrap_socket(connection)

            yield Server(app, dial)


@each_spelling
def test_a_server_hears_the_same_in_every_spelling(server: Server, spelling: Spelling) -> None:
    with server.peer(spelling) as client:
        sent = {}
        for i in range(3):
            stream = client.connect(as_text(server.app.address), [("x-long", "y" * 700 * i)])
            application = server.app.accepts()
            client.until_answered(stream)
            assert client.heard[stream].head[":status"] == "200"
            sent[stream] = (application, random_bytes(size_of(spelling), seed=stream))
        for stream, (application, data) in sent.items():
            with threaded(application.hears) as hearing:
                client.says(stream, data, end=True)
            assert hearing.result == Heard(data, "FIN")
        for stream, (application, data) in sent.items():
            with threaded(partial(say_and_finish, application, data[::-1])):
                client.until_ended(stream)
            assert client.heard[stream].data == data[::-1]
            assert client.heard[stream].reset is None


@each_spelling
@pytest.mark.parametrize("window", [1, 100, 20 * KIB])
def test_a_server_keeps_to_a_small_window(server: Server, spelling: Spelling, window: int) -> None:
    data = random_bytes(60 if window == 1 else 3 * KIB, seed=window)
    with server.peer(spelling, initial_window_size=window) as client:
        stream = client.connect(as_text(server.app.address))
        application = server.app.accepts()
        with threaded(partial(say_and_finish, application, data)):
            client.until_ended(stream)
        assert client.heard[stream].data == data
        client.says(stream, b"", end=True)
        assert application.hears() == Heard(b"", "FIN")


@each_spelling
def test_trailers_end_a_stream_as_data_does(server: Server, spelling: Spelling) -> None:
    with server.peer(spelling) as client:
        stream = client.connect(as_text(server.app.address))
        application = server.app.accepts()
        client.says(stream, b"body")
        client.h2.send_headers(stream, [("x-checksum", "none")], end_stream=True)
        client.flush()
        assert application.hears() == Heard(b"body", "FIN")
        application.closes()
        client.until_ended(stream)


@each_spelling
def test_resets_pass_a_server_both_ways(server: Server, spelling: Spelling) -> None:
    with server.peer(spelling) as client:
        stream = client.connect(as_text(server.app.address))
        application = server.app.accepts()
        client.says(stream, b"before")
        assert application.takes(6) == b"before"
        client.h2.reset_stream(stream, ErrorCodes.CANCEL)
        client.flush()
        assert application.hears() == Heard(b"", "ECONNRESET")

        stream = client.connect(as_text(server.app.address))
        server.app.accepts().says(b"before").resets()
        client.until_reset(stream)
        assert b"before".startswith(client.heard[stream].data)
        assert client.heard[stream].reset == ErrorCodes.CANCEL
        assert not client.heard[stream].ended


def test_a_refusal_is_an_answer_in_full_and_then_no_error(server: Server) -> None:
    # RFC 9113 §8.1: with any other code a client may throw the answer away.
    with server.peer(WHOLE) as client:
        stream = client.connect("127.3.255.255:1")  # not an address of this workload
        client.until_reset(stream)
        assert client.heard[stream].head[":status"] == "400"
        assert client.heard[stream].ended
        assert client.heard[stream].reset == ErrorCodes.NO_ERROR


# What h2spec asks of an answer to GET (the MOOT list of tests/interop/test_h2spec.py), on a CONNECT stream.


def half_closed(client: ScriptedPeer, server: Server, data: bytes) -> int:
    """A stream on which only the server still sends: `data`, as the window lets it."""
    stream = client.connect(as_text(server.app.address))
    application = server.app.accepts()
    client.says(stream, b"", end=True)
    assert application.hears() == Heard(b"", "FIN")
    application.says(data).closes()
    return stream


def test_window_update_and_priority_count_on_a_half_closed_stream(server: Server) -> None:
    with server.peer(WHOLE, initial_window_size=0) as client:
        stream = half_closed(client, server, b"ab")
        client.raw(PriorityFrame(stream, depends_on=0, stream_weight=255))
        client.h2.increment_flow_control_window(1, stream)
        client.flush()
        client.listen_until(lambda: client.heard[stream].data)
        assert client.heard[stream].data == b"a"
        client.h2.increment_flow_control_window(1, stream)
        client.flush()
        client.until_ended(stream)
        assert client.heard[stream].data == b"ab"


def test_of_two_initial_windows_in_one_frame_the_last_counts(server: Server) -> None:
    with server.peer(WHOLE) as client:
        client.pays = False
        # By hand: a mapping cannot hold a setting twice. `h2` does not hear of it and is only less strict.
        twice = b"".join(
            SettingCodes.INITIAL_WINDOW_SIZE.to_bytes(2, "big") + value.to_bytes(4, "big")
            for value in (100, 1)
        )
        client.raw(Bytes(SettingsFrame(0), twice))
        stream = half_closed(client, server, b"abc")
        client.listen_until(lambda: client.heard[stream].data)
        nothing_more_comes(client)
        assert client.heard[stream].data == b"a"
        client.raw(WindowUpdateFrame(stream, 9))
        client.until_ended(stream)
        assert client.heard[stream].data == b"abc"


def test_an_end_needs_no_window(server: Server) -> None:
    with server.peer(WHOLE, initial_window_size=3) as client:
        client.pays = False
        stream = half_closed(client, server, b"abc")
        client.until_ended(stream)
        assert client.heard[stream].data == b"abc"


def test_an_initial_window_that_grows_opens_a_stream_that_waits(server: Server) -> None:
    with server.peer(WHOLE, initial_window_size=0) as client:
        stream = half_closed(client, server, b"a")
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1})
        client.flush()
        client.until_ended(stream)
        assert client.heard[stream].data == b"a"


def test_a_window_below_zero_must_be_paid_off_first(server: Server) -> None:
    with server.peer(WHOLE, initial_window_size=3) as client:
        client.pays = False
        stream = half_closed(client, server, b"abcdefg")
        client.listen_until(lambda: len(client.heard[stream].data) == 3)
        # Nothing is left of 3; with 2 as the initial size that is -1, and the first byte only pays the debt.
        client.raw(SettingsFrame(0, settings={SettingCodes.INITIAL_WINDOW_SIZE: 2}))
        client.raw(WindowUpdateFrame(stream, 1))
        nothing_more_comes(client)
        assert client.heard[stream].data == b"abc"
        client.h2.increment_flow_control_window(1, stream)
        client.flush()
        client.listen_until(lambda: len(client.heard[stream].data) > 3)
        nothing_more_comes(client)
        assert client.heard[stream].data == b"abcd"


def nothing_more_comes(client: ScriptedPeer) -> None:
    """A PING's answer stands behind what was said before it; the second one gives the node's tasks a turn between."""
    for _ in range(2):
        before = client.pongs
        client.h2.ping(b"anything")
        client.flush()
        client.listen_until(lambda before=before: client.pongs > before)  # type: ignore[misc]


# -- our node is the client --------------------------------------------------------------------------------------


class Client(NamedTuple):
    """A node whose local port leads to a listener of ours."""

    listener: socket.socket
    context: ssl.SSLContext
    way_in: Address
    apps: Application

    @contextmanager
    def tunnel(self, spelling: Spelling, **settings: int) -> Iterator[ScriptedPeer]:
        """The next tunnel that the node makes, to a server with these settings. None outlives its test."""
        values = {SettingCodes[name.upper()]: value for name, value in settings.items()}
        connection, _ = self.listener.accept()
        connection.settimeout(10)
        tls = self.context.wrap_socket(connection, server_side=True)
        with ScriptedPeer(tls, spelling, client=False, settings=values) as peer:
            yield peer


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("client")
    with Mesh(folder, network="127.3") as mesh:
        mesh.workload("client")
        far = mesh.workload("server")
        target = f"{far}:80"
        with (
            Application.listen(far) as apps,
            socket.create_server((far, HBONE_PORT)) as listener,
            Node(mesh, "client", forwards=[target], workers=1) as node,
        ):
            listener.settimeout(10)
            leaf = Authority.of_node(folder / "ca").leaf(SERVER)
            context = leaf.server_context(folder / "leaf")
            context.load_verify_locations(folder / "ca" / "root.pem")
            context.verify_mode = ssl.CERT_REQUIRED
            yield Client(listener, context, node.forwards[target], apps)


def next_request(peer: ScriptedPeer) -> int:
    """Wait for a CONNECT that has no answer yet."""
    known = set(peer.heard)
    peer.listen_until(lambda: any(peer.heard[s].head for s in set(peer.heard) - known))
    return next(iter(set(peer.heard) - known))


def answer(peer: ScriptedPeer, stream: int, *, interim: int = 0) -> None:
    """200, behind some 103 that a tunnel's client must skip."""
    for _ in range(interim):
        peer.h2.send_headers(stream, [(":status", "103"), ("link", "</style.css>")])
    peer.h2.send_headers(stream, [(":status", "200"), ("baggage", "service.name=" + "n" * 900)])
    peer.flush()


@each_spelling
def test_a_client_hears_the_same_in_every_spelling(client: Client, spelling: Spelling) -> None:
    first = client.apps.adopts(direct(client.way_in))
    with client.tunnel(spelling) as peer:
        ends = {}
        for i in range(3):
            application = first if i == 0 else client.apps.adopts(direct(client.way_in))
            stream = next_request(peer)
            assert peer.heard[stream].head[":method"] == "CONNECT"
            assert "traceparent" in peer.heard[stream].head
            answer(peer, stream, interim=i)
            ends[stream] = (application, random_bytes(size_of(spelling), seed=stream))
        for stream, (application, data) in ends.items():
            with threaded(application.hears) as hearing:
                peer.says(stream, data, end=True)
            assert hearing.result == Heard(data, "FIN")
        for stream, (application, data) in ends.items():
            with threaded(partial(say_and_finish, application, data[::-1])):
                peer.until_ended(stream)
            assert peer.heard[stream].data == data[::-1]
            assert peer.heard[stream].reset is None


@each_spelling
@pytest.mark.parametrize("window", [1, 100, 20 * KIB])
def test_a_client_keeps_to_a_small_window(client: Client, spelling: Spelling, window: int) -> None:
    data = random_bytes(60 if window == 1 else 3 * KIB, seed=window)
    application = client.apps.adopts(direct(client.way_in))
    with client.tunnel(spelling, initial_window_size=window) as peer:
        stream = next_request(peer)
        answer(peer, stream)
        # Until it has heard our SETTINGS, a client may send as much as RFC 9113 gives every stream (§6.9.2).
        peer.listen_until(lambda: peer.settings_acknowledged)
        with threaded(partial(say_and_finish, application, data)):
            peer.until_ended(stream)
        assert peer.heard[stream].data == data
        peer.says(stream, b"", end=True)
        assert application.hears() == Heard(b"", "FIN")


@each_spelling
def test_trailers_of_a_server_end_its_stream(client: Client, spelling: Spelling) -> None:
    application = client.apps.adopts(direct(client.way_in))
    with client.tunnel(spelling) as peer:
        stream = next_request(peer)
        answer(peer, stream)
        peer.says(stream, b"body")
        peer.h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        peer.flush()
        assert application.hears() == Heard(b"body", "FIN")
        application.finishes()
        peer.until_ended(stream)


@each_spelling
def test_resets_pass_a_client_both_ways(client: Client, spelling: Spelling) -> None:
    application = client.apps.adopts(direct(client.way_in))
    with client.tunnel(spelling) as peer:
        stream = next_request(peer)
        answer(peer, stream)
        peer.says(stream, b"before")
        assert application.takes(6) == b"before"
        peer.h2.reset_stream(stream, ErrorCodes.CANCEL)
        peer.flush()
        assert application.hears() == Heard(b"", "ECONNRESET")

        application = client.apps.adopts(direct(client.way_in))
        stream = next_request(peer)
        answer(peer, stream)
        peer.says(stream, b"x")
        assert application.takes(1) == b"x"
        application.resets()
        peer.until_reset(stream)
        assert peer.heard[stream].reset == ErrorCodes.CANCEL
        assert not peer.heard[stream].ended


def test_connections_wait_for_no_stream_of_a_tunnel_with_one(client: Client) -> None:
    first = client.apps.adopts(direct(client.way_in))
    with client.tunnel(WHOLE, max_concurrent_streams=1) as one:
        stream = next_request(one)
        answer(one, stream)
        one.says(stream, b"first")
        assert first.takes(5) == b"first"
        second = client.apps.adopts(direct(client.way_in))
        with client.tunnel(WHOLE, max_concurrent_streams=1) as other:
            stream = next_request(other)
            answer(other, stream)
            other.says(stream, b"second", end=True)
            assert second.hears() == Heard(b"second", "FIN")


# ---------------------------------------------------------------------------------------------------------------


class Bytes(SettingsFrame):
    """A frame with a body of one's own making."""

    def __init__(self, frame: SettingsFrame, body: bytes) -> None:
        super().__init__(frame.stream_id)
        self._body = body

    def serialize_body(self) -> bytes:
        """As given."""
        return self._body


def say_and_finish(application: End, data: bytes) -> None:
    """All of it, then FIN."""
    application.says(data).finishes()


class Hearing:
    """Where a thread leaves what it heard."""

    result: object = None


@contextmanager
def threaded(work: Callable[[], object]) -> Iterator[Hearing]:
    """Do this beside the body of the `with`; whoever leaves waits for it."""
    hearing, failures = Hearing(), []

    def run() -> None:
        try:
            hearing.result = work()
        except Exception as failure:
            failures.append(failure)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield hearing
    thread.join(15)
    if failures:
        raise failures[0]
    assert not thread.is_alive(), "it has not ended"
