"""The pure-Python tunnel against itself, on loopback.

It is the peer that other tests and the benchmark trust, so it has to earn that first. Tests of the
product against it are in test_interop_*.py.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from bench.pure_python.certs import HOUR, Authority
from bench.pure_python.client import Client
from bench.pure_python.server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from bench.pure_python.identity import Credentials

pytestmark = pytest.mark.asyncio

SERVER = "spiffe://cluster.local/ns/default/sa/server"
CLIENT = "spiffe://cluster.local/ns/default/sa/client"
MIB = 1024 * 1024


class Stream(NamedTuple):
    """One end of an application's connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def reset(self) -> None:
        """Close with RST."""
        local = self.writer.get_extra_info("socket")
        local.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        """Close and wait, whatever the other end did meanwhile."""
        self.writer.close()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)


class Pair(NamedTuple):
    """Two ends and an application behind them."""

    client: Client
    server: Server
    accepted: asyncio.Queue[Stream]

    async def connect(self) -> tuple[Stream, Stream]:
        """Give both ends of a connection that is established all the way."""
        near = await self.dial()
        return near, await self.accepted.get()

    async def dial(self) -> Stream:
        """Connect to the near end only."""
        return Stream(*await asyncio.open_connection("127.0.0.1", self.client.port))


class Identities(NamedTuple):
    authority: Authority
    server: Credentials
    client: Credentials


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    folder, authority = tmp_path_factory.mktemp("pki"), Authority()
    return Identities(
        authority,
        authority.issue(folder / "server", SERVER),
        authority.issue(folder / "client", CLIENT),
    )


@asynccontextmanager
async def pair(
    server: Credentials,
    client: Credentials,
    *,
    expected: str = SERVER,
    target: str | None = None,
    allow: Callable[[str, str], bool] = lambda _peer, _authority: True,
) -> AsyncIterator[Pair]:
    """Run application, server end and client end."""
    accepted: asyncio.Queue[Stream] = asyncio.Queue()
    application = await asyncio.start_server(
        lambda reader, writer: accepted.put_nowait(Stream(reader, writer)), "127.0.0.1", 0
    )
    port = application.sockets[0].getsockname()[1]
    async with (
        application,
        Server(credentials=server, allow=allow) as far,
        Client(
            credentials=client,
            peer=("127.0.0.1", far.port),
            expected=[expected],
            authority=target or f"127.0.0.1:{port}",
        ) as near,
    ):
        yield Pair(near, far, accepted)


async def ends_with_reset(reading: Awaitable[bytes]) -> bool:
    """Say whether a read ended in RST rather than FIN."""
    try:
        await reading
    except ConnectionResetError:
        return True
    return False


async def test_bytes_arrive_whole_in_both_directions(identities: Identities) -> None:
    up, down = bytes(range(256)) * (20 * MIB // 256), bytes(range(255, -1, -1)) * (20 * MIB // 256)
    async with pair(identities.server, identities.client) as tunnel:
        near, far = await tunnel.connect()
        async with asyncio.TaskGroup() as tasks:
            at_far = tasks.create_task(far.reader.read(-1))
            at_near = tasks.create_task(near.reader.read(-1))
            for stream, data in ((near, up), (far, down)):
                stream.writer.write(data)
                stream.writer.write_eof()
        assert at_far.result() == up
        assert at_near.result() == down
        await asyncio.gather(near.close(), far.close())


async def test_client_half_close_leaves_the_answer_flowing(identities: Identities) -> None:
    async with pair(identities.server, identities.client) as tunnel:
        near, far = await tunnel.connect()
        near.writer.write(b"question")
        near.writer.write_eof()
        assert await far.reader.read(-1) == b"question"
        far.writer.write(b"answer")
        far.writer.write_eof()
        assert await near.reader.read(-1) == b"answer"
        await asyncio.gather(near.close(), far.close())


async def test_server_half_close_leaves_the_request_flowing(identities: Identities) -> None:
    async with pair(identities.server, identities.client) as tunnel:
        near, far = await tunnel.connect()
        far.writer.write(b"greeting")
        far.writer.write_eof()
        assert await near.reader.read(-1) == b"greeting"
        near.writer.write(b"late words")
        near.writer.write_eof()
        assert await far.reader.read(-1) == b"late words"
        await asyncio.gather(near.close(), far.close())


@pytest.mark.parametrize("who", ["client", "application"])
async def test_reset_arrives_as_reset(identities: Identities, who: str) -> None:
    async with pair(identities.server, identities.client) as tunnel:
        near, far = await tunnel.connect()
        breaking, waiting = (near, far) if who == "client" else (far, near)
        breaking.writer.write(b"before")
        assert await waiting.reader.readexactly(6) == b"before"
        breaking.reset()
        assert await ends_with_reset(waiting.reader.read(-1))
        await asyncio.gather(near.close(), far.close())


async def test_killed_peer_is_a_reset_for_the_client(identities: Identities) -> None:
    async with pair(identities.server, identities.client) as tunnel:
        near, far = await tunnel.connect()
        far.writer.write(b"half of an ans")
        assert await near.reader.readexactly(14) == b"half of an ans"
        tunnel.server.kill()
        assert await ends_with_reset(near.reader.read(-1))
        await asyncio.gather(near.close(), far.close())


async def test_stalled_reader_holds_its_sender_and_nobody_else(identities: Identities) -> None:
    async with pair(identities.server, identities.client) as tunnel:
        near, far = await tunnel.connect()
        far.reader._transport.pause_reading()  # type: ignore[attr-defined]
        near.writer.transport.set_write_buffer_limits(high=0)
        sent = 0
        while True:  # until nothing has moved for a while: sockets, windows and buffers are full
            near.writer.write(bytes(MIB))
            try:
                async with asyncio.timeout(1):
                    await near.writer.drain()
            except TimeoutError:
                break
            sent += MIB
        assert sent < 64 * MIB

        other_near, other_far = await tunnel.connect()
        other_near.writer.write(b"not held up")
        assert await other_far.reader.readexactly(11) == b"not held up"

        far.reader._transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await far.reader.readexactly(sent)) == sent
        await asyncio.gather(*(end.close() for end in (near, far, other_near, other_far)))


