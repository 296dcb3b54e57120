"""An end is what it was: every way in which a connection can end, through the tunnel and without it.

Each story is told twice, over plain TCP on loopback and through the nodes, and both ends must have seen the
same: the bytes, then FIN or RST, and what a later write says. The ends that applications do not make (a killed
node, a cut tunnel, a refusal) are in test_abnormal_ends.py.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import Application, End, Heard, direct, through_socks5
from tests.support.nodes import Mesh, Node, as_text, eventually

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    Observed = list[Heard | str]
    Tell = Callable[[End, End], Observed]

HALF = b"half of what there was to say"
# Fits into any socket's buffers, and not into one DATA frame or one TLS record.
LONG = bytes(range(256)) * 160
# Nothing has been taken for so many seconds; what is told afterwards does not depend on it.
BLOCKED = 0.1
# More than all buffers and windows on the way hold.
ENDLESS = 64 * 1024 * 1024

WAYS_TO_END: dict[str, Callable[[End], object]] = {
    "finishes": End.finishes,
    "closes": End.closes,
    "resets": End.resets,
}


@dataclass(frozen=True)
class Tunnel:
    """Two nodes with an application behind the far one, one without a node, and every way in.

    `copier` is a near node that copies the bytes of plain connections instead of splicing them.
    """

    near: Node
    copier: Node
    far: Node
    ways: dict[str, tuple[Application, Callable[[], socket.socket]]]

    def enters(self, way: str) -> Node:
        """The node by which a way begins."""
        return self.copier if way == "passthrough-copied" else self.near


WAYS = ("port", "socks5", "passthrough-port", "passthrough-socks5", "passthrough-copied")


@pytest.fixture(scope="module")
def tunnel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tunnel]:
    """One pair of nodes for all stories; it must be left as it was found."""
    with ExitStack() as stack:
        mesh = stack.enter_context(Mesh(tmp_path_factory.mktemp("ends"), network="127.1"))
        mesh.workload("client")
        mesh.workload("copier")
        meshed = stack.enter_context(Application.listen(mesh.workload("server")))
        plain = stack.enter_context(Application.listen(mesh.workload("plain", protocol="TCP")))
        targets = [as_text(meshed.address), as_text(plain.address)]
        far = stack.enter_context(Node(mesh, "server"))
        near = stack.enter_context(Node(mesh, "client", forwards=targets, socks5=True))
        copier = stack.enter_context(Node(mesh, "copier", forwards=targets[1:], splice=False))
        yield Tunnel(
            near,
            copier,
            far,
            {
                "port": (meshed, partial(direct, near.forwards[targets[0]])),
                "socks5": (meshed, partial(through_socks5, near.socks5, *meshed.address)),
                "passthrough-port": (plain, partial(direct, near.forwards[targets[1]])),
                "passthrough-socks5": (plain, partial(through_socks5, near.socks5, *plain.address)),
                "passthrough-copied": (plain, partial(direct, copier.forwards[targets[1]])),
            },
        )
        for node in (near, copier):
            closed = partial(everything_is_closed, node)
            eventually(closed, "every application's socket is closed")
            stories = node.metrics().total("istio_tcp_connections_opened_total")
            assert node.metrics().total("istio_tcp_connections_closed_total") == stories
            assert node.metrics().total("istio_tcp_connections_failed_total") == 0
        assert far.metrics().total("istio_tcp_connections_failed_total") == 0


def everything_is_closed(node: Node) -> bool:
    """Whether the node has no connection of an application left."""
    return node.metrics().total("istio_tcp_sockets_open", reporter="source") == 0


def stands(client: End, server: End) -> None:
    """A byte has gone all the way: before that a RST fails the node's dial, as it fails a plain `connect`."""
    client.says(b".")
    assert server.takes(1) == b"."


def one_ends(who: str, how: str, before: bytes, then: str) -> Tell:
    """`who` says `before` and ends; the other end, if it may still speak, answers and ends."""

    def tell(client: End, server: End) -> Observed:
        one, other = (client, server) if who == "client" else (server, client)
        if before:
            one.says(before)
        elif how == "resets":
            stands(client, server)
        WAYS_TO_END[how](one)
        heard: Observed = [other.hears()]
        if how == "finishes":
            other.says(LONG)
            WAYS_TO_END[then](other)
            heard.append(one.hears())
        elif how == "closes":
            # Nobody is there any more: the first answer finds out, and its sender is told.
            heard.append(other.says_until_it_breaks())
        return heard

    return tell


