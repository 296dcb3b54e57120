"""Receivers that stop reading: they cost little memory, hold up nobody else, and lose nothing.

spec/reliability.md F11: back-pressure reaches the sender, no disconnect (ztunnel#1945), siblings in the same tunnel
keep going. Both nodes have one worker, so that all connections share one tunnel.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import resource
import socket
import time
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.support.nodes import Address, Mesh, Node, as_text, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

KIB, MIB = 1024, 1024 * 1024
RECEIVERS = 64
# In both nodes together (spec/performance.md): kernel buffers are not the nodes' memory.
BUDGET = MIB // 2
BLOB = hashlib.shake_256(b"stalled").digest(MIB)
PIECE = 64 * KIB
# What the client says first: a letter and a number.
HEAD = 3
# Of the many: more than one tunnel takes (node: pool.maxStreams), so the tunnels are full and a neighbour has another.
MANY = 1_000
STREAMS_PER_TUNNEL = 100
# What a worker may hold for applications (rust/proxy/src/tunnel/held.rs), and what its allocator may need on top.
HELD = 64 * MIB
SLACK = HELD // 4
# Of a node's own for each connection, whatever it holds for it.
OWN = 16 * KIB
# For each of the steps; the slowest takes five seconds on two idle cores.
DEADLINE = 60.0
# No byte has moved anywhere for this long: everything on the way is full.
STILL = 0.5


@dataclass
class Sender:
    """The server's end of one connection: sends without end, until it is told to finish."""

    finish: asyncio.Event
    sent: int = 0
    hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    async def run(self, writer: asyncio.StreamWriter) -> None:
        """Piece by piece, each when the one before has found room."""
        writer.transport.set_write_buffer_limits(high=0)
        while not self.finish.is_set():
            start = self.sent % MIB
            piece = BLOB[start : start + PIECE]
            self.hash.update(piece)
            writer.write(piece)
            self.sent += len(piece)
            await writer.drain()
        writer.close()
        await writer.wait_closed()


class Server:
    """The application behind the far node: the first byte says what a connection wants."""

    def __init__(self) -> None:
        self.finish = asyncio.Event()
        self.senders: dict[int, Sender] = {}

    async def serves(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """`S` and a number: send without end. `E`: echo."""
        try:
            head = await reader.readexactly(HEAD)
            number = int.from_bytes(head[1:], "big")
            if head[:1] == b"S":
                self.senders[number] = Sender(self.finish)
                await self.senders[number].run(writer)
                return
            while data := await reader.read(PIECE):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
        except ConnectionResetError:
            pass  # a client that had enough; one that had not misses bytes, and says so
        finally:
            writer.transport.abort()  # a failure leaves nothing open

    @property
    def sent(self) -> int:
        """Bytes of all senders."""
        return sum(sender.sent for sender in self.senders.values())


@dataclass(frozen=True)
class Receiver:
    """A client's end that reads only when it is told to."""

    connection: socket.socket
    hash: hashlib._Hash

    @classmethod
    async def begins(cls, way_in: Address, number: int) -> Receiver:
        """Connect and ask for bytes."""
        connection = socket.socket()
        connection.setblocking(False)
        # Small: what the kernel holds for the client would only make the test longer.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, way_in)
        await loop.sock_sendall(connection, b"S" + number.to_bytes(HEAD - 1, "big"))
        return cls(connection, hashlib.sha256())

    async def takes(self, count: int | None) -> int:
        """Read so many bytes, or all there are up to the FIN. Gives how many."""
        loop, taken = asyncio.get_running_loop(), 0
        while count is None or taken < count:
            size = PIECE if count is None else min(PIECE, count - taken)
            data = await loop.sock_recv(self.connection, size)
            if not data:
                assert count is None, "an end where none was"
                break
            self.hash.update(data)
            taken += len(data)
        return taken


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Node, Node, Address]]:
    """Near node, far node, the address of the server to come."""
    with Mesh(tmp_path, network="127.1") as mesh, ExitStack() as stack:
        mesh.workload("client")
        address = mesh.workload("server")
        with socket.create_server((address, 0)) as probe:
            server: Address = probe.getsockname()
        far = stack.enter_context(Node(mesh, "server", workers=1))
        near = stack.enter_context(Node(mesh, "client", forwards=[as_text(server)], workers=1))
        yield near, far, server


@pytest.mark.timeout(4 * DEADLINE)
@pytest.mark.parametrize("taken", [32 * KIB, 4 * MIB], ids=["after 32 KiB", "after 4 MiB"])
def test_stalled_receivers_cost_little_hold_up_nobody_and_lose_nothing(
    nodes: tuple[Node, Node, Address], taken: int
) -> None:
    near, far, server = nodes
    asyncio.run(_story(near, far, server, taken))


