"""One ADS stream on the wire: reads requests, writes responses in order, and does what a script says about them.

`ads.py` decides what to answer; this file only carries it, late, damaged or not at all. Counterpart of
`ztunnel.xds.client`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import struct
from typing import TYPE_CHECKING, TypeAlias

from grpclib import GRPCError, Status
from grpclib.exceptions import StreamTerminatedError

from ztunnel.testing.istiod.faults import (
    TOO_LARGE,
    Close,
    Delay,
    Fault,
    Garbage,
    Nonce,
    Oversized,
    Reset,
    Silence,
    Truncated,
)
from ztunnel.wire.discovery import DeltaRequest, WireResponse
from ztunnel.wire.protobuf import NotProtobuf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from grpclib.server import Stream as Wire

    from ztunnel.testing.istiod.observed import Observed, Stream

# istiod's receive limit, ISTIO_GPRC_MAXRECVMSGSIZE's default.
MAX_REQUEST = 4 * 1024 * 1024
# Responses that wait for a client that does not read; istiod would merge them, this one gives up.
MAX_WAITING = 10_000

Out: TypeAlias = WireResponse | bytes | Close | Reset
Answering: TypeAlias = "Callable[[DeltaRequest], list[Out]]"


class Live:
    """A stream that is open."""

    def __init__(
        self,
        wire: Wire[bytes, bytes],
        seen: Stream,
        observed: Observed,
        *,
        script: Mapping[int, Fault],
        thawed: asyncio.Event,
        max_request: int = MAX_REQUEST,
    ) -> None:
        """`script` says what happens to the n-th response, from 1 on; 0 is before anything is read."""
        self.seen = seen
        self._wire = wire
        self._observed = observed
        self._script = script
        self._thawed = thawed
        self._max_request = max_request
        self._out: asyncio.Queue[Out] = asyncio.Queue(MAX_WAITING)
        self._overtaken = asyncio.Event()
        self._sent = 0
        self._mute = False
        self.saying = False

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be said."""
        return self._out.empty() and not self.saying

    def send(self, *said: Out) -> None:
        """Say this when everything before it is said; a client that never reads loses its stream in the end."""
        for each in said:
            try:
                self._out.put_nowait(each)
            except asyncio.QueueFull:
                self._overtaken.set()

    async def run(self, begin: list[Out], answer: Answering) -> None:
        """Until either side ends it; `GRPCError` is how the server does."""
        self.send(*begin)
        parts = (self._read(answer), self._write(), self._give_up())
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, _Over):
                raise result

    async def _give_up(self) -> None:
        await self._overtaken.wait()
        message = f"more than {MAX_WAITING} responses wait for the client to read"
        raise GRPCError(Status.UNAVAILABLE, message)

    async def _read(self, answer: Answering) -> None:
        if isinstance(fault := self._script.get(0), Close):
            raise GRPCError(fault.status, fault.message)
        while (raw := await self._wire.recv_message()) is not None:
            if len(raw) > self._max_request:
                message = TOO_LARGE.format(len(raw), self._max_request)
                raise GRPCError(Status.RESOURCE_EXHAUSTED, message)
            try:
                request = DeltaRequest.decode(raw)
            except NotProtobuf as error:
                message = f"grpc: error unmarshalling request: {error}"
                raise GRPCError(Status.INTERNAL, message) from None
            self.send(*answer(request))
            self._observed.changed()

    async def _write(self) -> None:
        while True:
            said = await self._out.get()
            self.saying = True
            match said:
                case Close() | Reset():
                    await self._end(said)
                case _:
                    await self._respond(said)
            self.saying = False
            self._observed.changed()

    async def _respond(self, said: WireResponse | bytes) -> None:
        self._sent += 1
        fault = self._script.get(self._sent)
        if self._mute:
            return
        match fault:
            case Close() | Reset():
                await self._end(fault)
            case Silence():
                # The stream can still be ended.
                self._mute = True
                return
            case Delay():
                await asyncio.sleep(fault.seconds)
            case _:
                pass
        await self._thawed.wait()
        message = said if isinstance(said, bytes) else self._noted(said, fault)
        match fault:
            case Garbage():
                message = fault.message
            case Truncated():
                message = message[: len(message) // 2]
            case Oversized():
                await self._announce(fault.length, message)
                return
            case _:
                pass
        await self._wire.send_message(message)

    async def _end(self, how: Close | Reset) -> None:
        match how:
            case Close(status=Status.OK):
                raise _Over
            case Close():
                raise GRPCError(how.status, how.message)
            case Reset():
                await self._wire.cancel()
                raise _Over

    def _noted(self, response: WireResponse, fault: Fault | None) -> bytes:
        if isinstance(fault, Nonce):
            response = dataclasses.replace(response, nonce=fault.nonce)
        # Noted before it goes out: its answer may be here before this task runs again.
        damaged = isinstance(fault, Garbage | Oversized | Truncated)
        self.seen.note_response(response, damaged=damaged)
        return response.encode()

    async def _announce(self, length: int, beginning: bytes) -> None:
        if not self._wire._send_initial_metadata_done:
            await self._wire.send_initial_metadata()
        # Past `send_message`, which would want the whole of it.
        raw = self._wire._stream
        await raw.send_data(struct.pack(">BI", 0, length) + beginning)


class _Over(Exception):
    """The stream is to end."""


def how_it_ended(error: BaseException | None) -> str:
    """In words, for whoever looks at the stream afterwards."""
    match error:
        case None:
            return "OK"
        case GRPCError():
            return f"{error.status.name}: {error.message}"
        case StreamTerminatedError():
            return str(error)
        case asyncio.CancelledError():
            return "the client or the connection went away"
        case _:
            return type(error).__name__
