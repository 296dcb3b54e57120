"""A control plane without a socket: streams made of memory, on which a test says what the server says.

    server = MemoryServer()
    client = AdsClient(…, connect=server.connect, …)
    stream = await server.stream(1)
    stream.answer(ADDRESS, [web], nonce="1")

Counterpart: `ztunnel.testing.istiod`, which speaks gRPC and keeps istiod's rules.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from ztunnel.errors import EndpointError, StreamLost
from ztunnel.wire.discovery import DeltaRequest, WireResource, WireResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

DEADLINE = 15.0


class MemoryStream:
    """One stream, as an `AdsStream` for the client and as a script for the test."""

    def __init__(self, trouble: EndpointError | None, changed: Callable[[], None]) -> None:
        self.said: list[DeltaRequest] = []
        """Every request so far."""
        self.closed = False
        self.takes_messages = asyncio.Event()
        """Cleared, whoever sends waits."""
        self.takes_messages.set()
        self._posted: list[DeltaRequest] = []
        self._trouble = trouble
        self._changed = changed
        self._answers: asyncio.Queue[bytes | EndpointError | None] = asyncio.Queue()
        self._begun = asyncio.Event()

    # The client's side

    async def __aenter__(self) -> Self:
        """Connects, unless there is trouble."""
        if self._trouble is not None:
            raise self._trouble
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends."""
        self.closed = True
        self._changed()

    def close(self) -> None:
        """The client has had enough."""
        self.end(StreamLost("closed by us"))

    async def established(self) -> None:
        """When the first answer is on its way."""
        await self._begun.wait()

    def post(self, message: bytes) -> None:
        """Keeps it until somebody waits."""
        self._posted.append(DeltaRequest.decode(message))

    async def flush(self) -> None:
        """Remembers what was posted."""
        if self._posted:
            await self.takes_messages.wait()
            self.said += self._posted
            self._posted.clear()
            self._changed()

    async def receive(self) -> bytes | None:
        """The next thing of the script; each is a pass of its own."""
        await self.flush()
        await self._begun.wait()
        answer = await self._answers.get()
        if isinstance(answer, EndpointError):
            self._answers.put_nowait(answer)
            raise answer
        return answer

    # The test's side

    def answer(
        self,
        kind: str,
        resources: Sequence[WireResource] = (),
        *,
        nonce: str,
        removed: Sequence[str] = (),
    ) -> None:
        """The server says something."""
        message = WireResponse(type_url=kind, nonce=nonce, resources=resources, removed=removed)
        self.say(message.encode())

    def say(self, message: bytes) -> None:
        """The server says these bytes."""
        self._answers.put_nowait(message)
        self._begun.set()

    def end(self, error: EndpointError | None = None) -> None:
        """The server ends the stream: well, if there is no error."""
        self._answers.put_nowait(error)
        self._begun.set()

    def nonces(self) -> list[str]:
        """What was acknowledged, or refused."""
        return [request.nonce for request in self.said if request.nonce]


class MemoryServer:
    """The streams of one client, in order."""

    def __init__(self) -> None:
        self.streams: list[MemoryStream] = []
        self.trouble: list[EndpointError] = []
        """Of the next attempts, why they fail."""
        self._waiting = asyncio.Event()

    def connect(self) -> MemoryStream:
        """What a client calls for each attempt."""
        trouble = self.trouble.pop(0) if self.trouble else None
        self.streams.append(MemoryStream(trouble, self.changed))
        self.changed()
        return self.streams[-1]

    def changed(self) -> None:
        """Wakes whoever waits."""
        self._waiting.set()

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Waits for something that streams show."""
        try:
            async with asyncio.timeout(DEADLINE):
                while not condition():
                    self._waiting.clear()
                    await self._waiting.wait()
        except TimeoutError:
            said = [stream.said[-3:] for stream in self.streams[-2:]]
            raise AssertionError(f"not within {DEADLINE:g} s: {what}; last: {said}") from None

    async def stream(self, number: int) -> MemoryStream:
        """The stream of this number (from 1 on), once its first requests have come."""

        def introduced() -> bool:
            return len(self.streams) >= number and len(self.streams[number - 1].said) >= 2

        await self.until(introduced, f"stream {number} with its first requests")
        return self.streams[number - 1]
