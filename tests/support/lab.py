"""One real node between scripted ends: whoever dials it, whomever it dials, and an application behind it.

The node makes its own CA; the lab reads the root's key from the folder, so that a test can show the node any
certificate that it should, or should not, believe. The scripts are `hbone_peer.py`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import socket
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from hyperframe.frame import DataFrame

from tests.support.apps import SocksReply, through_socks5
from tests.support.certs import Authority, Leaf
from tests.support.hbone_peer import Wire, answering, listening, serve
from tests.support.nodes import Mesh, Node

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from pathlib import Path
    from types import TracebackType

    from tests.support.hbone_peer import Script

CLIENT = "spiffe://cluster.local/ns/default/sa/client"
PEER = "spiffe://cluster.local/ns/default/sa/peer"
PORT = 8080
DEADLINE = 30.0
# The longest that a neighbour may wait, in seconds beyond what the machine itself makes it wait: some fifty times what is
# seen beside two idle cores, and less than anybody waits who stands behind a worker that is held up.
UNDISTURBED = 8.0
# So many waits of one who does not go through the node are what the same machine may add to a neighbour's.
BESIDE = 10


class Lab:
    """`with Lab(folder) as lab:` runs the node `web`; the workload `peer` is the test's to play."""

    def __init__(self, folder: Path, *, network: str, **node: Any) -> None:
        """`node` goes into the node's file as it is, for example `deadlines`."""
        self._folders = (folder / f"leaf-{i}" for i in itertools.count())
        self._folder = folder
        self.mesh = Mesh(folder, network=network)
        self.address = self.mesh.workload("web")
        self.peer = self.mesh.workload("peer")
        self.hostname = self.mesh.service("web", {80: PORT}, "web")
        self._to_peer = f"{self.peer}:{PORT}"
        forwards = [self._to_peer, *node.pop("forwards", [])]
        self.node = Node(self.mesh, "web", forwards=forwards, socks5=True, admin=True, **node)

    def __enter__(self) -> Self:
        """Start the node."""
        self.mesh.__enter__()
        try:
            self.node.__enter__()
        except BaseException:
            self.mesh.__exit__()
            raise
        self.authority = Authority.of_node(self._folder / "ca")
        self.good = self.authority.leaf(CLIENT)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the node; fails if it crashed."""
        try:
            self.node.__exit__(kind, error, trace)
        finally:
            self.mesh.__exit__()

    @property
    def inbound(self) -> tuple[str, int]:
        """Where the node takes tunnels."""
        return self.node.bound["inbound"]

    @property
    def authority_of_web(self) -> str:
        """The application behind the node, as a CONNECT names it."""
        return f"{self.address}:{PORT}"

    @property
    def local_port(self) -> tuple[str, int]:
        """The node's local port that leads to the scripted peer."""
        return self.node.forwards[self._to_peer]

    def as_client(self, leaf: Leaf | None = None) -> ssl.SSLContext:
        """A client with this leaf, or with one that the node believes."""
        return (leaf or self.good).client_context(next(self._folders))

    def as_server(self, leaf: Leaf | None = None) -> ssl.SSLContext:
        """A server with this leaf, or with the one that the node expects of the peer."""
        return (leaf or self.authority.leaf(PEER)).server_context(next(self._folders))

    def playing_peer(
        self, script: Script | None = None, *, leaf: Leaf | None = None
    ) -> contextlib.AbstractAsyncContextManager[None]:
        """The peer that the node dials, with any certificate and any behaviour."""
        return serve((self.peer, 15008), self.as_server(leaf), script or answering(200))

    @contextlib.asynccontextmanager
    async def application(self) -> AsyncIterator[list[str]]:
        """An echo behind the node; gives the list of those who have connected to it."""
        guests: list[str] = []

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            guests.append(str(writer.get_extra_info("peername")))
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

        async with listening((self.address, PORT), echo):
            yield guests

    async def logged(self, after: int, **wanted: Any) -> dict[str, Any]:
        """The access-log line that fits, among those after the first `after`."""
        wanted = {name: value for name, value in wanted.items() if value != ""}
        wait = functools.partial(self.node.access.wait_for, after=after, **wanted)
        return await asyncio.to_thread(wait)

    async def counted(self, name: str, **labels: str) -> float:
        """A metric's sum now."""
        return (await asyncio.to_thread(self.node.metrics)).total(name, **labels)

    async def refused(self, side: str, reason: str) -> float:
        """How often the node has refused for this reason."""
        return await self.counted("ztunnel_refusals_total", side=side, reason=reason)

    async def assert_good_tunnels_pass(self) -> None:
        """A peer with a good certificate gets its bytes back, in and out; what the log has of it is there."""
        lines = len(self.node.access)
        async with (
            self.application(),
            await Wire.meet(self.inbound, self.as_client()) as wire,
        ):
            await round_trip(wire, await wire.connect(self.authority_of_web))
        async with self.playing_peer():
            assert (await asyncio.to_thread(dial_out, self)).what == "answered"
        # Or a later test could take them for its own.
        for direction in ("inbound", "outbound"):
            await self.logged(lines, message="connection complete", direction=direction)