async def _story(near: Node, far: Node, address: Address, taken: int) -> None:
    server, way_in = Server(), near.forwards[as_text(address)]
    async with AsyncExitStack() as stack:
        listening = asyncio.start_server(server.serves, *address, backlog=1024)
        await stack.enter_async_context(await listening)
        await _echo(way_in, 4 * MIB)
        before = near.resident() + far.resident()

        receivers = [await Receiver.begins(way_in, number) for number in range(RECEIVERS)]
        for receiver in receivers:
            stack.callback(receiver.connection.close)
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*(receiver.takes(taken) for receiver in receivers))
        await _all_is_still(server)
        held = near.resident() + far.resident() - before
        each = held / RECEIVERS / KIB
        assert held < RECEIVERS * BUDGET, f"{each:.0f} KiB for each stalled receiver"

        # Both have deadlines: who is held up by the stalled ones waits for as long as they are stalled.
        await _echo(way_in, 4 * MIB)
        await _round_trip(way_in)
        assert near.metrics().total("ztunnel_tunnels_open", side="outbound") == 1

        server.finish.set()
        async with asyncio.timeout(DEADLINE):
            totals = await asyncio.gather(*(receiver.takes(None) for receiver in receivers))
        for number, (receiver, total) in enumerate(zip(receivers, totals, strict=True)):
            sender = server.senders[number]
            assert taken + total == sender.sent
            assert receiver.hash.digest() == sender.hash.digest()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Enough of them for both ends of the many, here and in the nodes to come."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8 * MANY)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.timeout(6 * DEADLINE)
def test_a_thousand_receivers_that_never_read_stay_within_the_worker_s_budget(
    many_descriptors: None, nodes: tuple[Node, Node, Address]
) -> None:
    log.info("%s", asyncio.run(_many(*nodes)))  # -o log_cli=true -o log_cli_level=INFO


async def _many(near: Node, far: Node, address: Address) -> str:
    server = Server()
    way_in = near.forwards[as_text(address)]
    async with AsyncExitStack() as stack:
        # Small: what the kernel holds for the server would only make the test longer.
        listener = socket.create_server(address, backlog=1024)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * KIB)
        await stack.enter_async_context(await asyncio.start_server(server.serves, sock=listener))
        warm = await _echo(way_in, 4 * MIB)
        before = [node.resident() for node in (near, far)]

        receivers = [await Receiver.begins(way_in, number) for number in range(MANY)]
        for receiver in receivers:
            stack.callback(receiver.connection.close)
        await _all_is_still(server)
        assert len(server.senders) == MANY
        held = [node.resident() - was for node, was in zip((near, far), before, strict=True)]
        figures = ", ".join(f"{part / MIB:.1f} MiB" for part in held)
        told = f"{MANY} stalled receivers: near and far hold {figures}"
        told += (
            f", {sum(held) / MANY / KIB:.1f} KiB for each; {server.sent / MIB:.0f} MiB were taken"
        )
        assert held[0] < HELD + SLACK + MANY * OWN, told
        assert held[1] < SLACK + MANY * OWN, told

        # Full tunnels are stalled, and a neighbour's is not.
        beside = await _echo(way_in, 4 * MIB)
        trip = await _round_trip(way_in)
        told += f"; beside them {beside:.0f} MiB/s and {trip * 1e3:.2f} ms, alone {warm:.0f} MiB/s"
        tunnels = near.metrics().total("ztunnel_tunnels_open", side="outbound")
        assert tunnels == MANY / STREAMS_PER_TUNNEL + 1, told

        for receiver in receivers:
            receiver.connection.close()
        for node, was in zip((near, far), before, strict=True):
            await asyncio.to_thread(_is_back, node, was)
        left = [node.resident() - was for node, was in zip((near, far), before, strict=True)]
        told += f"; after their end {', '.join(f'{part / MIB:.1f} MiB' for part in left)} are left"
        return told


def _is_back(node: Node, before: int) -> None:
    """All connections have ended, and what was held for them went back to the machine."""
    eventually(lambda: _running(node) == 0, f"{node.workload} has ended its connections", within=30)
    eventually(
        lambda: node.resident() - before < MANY * OWN,
        f"{node.workload} has given memory back",
    )


def _running(node: Node) -> float:
    metrics = node.metrics()
    opened, closed = (
        metrics.total(f"istio_tcp_connections_{what}_total") for what in ("opened", "closed")
    )
    return opened - closed


async def _all_is_still(server: Server) -> None:
    """Until no sender has found room for a while."""
    loop = asyncio.get_running_loop()
    seen, since, deadline = -1, loop.time(), loop.time() + DEADLINE
    while loop.time() - since < STILL:
        assert loop.time() < deadline, f"{server.sent} bytes were taken and nobody reads them"
        if server.sent != seen:
            seen, since = server.sent, loop.time()
        await asyncio.sleep(0.02)


async def _echo(way_in: Address, size: int) -> float:
    """Send so much there and back over a connection of its own; gives MiB/s."""
    async with _connection(way_in) as (reader, writer), asyncio.timeout(DEADLINE):
        begin = time.perf_counter()

        async def says() -> None:
            for _ in range(size // PIECE):
                writer.write(BLOB[:PIECE])
                await writer.drain()
            writer.write_eof()

        data, _ = await asyncio.gather(reader.read(-1), says())
        took = time.perf_counter() - begin
        assert data == BLOB[:PIECE] * (size // PIECE)
        return size / MIB / took


async def _round_trip(way_in: Address) -> float:
    """The median of fifty, in seconds."""
    async with _connection(way_in) as (reader, writer), asyncio.timeout(DEADLINE):
        trips = []
        for _ in range(50):
            begin = time.perf_counter()
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            trips.append(time.perf_counter() - begin)
        return sorted(trips)[25]


@asynccontextmanager
async def _connection(
    way_in: Address,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the echo."""
    reader, writer = await asyncio.open_connection(*way_in)
    try:
        writer.write(b"E".ljust(HEAD, b"\0"))
        yield reader, writer
    finally:
        writer.transport.abort()