def closes_with_unread_bytes(who: str, before: bytes) -> Tell:
    """`close(2)` while bytes wait that nobody read: the kernel makes it a RST."""

    def tell(client: End, server: End) -> Observed:
        one, other = (client, server) if who == "client" else (server, client)
        other.says(b"never read")
        one.waits_for_bytes()
        if before:
            one.says(before)
        one.closes()
        return [other.hears()]

    return tell


def resets_after_its_fin(who: str, before: bytes) -> Tell:
    """FIN first; later, when the other end has heard it, RST."""

    def tell(client: End, server: End) -> Observed:
        one, other = (client, server) if who == "client" else (server, client)
        if before:
            one.says(before)
        one.finishes()
        heard: Observed = [other.hears()]
        one.resets()
        return [*heard, other.breaks()]

    return tell


def resets_one_that_is_sending(who: str, *, after_fin: bool) -> Tell:
    """RST toward an end that is blocked in a long write."""

    def tell(client: End, server: End) -> Observed:
        one, other = (client, server) if who == "client" else (server, client)
        heard: Observed = []
        if after_fin:
            one.finishes()
            heard.append(other.hears())
        other.says_until_it_blocks(ENDLESS, BLOCKED)
        one.resets()
        return [*heard, other.says_until_it_breaks()]

    return tell


def resets_one_that_does_not_read(who: str) -> Tell:
    """RST after more bytes than the other end takes: it learns of the RST without reading."""

    def tell(client: End, server: End) -> Observed:
        one, other = (client, server) if who == "client" else (server, client)
        one.says_until_it_blocks(ENDLESS, BLOCKED)
        one.resets()
        # The nodes may try to deliver what came before for some seconds.
        return [other.breaks(within=12)]

    return tell


def both_finish_at_once(before: bytes) -> Tell:
    """Each says its FIN before it has heard the other's."""

    def tell(client: End, server: End) -> Observed:
        for end in (client, server):
            if before:
                end.says(before)
            end.finishes()
        return [client.hears(), server.hears()]

    return tell


def both_reset_at_once(client: End, server: End) -> Observed:
    """There is nobody left to see anything; the nodes must notice."""
    stands(client, server)
    client.resets()
    server.resets()
    return []


def client_finishes_and_server_resets_in_mid_answer(client: End, server: End) -> Observed:
    """The client has read a part of the answer."""
    client.says(HALF).finishes()
    heard: Observed = [server.hears()]
    server.says(LONG)
    assert client.takes(100) == LONG[:100]
    server.resets()
    return [*heard, client.hears()]


def server_speaks_first(client: End, server: End) -> Observed:
    """As in SMTP or MySQL: the client waits for a greeting."""
    server.says(b"220 ready")
    heard: Observed = [client.takes(9).decode()]
    client.says(b"QUIT").finishes()
    heard.append(server.hears())
    server.says(b"221 bye").closes()
    return [*heard, client.hears()]


def they_take_turns(client: End, server: End) -> Observed:
    """A conversation, then the client's FIN, a late answer, the server's FIN."""
    heard: Observed = []
    for number in range(20):
        question, answer = b"question %d" % number, LONG[: 1 + number * 1000]
        client.says(question)
        heard.append(str(server.takes(len(question)) == question))
        server.says(answer)
        heard.append(str(client.takes(len(answer)) == answer))
    client.finishes()
    heard.append(server.hears())
    server.says(HALF).finishes()
    return [*heard, client.hears()]


