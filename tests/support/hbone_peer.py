"""A scripted HBONE peer: TLS done by `ssl`, HTTP/2 by hand, so that it can say anything at all.

Frames go out as they are given and come in as they are; nothing checks them, no flow control is kept. For
a well-behaved peer see bench/pure_python.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from typing import TYPE_CHECKING, Self

from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    Field = tuple[str | bytes, str | bytes]
    Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    Script = Callable[["Wire"], Awaitable[None]]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DEADLINE = 30.0
# Half of what RFC 9113 allows: a test may still make it larger.
LARGE_WINDOW = 2**30
END_STREAM = "END_STREAM"
END_HEADERS = "END_HEADERS"


class Ended(Exception):
    """The other side is gone; holds OpenSSL's word for its alert, if it sent one."""


class Wire:
    """One HTTP/2 connection, either role."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.encoder = Encoder()
        self.decoder = Decoder()
        self._next_stream = 1
        # Our end as the other side logs it; there is none if it was reset before we could look.
        self.name = "{}:{}".format(*writer.get_extra_info("sockname") or ("", 0))

    @classmethod
    async def bare(cls, address: tuple[str, int]) -> Self:
        """TCP and nothing more, for `send` and `rest`."""
        return cls(*await asyncio.open_connection(*address))

    @classmethod
    async def dial(
        cls, address: tuple[str, int], context: ssl.SSLContext, *, source: str | None = None
    ) -> Self:
        """TCP and TLS as a client, from an address if it matters; raises `Ended` if the other side ends it in the
        handshake.
        """
        local = (source, 0) if source else None
        with _endings():
            async with asyncio.timeout(DEADLINE):
                return cls(
                    *await asyncio.open_connection(
                        *address, ssl=context, server_hostname="", local_addr=local
                    )
                )

    @classmethod
    async def meet(
        cls, address: tuple[str, int], context: ssl.SSLContext, *, source: str | None = None
    ) -> Self:
        """Dials and says hello in HTTP/2."""
        wire = await cls.dial(address, context, source=source)
        await wire.greet(PREFACE)
        return wire

    async def __aenter__(self) -> Self:
        """For `async with`."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is left open."""
        await self.close()

    async def greet(self, preface: bytes = b"") -> None:
        """What both sides begin with: SETTINGS, and windows as large as there are."""
        settings = SettingsFrame(settings={SettingsFrame.INITIAL_WINDOW_SIZE: LARGE_WINDOW})
        window = WindowUpdateFrame(0, window_increment=LARGE_WINDOW)
        await self.send(preface, settings, window)

    async def send(self, *what: Frame | bytes) -> None:
        """Frames and raw bytes, in this order; raises `Ended` when nobody takes them any more."""
        data = b"".join(one if isinstance(one, bytes) else one.serialize() for one in what)
        with _endings():
            self.writer.write(data)
            async with asyncio.timeout(DEADLINE):
                await self.writer.drain()

    def head(self, *fields: Field, end: bool = False) -> HeadersFrame:
        """A request of these fields on the next stream of ours."""
        frame = self.head_on(self._next_stream, *fields, end=end)
        self._next_stream += 2
        return frame

    def head_on(self, stream: int, *fields: Field, end: bool = False) -> HeadersFrame:
        """A head of these fields on any stream."""
        frame = HeadersFrame(stream, data=self.encoder.encode(list(fields)))
        frame.flags.add(END_HEADERS)
        if end:
            frame.flags.add(END_STREAM)
        return frame

    async def request(self, *fields: Field) -> int:
        """Sends a request of exactly these fields and gives the status of the answer."""
        head = self.head(*fields)
        await self.send(head)
        return await self.status(head.stream_id)

    async def connect(self, authority: str) -> int:
        """CONNECT as it should be; gives the stream, which was answered with 200."""
        head = self.head(*connect(authority))
        await self.send(head)
        status = await self.status(head.stream_id)
        assert status == 200, f"CONNECT {authority}: {status}"
        return head.stream_id

    async def frame(self) -> Frame:
        """The next frame; raises `Ended` when there is none. SETTINGS and PING are answered."""
        with _endings():
            async with asyncio.timeout(DEADLINE):
                head = await self.reader.readexactly(9)
                frame, length = Frame.parse_frame_header(memoryview(head))
                frame.parse_body(memoryview(await self.reader.readexactly(length)))
        answer: Frame | None = None
        if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            answer = SettingsFrame(flags=["ACK"])
        elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            answer = PingFrame(flags=["ACK"], opaque_data=frame.opaque_data)
        if answer is not None:
            with contextlib.suppress(Ended):
                await self.send(answer)
        return frame

    async def until(self, wanted: Callable[[Frame], bool]) -> Frame:
        """The next frame that is wanted; raises `Ended` with what came instead when there is none."""
        seen: list[str] = []
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    frame = await self.frame()
                except Ended as end:
                    raise Ended(_story(end, seen)) from None
                if wanted(frame):
                    return frame
                seen.append(_told(frame))

    async def status(self, stream: int) -> int:
        """The status of the answer on a stream; 0 if it was reset."""
        return int(dict(await self.answer(stream)).get(b":status", 0))

    async def answer(self, stream: int) -> list[tuple[bytes, bytes]]:
        """The fields of the answer on a stream; none if it was reset."""
        frame = await self.until(
            lambda frame: (
                frame.stream_id == stream and isinstance(frame, (HeadersFrame, RstStreamFrame))
            )
        )
        if not isinstance(frame, HeadersFrame):
            return []
        return [(name, value) for name, value in self.decoder.decode(frame.data, raw=True)]

    async def data(self, stream: int, size: int) -> bytes:
        """So many bytes of a stream."""
        got = b""
        while len(got) < size:
            frame = await self.until(
                lambda frame: frame.stream_id == stream and not isinstance(frame, WindowUpdateFrame)
            )
            if not isinstance(frame, DataFrame):
                raise Ended(f"{_told(frame)} after {len(got)} bytes")
            got += frame.data
        return got

    async def pong(self) -> None:
        """Waits until the other side has worked through everything sent so far."""
        await self.send(PingFrame(opaque_data=b"are you?"))
        await self.until(lambda frame: isinstance(frame, PingFrame) and "ACK" in frame.flags)

    async def end(self, within: float = DEADLINE) -> str:
        """Waits for the other side to close; gives how it did, and the last frames before it."""
        seen: list[str] = []
        async with asyncio.timeout(within):
            while True:
                try:
                    seen.append(_told(await self.frame()))
                except Ended as end:
                    return _story(end, seen)

    async def rest(self, within: float = DEADLINE) -> bytes:
        """Waits for the other side to close, however it does; gives the bytes that came before."""
        got = b""
        async with asyncio.timeout(within):
            try:
                while data := await self.reader.read(65536):
                    got += data
            except (ConnectionError, ssl.SSLError):
                pass  # a RST, or an alert, ends it as well
        return got

    async def close(self) -> None:
        """Leaves, whatever the other side did meanwhile."""
        self.writer.close()
        try:
            async with asyncio.timeout(1):
                await self.writer.wait_closed()
        except TimeoutError:
            self.writer.transport.abort()
        except OSError:
            pass


