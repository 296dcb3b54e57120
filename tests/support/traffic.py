"""Traffic that goes on while something else happens: echoes over many connections, every byte compared.

    with Traffic(client.bound["socks5"], (address, 8080)) as traffic:
        istiod.kill()
        traffic.goes_on()
    assert traffic.failures == []

Half of the connections last, the others are opened anew for each exchange. Both ends are one thread of this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import threading
from typing import TYPE_CHECKING, Self

from tests.support.nodes import DEADLINE, Address, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KIB, MIB = 1024, 1024 * 1024
BLOB = random.Random(0).randbytes(2 * MIB)
HEADER = 8
# One exchange: a connection through two proxies that a debug build makes on two shared cores.
PATIENCE = 30.0
# Between two exchanges of one connection. As fast as it goes, the load would be all that the machine does.
PACE = 0.01


class Traffic:
    """Goes on while its `with` lasts."""

    def __init__(
        self, proxy: Address, target: Address, *, connections: int = 20, seed: int = 0
    ) -> None:
        """`proxy` speaks SOCKS5, `target` is where the echo is."""
        self.failures: list[str] = []
        """What went wrong on an exchange: bytes, an end too early, an error, or nothing for `PATIENCE`."""
        self.exchanges = [0] * connections
        self.bytes = 0
        self._proxy, self._target = proxy, target
        self._seed = seed
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._ended: asyncio.Event
        self._begun = threading.Event()
        self._serving: set[asyncio.Task[object]] = set()

    def __enter__(self) -> Self:
        """Begin, and wait until every connection has made an exchange."""
        self._thread.start()
        assert self._begun.wait(DEADLINE)
        self.goes_on()
        return self

    def __exit__(self, *_: object) -> None:
        """End, each connection after its exchange."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(DEADLINE + PATIENCE)
        assert not self._thread.is_alive(), "traffic has not ended"

    def goes_on(self, exchanges: int = 1, within: float = DEADLINE) -> None:
        """Until every connection has made so many exchanges more, the first of them begun after now."""
        before = list(self.exchanges)

        def enough() -> bool:
            return bool(self.failures) or all(
                now > then + exchanges for now, then in zip(self.exchanges, before, strict=True)
            )

        eventually(enough, f"{exchanges} exchanges more on every connection", within)
        assert not self.failures, self.failures[:5]

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()

    async def _main(self) -> None:
        self._ended = asyncio.Event()
        server = await asyncio.start_server(self._serves, *self._target)
        self._begun.set()
        async with asyncio.TaskGroup() as tasks:
            for number in range(len(self.exchanges)):
                tasks.create_task(self._use(number))
        server.close()
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serves(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await _echo(reader, writer)
        except asyncio.CancelledError:
            # The end of the test. Python 3.11's streams take a cancelled handler for a failed one.
            pass
        finally:
            self._serving.discard(task)
            writer.transport.abort()

    async def _use(self, number: int) -> None:
        dice = random.Random(f"{self._seed} {number}")
        lasting = number % 2 == 0
        while not self._ended.is_set():
            try:
                async with self._connected() as (reader, writer):
                    await self._exchange(number, dice, reader, writer)
                    while lasting and not self._ended.is_set():
                        await self._exchange(number, dice, reader, writer)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, AssertionError) as error:
                kind = "lasting" if lasting else "new"
                self.failures.append(f"{kind} connection {number}: {type(error).__name__} {error}")
                await asyncio.sleep(PACE)

    async def _exchange(
        self,
        number: int,
        dice: random.Random,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        size = MIB if dice.random() < 0.01 else dice.randrange(1, 64 * KIB)
        start = dice.randrange(len(BLOB) - size)
        data = memoryview(BLOB)[start : start + size]
        async with asyncio.timeout(PATIENCE):
            writer.write(size.to_bytes(HEADER, "big"))
            writer.write(data)
            await writer.drain()
            got = await reader.readexactly(size)
        assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest(), (
            "other bytes came back"
        )
        self.bytes += 2 * size
        self.exchanges[number] += 1
        await asyncio.sleep(PACE)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """By way of SOCKS5 (RFC 1928)."""
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(*self._proxy)
        try:
            async with asyncio.timeout(PATIENCE):
                host, port = self._target
                writer.write(b"\x05\x01\x00")
                assert await reader.readexactly(2) == b"\x05\x00"
                address = bytes(map(int, host.split(".")))
                writer.write(b"\x05\x01\x00\x01" + address + port.to_bytes(2, "big"))
                reply = await reader.readexactly(10)
                assert reply[1] == 0, f"SOCKS5 says {reply[1]}"
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while header := await reader.read(HEADER):
            header += await reader.readexactly(HEADER - len(header))
            # In pieces, so that both directions are under way at once.
            left = int.from_bytes(header, "big")
            while left:
                piece = await reader.read(min(left, 64 * KIB))
                if not piece:
                    return
                left -= len(piece)
                writer.write(piece)
                await writer.drain()
        writer.close()
        await writer.wait_closed()
    except (OSError, asyncio.IncompleteReadError):
        pass