async def test_connections_past_the_stream_limit_take_a_second_tunnel(
    identities: Identities,
) -> None:
    async with pair(identities.server, identities.client) as tunnel:
        streams = [await tunnel.connect() for _ in range(201)]
        assert tunnel.client.tunnels == 2
        for near, far in streams:
            near.writer.write(b"x")
            assert await far.reader.readexactly(1) == b"x"
        await asyncio.gather(*(end.close() for both in streams for end in both))


async def test_drain_lets_running_streams_finish(identities: Identities) -> None:
    async with pair(identities.server, identities.client) as tunnel:
        near, far = await tunnel.connect()
        async with asyncio.TaskGroup() as tasks:
            drained = tasks.create_task(tunnel.server.drain(deadline=10))
            near.writer.write(b"after the GOAWAY")
            near.writer.write_eof()
            assert await far.reader.read(-1) == b"after the GOAWAY"
            far.writer.write_eof()
            assert await near.reader.read(-1) == b""
        assert drained.result()
        await asyncio.gather(near.close(), far.close())


async def test_closed_application_port_is_a_reset(identities: Identities) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        unused = f"127.0.0.1:{probe.getsockname()[1]}"
    async with pair(identities.server, identities.client, target=unused) as tunnel:
        near = await tunnel.dial()
        assert await ends_with_reset(near.reader.read(-1))
        await near.close()


async def test_denied_request_is_a_reset_and_frees_its_stream(identities: Identities) -> None:
    verdicts = iter([False] * 250 + [True])
    async with pair(
        identities.server, identities.client, allow=lambda _peer, _authority: next(verdicts)
    ) as tunnel:
        for _ in range(250):
            near = await tunnel.dial()
            assert await ends_with_reset(near.reader.read(-1))
            await near.close()
        near, far = await tunnel.connect()
        assert tunnel.client.tunnels == 1
        await asyncio.gather(near.close(), far.close())


async def test_unexpected_server_name_is_refused_by_the_client(identities: Identities) -> None:
    other = "spiffe://cluster.local/ns/default/sa/somebody-else"
    async with pair(identities.server, identities.client, expected=other) as tunnel:
        near = await tunnel.dial()
        assert await ends_with_reset(near.reader.read(-1))
        assert tunnel.server.requests == []
        await near.close()


@pytest.mark.parametrize("fault", ["trust domain", "no name", "unknown root", "expired"])
async def test_unfit_client_is_refused_by_the_server(
    identities: Identities, tmp_path: Path, fault: str
) -> None:
    good = identities.authority
    match fault:
        case "trust domain":
            client = good.issue(tmp_path, "spiffe://elsewhere.example/ns/default/sa/client")
        case "no name":
            client = good.issue(tmp_path)
        case "unknown root":
            client = Authority("stranger").issue(tmp_path, CLIENT, roots=[good])
        case _:
            client = good.issue(tmp_path, CLIENT, ends=-HOUR / 2)
    async with pair(identities.server, client) as tunnel:
        near = await tunnel.dial()
        assert await ends_with_reset(near.reader.read(-1))
        assert tunnel.server.requests == []
        await near.close()