@contextlib.asynccontextmanager
async def listening(
    address: tuple[str, int], handler: Handler, context: ssl.SSLContext | None = None
) -> AsyncIterator[None]:
    """A server of any kind; its connections end when their handler does, or when the test is over."""
    running: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running[writer] = task
        with contextlib.suppress(Ended, OSError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        await Wire(reader, writer).close()
        del running[writer]

    # asyncio reports every handshake that fails; here that is the point of the matter.
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    server = await asyncio.start_server(handle, *address, ssl=context, backlog=512)
    try:
        yield
    finally:
        server.close()
        tasks = list(running.values())
        for writer in running:
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def serve(
    address: tuple[str, int], context: ssl.SSLContext, script: Script
) -> contextlib.AbstractAsyncContextManager[None]:
    """Plays a script with every client that comes through TLS; the script's end closes the connection."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await script(Wire(reader, writer))

    return listening(address, play, context)


def answering(status: int) -> Script:
    """Gives every request this answer; what comes after a 200 is sent back."""

    async def script(wire: Wire) -> None:
        await wire.reader.readexactly(len(PREFACE))
        await wire.greet()
        while True:
            frame = await wire.frame()
            if isinstance(frame, HeadersFrame):
                field = (":status", str(status))
                await wire.send(wire.head_on(frame.stream_id, field, end=status != 200))
            elif isinstance(frame, DataFrame):
                await wire.send(DataFrame(frame.stream_id, data=frame.data, flags=frame.flags))

    return script


def connect(authority: str) -> list[Field]:
    """The fields that a CONNECT must have."""
    return [(":method", "CONNECT"), (":authority", authority)]


def raw_frame(
    kind: int, flags: int, stream: int, payload: bytes = b"", *, length: int | None = None
) -> bytes:
    """A frame as bytes, with a length that may be a lie."""
    size = len(payload) if length is None else length
    return struct.pack("!I", size)[1:] + struct.pack("!BBI", kind, flags, stream) + payload


@contextlib.contextmanager
def _endings() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise
    except asyncio.IncompleteReadError as error:
        raise Ended("FIN within a frame" if error.partial else "FIN") from None
    except ConnectionResetError:
        raise Ended("RST") from None
    except OSError as error:  # ssl.SSLError is one
        raise Ended(str(getattr(error, "reason", None) or error)) from None


def _story(end: Ended, seen: Sequence[str]) -> str:
    return f"{end} after {' '.join(seen[-8:]) or 'nothing'}"


def _told(frame: Frame) -> str:
    name = type(frame).__name__.removesuffix("Frame")
    if isinstance(frame, (GoAwayFrame, RstStreamFrame)):
        return f"{name}({frame.error_code})"
    return name