def stories() -> Iterator[tuple[str, Tell]]:
    """Every story with its name."""
    befores = {"saying nothing": b"", "after a few bytes": HALF, "after many bytes": LONG}
    for who in ("client", "server"):
        for (amount, before), how in product(befores.items(), WAYS_TO_END):
            thens = WAYS_TO_END if how == "finishes" else ("",)
            for then in thens:
                name = f"{who} {how} {amount}" + (f", the other {then}" if then else "")
                yield name, one_ends(who, how, before, then)
        for amount, before in befores.items():
            name = f"{who} closes with unread bytes {amount}"
            yield name, closes_with_unread_bytes(who, before)
            yield f"{who} resets after its FIN {amount}", resets_after_its_fin(who, before)
        yield (
            f"{who} resets one that is sending",
            resets_one_that_is_sending(who, after_fin=False),
        )
        yield (
            f"{who} finishes, then resets one that is sending",
            resets_one_that_is_sending(who, after_fin=True),
        )
        yield f"{who} resets one that does not read", resets_one_that_does_not_read(who)
    for amount, before in befores.items():
        yield f"both finish at once {amount}", both_finish_at_once(before)
    for tell in (
        both_reset_at_once,
        client_finishes_and_server_resets_in_mid_answer,
        server_speaks_first,
        they_take_turns,
    ):
        yield tell.__name__.replace("_", " "), tell


STORIES = dict(stories())

# Seconds each, all of them spent waiting; and SOCKS5 has no part in them any more.
LONG_STORIES = [name for name in STORIES if name.endswith("does not read")]
TOLD = list(product(WAYS, (name for name in STORIES if name not in LONG_STORIES)))
TOLD_AT_ONCE = list(product((way for way in WAYS if "socks5" not in way), LONG_STORIES))


@pytest.mark.parametrize(("way", "story"), TOLD)
def test_both_ends_see_through_the_tunnel_what_plain_tcp_shows(
    tunnel: Tunnel, way: str, story: str
) -> None:
    application, dial = tunnel.ways[way]
    tell = STORIES[story]
    plain = tell(*application.pair(partial(direct, application.address)))
    client, server = application.pair(dial)
    address, mark = as_text(client.socket.getsockname()), len(tunnel.far.access)

    assert tell(client, server) == plain

    lines = [tunnel.enters(way).access.wait_for("connection complete", src_addr=address)]
    if "passthrough" not in way:
        lines.append(tunnel.far.access.wait_for("connection complete", after=mark))
    assert not [line for line in lines if "error" in line], "an application's end is no failure"


def test_both_ends_see_it_too_where_it_takes_a_node_seconds_to_give_up(tunnel: Tunnel) -> None:
    mark = len(tunnel.far.access)
    with ThreadPoolExecutor(2 * len(TOLD_AT_ONCE)) as tellers:
        told = []
        for way, story in TOLD_AT_ONCE:
            application, dial = tunnel.ways[way]
            plain = application.pair(partial(direct, application.address))
            through = application.pair(dial)
            address = as_text(through[0].socket.getsockname())
            futures = [tellers.submit(STORIES[story], *ends) for ends in (plain, through)]
            told.append((way, story, address, futures))
        for way, story, address, (plainly, through_nodes) in told:
            assert through_nodes.result() == plainly.result(), f"{way}: {story}"
            line = tunnel.enters(way).access.wait_for("connection complete", src_addr=address)
            assert "error" not in line, "an application's end is no failure"
    meshed = [way for way, _ in TOLD_AT_ONCE if "passthrough" not in way]

    def ended() -> list[dict[str, object]]:
        lines = tunnel.far.access.all()[mark:]
        return [line for line in lines if line["message"] == "connection complete"]

    eventually(lambda: len(ended()) == len(meshed), "the far node has told of each of them")
    assert not [line for line in ended() if "error" in line], "an application's end is no failure"


def test_the_control_shows_what_tcp_is_known_to_show(tunnel: Tunnel) -> None:
    """If loopback itself were to behave in another way, the table above would compare nothing with nothing."""
    application, _ = tunnel.ways["port"]
    pair = partial(application.pair, partial(direct, application.address))
    assert STORIES["client finishes after a few bytes, the other resets"](*pair()) == [
        Heard(HALF, "FIN"),
        Heard(LONG, "ECONNRESET"),
    ]
    assert STORIES["server resets after many bytes"](*pair()) == [Heard(LONG, "ECONNRESET")]
    assert STORIES["client closes with unread bytes saying nothing"](*pair()) == [
        Heard(b"", "ECONNRESET")
    ]
    assert STORIES["server resets after its FIN saying nothing"](*pair()) == [
        Heard(b"", "FIN"),
        "EPIPE",
    ]
