"""What upstream's namespace tests have at the far end: an echo, an HBONE server, a gateway, two kinds of relay.

    with serving(host, echo(host), hbone(host, context, name="waypoint")):
        ...

Each is a handler on a loop of the machine's own, in its namespace; their shapes are spec/dataplane.md §17's. They
play no tricks: for peers that do, see `tests/support/hbone_peer.py`, whose frames they use.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame

from tests.support.hbone_peer import PREFACE, Wire, connect, listening, serve
from tests.support.nodes import HBONE_PORT, as_address
from tests.support.proxy_header import read_header

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine, Iterator

    from tests.netns.namespaces import Host
    from tests.support.nodes import Address

    Server = contextlib.AbstractAsyncContextManager[None]

HELLO = b"hello world"
GREETING = b"waypoint\n"
ECHO_PORT = 8080
DEADLINE = 10.0


@contextlib.contextmanager
def serving(host: Host, *servers: Server) -> Iterator[None]:
    """All of them, in the machine's namespace."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=f"servers of {host.name}")
    host.call(thread.start)  # a thread belongs to the namespace of the one that starts it

    def wait_for(work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(DEADLINE)

    stack = contextlib.AsyncExitStack()
    try:
        try:
            for server in servers:
                wait_for(stack.enter_async_context(server))
            yield
        finally:
            wait_for(stack.aclose())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE)
        loop.close()


def echo(host: Host, *, prefix: bytes = b"") -> Server:
    """Says everything twice; before it, who it is."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(prefix)
        while data := await reader.read(65536):
            writer.write(data * 2)
            await writer.drain()

    return listening((host.address, ECHO_PORT), handle)


def hbone(host: Host, context: ssl.SSLContext, *, name: str) -> Server:
    """Takes every CONNECT, tells who it is, greets, and says everything back."""
    baggage = (
        f"k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.deployment.name={name},"
        f"service.name={name},service.version=v1,cloud.region=r1,cloud.availability_zone=z1"
    )

    async def script(wire: Wire) -> None:
        await wire.reader.readexactly(len(PREFACE))
        await wire.greet()
        while True:
            frame = await wire.frame()
            stream = frame.stream_id
            if isinstance(frame, HeadersFrame):
                wire.decoder.decode(frame.data)
                await wire.send(
                    wire.head_on(stream, (":status", "200"), ("baggage", baggage)),
                    DataFrame(stream, data=GREETING),
                )
            elif isinstance(frame, DataFrame):
                await wire.send(DataFrame(stream, data=frame.data, flags=frame.flags))

    return serve((host.address, HBONE_PORT), context, script)


def gateway(host: Host, context: ssl.SSLContext, to: Address) -> Server:
    """Takes every CONNECT, and leads to one address whatever was asked for."""

    async def script(wire: Wire) -> None:
        await wire.reader.readexactly(len(PREFACE))
        await wire.greet()
        async with asyncio.TaskGroup() as flows, contextlib.AsyncExitStack() as far:
            writers: dict[int, asyncio.StreamWriter] = {}
            far.callback(_close_all, writers)
            while True:
                frame = await wire.frame()
                stream = frame.stream_id
                if isinstance(frame, HeadersFrame):
                    wire.decoder.decode(frame.data)
                    reader, writers[stream] = await asyncio.open_connection(*to)
                    await wire.send(wire.head_on(stream, (":status", "200")))
                    flows.create_task(_back(wire, stream, reader))
                elif isinstance(frame, DataFrame):
                    writers[stream].write(frame.data)
                    if "END_STREAM" in frame.flags:
                        writers[stream].write_eof()
                elif isinstance(frame, RstStreamFrame):
                    writers.pop(stream).transport.abort()

    return serve((host.address, HBONE_PORT), context, script)


def _close_all(writers: dict[int, asyncio.StreamWriter]) -> None:
    for writer in writers.values():
        writer.close()


async def _back(wire: Wire, stream: int, reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(16384):
            await wire.send(DataFrame(stream, data=data))
        await wire.send(DataFrame(stream, flags=["END_STREAM"]))


def relay(host: Host, to: Address) -> Server:
    """Leads to one address, as plain TCP: the application of a waypoint."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _both_ways(reader, writer, to)

    return listening((host.address, to[1]), handle)


def proxy_relay(port: int) -> Server:
    """Reads a PROXY v2 header, and leads to where that says."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        header = await read_header(reader)
        assert header.destination is not None
        await _both_ways(reader, writer, as_address(header.destination))

    return listening(("127.0.0.1", port), handle)


async def _both_ways(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: Address
) -> None:
    far_reader, far_writer = await asyncio.open_connection(*to)
    try:
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
    finally:
        far_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def asks(host: Host, to: Address, context: ssl.SSLContext, authority: str) -> int:
    """The status of a CONNECT from this machine by a client that is no proxy."""

    async def ask() -> int:
        async with await Wire.meet(to, context) as wire:
            return await wire.request(*connect(authority))

    return host.call(asyncio.run, ask())