async def round_trip(wire: Wire, stream: int, payload: bytes = b"are you there?") -> float:
    """Sends bytes to the echo and waits for all of them; gives the seconds it took."""
    began = time.monotonic()
    await wire.send(DataFrame(stream, data=payload))
    assert await wire.data(stream, len(payload)) == payload
    return time.monotonic() - began


class Neighbour:
    """A well-behaved peer that does round trips in the background, and remembers the slowest.

    Beside it goes one who asks the same application without the node: what it waits is the machine's doing.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.worst = 0.0
        self.beside = 0.0
        """The slowest trip past the node."""
        self.trips = 0
        self._tripped = asyncio.Condition()

    async def __aenter__(self) -> Self:
        """Connect, and begin."""
        self._stack = contextlib.AsyncExitStack()
        self.guests = await self._stack.enter_async_context(self._lab.application())
        context = self._lab.as_client()
        wire = await self._stack.enter_async_context(await Wire.meet(self._lab.inbound, context))
        stream = await wire.connect(self._lab.authority_of_web)
        beside = await self._stack.enter_async_context(
            await Wire.bare((self._lab.address, PORT)),
        )
        self._task = asyncio.ensure_future(self._go_on(wire, stream, beside, context))
        return self

    async def __aexit__(self, *_: object) -> None:
        """One more round trip, then leave; raises what went wrong meanwhile."""
        last = asyncio.ensure_future(self.more_trips(2))
        try:
            async with asyncio.timeout(DEADLINE):
                await asyncio.wait([last, self._task], return_when=asyncio.FIRST_COMPLETED)
        finally:
            last.cancel()
            self._task.cancel()
            try:
                with contextlib.suppress(asyncio.CancelledError):
                    await self._task
            finally:
                await self._stack.aclose()

    async def more_trips(self, count: int) -> None:
        """Waits for so many more round trips."""
        enough = self.trips + count
        async with self._tripped:
            await self._tripped.wait_for(lambda: self.trips >= enough)

    def was_undisturbed(self) -> None:
        """Fails if a trip took longer than a node may make it, or the machine has made it."""
        assert self.worst < UNDISTURBED + BESIDE * self.beside, str(self)

    def others(self) -> int:
        """How many connections of others the application has seen."""
        return len(self.guests) - 2 - self.trips

    def __str__(self) -> str:
        """Its figures, for a failure's message."""
        return (
            f"a neighbour made {self.trips} trips, the slowest {self.worst * 1000:.0f} ms, "
            f"and {self.beside * 1000:.0f} ms past the node"
        )

    async def _go_on(self, wire: Wire, stream: int, beside: Wire, context: ssl.SSLContext) -> None:
        while True:
            began = time.monotonic()
            await beside.send(b"are you there?")
            assert await beside.reader.readexactly(14) == b"are you there?"
            self.beside = max(self.beside, time.monotonic() - began)
            took = await round_trip(wire, stream)
            began = time.monotonic()
            # A new tunnel as well: what floods one worker must not keep others from the door.
            async with await Wire.meet(self._lab.inbound, context) as other:
                await round_trip(other, await other.connect(self._lab.authority_of_web))
            self.worst = max(self.worst, took, time.monotonic() - began)
            self.trips += 1
            async with self._tripped:
                self._tripped.notify_all()


class Told(NamedTuple):
    """How a connection through the node went for the application that made it."""

    what: str
    """`answered`, or its end, such as `ECONNRESET`; behind `reply N, ` if SOCKS5 said no."""
    name: str
    """The application's end, as the node logs it; empty if it was over before we could look."""


def dial_out(lab: Lab, *, socks5: bool = False) -> Told:
    """Goes out through the node to the scripted peer, asks, and waits for the answer."""
    prefix = ""
    try:
        if socks5:
            connection = through_socks5(lab.node.socks5, lab.peer, PORT)
        else:
            connection = socket.create_connection(lab.local_port, DEADLINE)
    except SocksReply as reply:
        prefix, connection = f"reply {reply.code}, ", reply.connection
    except ConnectionResetError:
        return Told("ECONNRESET", "")  # it came before connect(2) had returned
    with connection:
        name = "{}:{}".format(*connection.getsockname())
        connection.settimeout(DEADLINE)
        try:
            # One of the two gets the error, and only one.
            connection.sendall(b"question")
            answer = connection.recv(64)
        except ConnectionResetError:
            return Told(f"{prefix}ECONNRESET", name)
    if answer == b"question":
        return Told(f"{prefix}answered", name)
    return Told(f"{prefix}{answer.decode('latin-1') or 'FIN'}", name)
