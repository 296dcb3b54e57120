"""The control plane of the measurement, a process of its own: sends what it is told to, and says when it was ACKed.

`python -m bench.control.istiod FOLDER PORT SIZES…`, steered by lines on its standard input, answering with one line of
JSON each. It knows nothing of delta ADS beyond that; a control plane for tests is `ztunnel.testing`'s.
A real one is on another machine, so that what it costs should not be seen: changes are encoded before they are measured,
and an ACK that is the one expected is compared and not read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.server import Server, Stream

from bench.control import world
from ztunnel.wire.discovery import DELTA_RESOURCES, DeltaRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

PORT = 15013
ACK_DEADLINE = 60.0


class Raw(CodecBase):
    """Bytes as they are."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        """As they are."""
        del message_type
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:
        """As they are."""
        del message_type
        return data


class Istiod:
    """One stream at a time."""

    def __init__(self, workloads: int, services: int, policies: int) -> None:
        self._sizes = (workloads, services, policies)
        self._stream: Stream[bytes, bytes] | None = None
        self._connected = asyncio.Event()
        self._acked: dict[str, asyncio.Future[float]] = {}
        self._acks = self._nacks = 0
        self._enough = (0, asyncio.Event())
        self._changes: deque[tuple[bytes, bytes]] = deque()
        self._expected: deque[bytes] = deque()
        self._made = 0
        self._resumed: dict[str, int] = {}
        self._whole = [
            world.response(
                world.ADDRESS,
                "whole-address",
                [
                    *world.base(),
                    *world.services(services),
                    *world.workloads(workloads, services),
                ],
            ),
            world.response(world.AUTHORIZATION, "whole-policy", list(world.policies(policies))),
        ]

    def __mapping__(self) -> Mapping[str, Handler]:
        """For grpclib."""
        return {DELTA_RESOURCES: Handler(self._serve, Cardinality.STREAM_STREAM, bytes, bytes)}

    async def _serve(self, stream: Stream[bytes, bytes]) -> None:
        self._stream, self._resumed = stream, {}
        self._expected.clear()
        try:
            async for message in stream:
                self._heard(message)
        finally:
            if self._stream is stream:
                self._stream = None

    def _heard(self, message: bytes) -> None:
        if self._expected and message == self._expected[0]:
            self._expected.popleft()
            self._acks += 1
            self._count()
            return
        request = DeltaRequest.decode(message)
        if not request.nonce:
            self._resumed[request.type_url] = len(request.initial_versions)
            if len(self._resumed) == 2:
                self._connected.set()
            return
        if request.error is not None:
            self._nacks += 1
            sys.stderr.write(f"NACK {request.error[:500]}\n")
        else:
            self._acks += 1
        self._count()
        waiting = self._acked.get(request.nonce)
        if waiting is not None and not waiting.done():
            waiting.set_result(time.monotonic())

    def _open(self) -> Stream[bytes, bytes]:
        if self._stream is None:
            raise ConnectionError("the node's stream is over; was this process kept from running?")
        return self._stream

    async def do(self, words: list[str]) -> dict[str, Any]:
        """One command."""
        match words:
            case ["connected"]:
                async with asyncio.timeout(ACK_DEADLINE):
                    await self._connected.wait()
                return {"resumed": self._resumed}
            case ["base"]:
                first = world.response(world.ADDRESS, "base-address", world.base())
                return await self._send(
                    ("base-address", first),
                    ("base-policy", world.response(world.AUTHORIZATION, "base-policy", [])),
                )
            case ["whole"]:
                return await self._send(
                    ("whole-address", self._whole[0]), ("whole-policy", self._whole[1])
                )
            case ["nothing"]:
                return await self._send(
                    *(
                        (nonce, world.response(kind, nonce, []))
                        for kind, nonce in (
                            (world.ADDRESS, "none-a"),
                            (world.AUTHORIZATION, "none-p"),
                        )
                    )
                )
            case ["prepare", count]:
                return self._prepare(int(count))
            case ["updates" | "alone", *_, count] if int(count) > len(self._changes):
                raise ValueError(f"not so many are prepared: {count}")
            case ["updates", rate, count]:
                return await self._updates(int(rate), int(count))
            case ["alone", count]:
                return await self._alone(int(count))
            case _:
                raise ValueError(f"unknown: {words}")

    async def _send(self, *messages: tuple[str, bytes]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        begin = time.monotonic()
        for nonce, message in messages:
            self._acked[nonce] = loop.create_future()
            await self._open().send_message(message)
        async with asyncio.timeout(ACK_DEADLINE):
            ends = [await self._acked[nonce] for nonce, _ in messages]
        size = sum(len(message) for _, message in messages)
        return {"seconds": max(ends) - begin, "bytes": size, "nacks": self._nacks}

    def _prepare(self, count: int) -> dict[str, Any]:
        """Makes what the next so many changes send, and what is to be answered."""
        workloads, services, _ = self._sizes
        for number in range(self._made, self._made + count):
            turn, which = divmod(number, max(1, workloads))
            # From one turn to the next each pod is another one, so that no change is none.
            each = world.workload(which, services, turn + 1)
            nonce = f"u{number}"
            answer = DeltaRequest(type_url=world.ADDRESS, nonce=nonce).encode()
            self._changes.append((world.response(world.ADDRESS, nonce, [each]), answer))
        self._made += count
        return {"prepared": len(self._changes)}

    async def _updates(self, rate: int, count: int) -> dict[str, Any]:
        """So many of the prepared answers of one resource, evenly; rate 0: as fast as they are taken."""
        before, begin, late = self._acks + self._nacks, time.monotonic(), 0.0
        for number in range(count):
            if rate:
                due = begin + number / rate
                now = time.monotonic()
                if now < due:
                    await asyncio.sleep(due - now)
                late = max(late, now - due)
            await self._change()
        sent = time.monotonic() - begin
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ACK_DEADLINE):
                await self._until(before + count)
        return {
            "sent": count,
            "answered": self._acks + self._nacks - before,
            "nacks": self._nacks,
            "seconds": sent,
            "behind": time.monotonic() - begin - sent,
            "latest": late,
        }

    async def _alone(self, count: int) -> dict[str, Any]:
        """So many of the prepared answers, each when the one before it was acknowledged: none finds the node awake."""
        before, begin = self._acks + self._nacks, time.monotonic()
        async with asyncio.timeout(ACK_DEADLINE):
            for number in range(count):
                await self._change()
                await self._until(before + number + 1)
        took = time.monotonic() - begin
        return {"sent": count, "answered": count, "nacks": self._nacks, "seconds": took}

    async def _change(self) -> None:
        message, answer = self._changes.popleft()
        self._expected.append(answer)
        await self._open().send_message(message)

    async def _until(self, answers: int) -> None:
        """So many ACKs and NACKs in all."""
        self._enough = (answers, asyncio.Event())
        self._count()
        await self._enough[1].wait()

    def _count(self) -> None:
        if self._acks + self._nacks >= self._enough[0]:
            self._enough[1].set()


async def serve(folder: Path, port: int, sizes: list[int]) -> None:
    """Until the input ends; port 0 is one that is free."""
    istiod = Istiod(*sizes)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    listener = socket.create_server(("127.0.0.1", port))
    server = Server([istiod], codec=Raw())
    await server.start(sock=listener, ssl=context)
    _say({"ready": True, "port": listener.getsockname()[1]})
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while words := (await reader.readline()).decode().split():
        try:
            _say(await istiod.do(words))
        except (TimeoutError, OSError, ValueError) as error:
            _say({"error": f"{type(error).__name__}: {error}"})
    server.close()


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), [int(word) for word in sys.argv[3:]]))
