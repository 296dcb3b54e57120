"""The control plane of the measurement, a process of its own: sends what it is told to, and says when it was ACKed.

`python -m bench.control.istiod FOLDER SIZES…`, steered by lines on its standard input, answering with one line of
JSON each. It knows nothing of delta ADS beyond that; a control plane for tests is `ztunnel.testing`'s.
Gives way to the proxies, since a real one is on another machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import sys
import time
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
GIVES_WAY = 10


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
        self._answered = asyncio.Condition()
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
        async for message in stream:
            request = DeltaRequest.decode(message)
            if not request.nonce:
                self._resumed[request.type_url] = len(request.initial_versions)
                if len(self._resumed) == 2:
                    self._connected.set()
                continue
            if request.error is not None:
                self._nacks += 1
                sys.stderr.write(f"NACK {request.error[:500]}\n")
            else:
                self._acks += 1
            async with self._answered:
                self._answered.notify_all()
            waiting = self._acked.get(request.nonce)
            if waiting is not None and not waiting.done():
                waiting.set_result(time.monotonic())

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
            case ["updates", rate, seconds]:
                return await self._updates(int(rate), float(seconds))
            case _:
                raise ValueError(f"unknown: {words}")

    async def _send(self, *messages: tuple[str, bytes]) -> dict[str, Any]:
        assert self._stream is not None
        loop = asyncio.get_running_loop()
        begin = time.monotonic()
        for nonce, message in messages:
            self._acked[nonce] = loop.create_future()
            await self._stream.send_message(message)
        async with asyncio.timeout(ACK_DEADLINE):
            ends = [await self._acked[nonce] for nonce, _ in messages]
        size = sum(len(message) for _, message in messages)
        return {"seconds": max(ends) - begin, "bytes": size, "nacks": self._nacks}

    async def _updates(self, rate: int, seconds: float) -> dict[str, Any]:
        """So many answers of one resource each second, evenly."""
        assert self._stream is not None
        workloads, services, _ = self._sizes
        before, begin, late = self._acks + self._nacks, time.monotonic(), 0.0
        total = int(rate * seconds)
        for number in range(total):
            due = begin + number / rate
            now = time.monotonic()
            if now < due:
                await asyncio.sleep(due - now)
            late = max(late, now - due)
            each = world.workload(number % max(1, workloads), services, number + 1)
            await self._stream.send_message(world.response(world.ADDRESS, f"u{number}", [each]))
        sent = time.monotonic() - begin
        await self._all_acked(before + total)
        return {
            "sent": total,
            "answered": self._acks + self._nacks - before,
            "nacks": self._nacks,
            "seconds": sent,
            "behind": time.monotonic() - begin - sent,
            "latest": late,
        }

    async def _all_acked(self, wanted: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ACK_DEADLINE), self._answered:
                await self._answered.wait_for(lambda: self._acks + self._nacks >= wanted)


async def serve(folder: Path, sizes: list[int]) -> None:
    """Until the input ends."""
    istiod = Istiod(*sizes)
    os.nice(GIVES_WAY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    server = Server([istiod], codec=Raw())
    await server.start("127.0.0.1", PORT, ssl=context)
    _say({"ready": True})
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while words := (await reader.readline()).decode().split():
        try:
            _say(await istiod.do(words))
        except (TimeoutError, OSError, ValueError, AssertionError) as error:
            _say({"error": f"{type(error).__name__}: {error}"})
    server.close()


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), [int(word) for word in sys.argv[2:]]))
