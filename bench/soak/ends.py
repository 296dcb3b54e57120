"""Both applications of the soak: `serve HOST` and `ask`, each a process that counts and compares every byte.

    python -m bench.soak.ends serve HOST --seed S
    python -m bench.soak.ends ask --steady A:P --torn A:P --seed S --first N --step N --workers N --seconds N

The server prints `ready STEADY TORN`, two addresses: what is going to be reset has a port of its own, so that the nodes'
logs tell the two apart. Each prints what it saw in one line of JSON: the client when its time is over and its last
connection has ended, the server when its input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import json
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass, field
from itertools import count

from bench.child import address
from bench.soak.script import HEADER, Flow, Order, Script

PIECE = 128 * 1024
# No connection of any script needs more than a few seconds; machines may be busy.
DEADLINE = 120.0
# What is told of failures: enough to see a pattern.
MOST_WRONG = 20


class Wrong(Exception):
    """What happened is not what the script says."""


class TooEarly(Wrong):
    """A FIN before all bytes."""


@dataclass
class Count:
    """Connections that ended as they should, and their bytes as this end knows them."""

    connections: int = 0
    sent: int = 0
    got: int = 0

    def add(self, end: End) -> None:
        """One more."""
        self.connections += 1
        self.sent += end.sent
        self.got += end.got


@dataclass
class Tally:
    """All that this process saw."""

    steady: Count = field(default_factory=Count)
    torn: Count = field(default_factory=Count)
    wrong: list[str] = field(default_factory=list)
    failures: int = 0

    def fails(self, who: str, script: Script | None, why: BaseException) -> None:
        """Keep it."""
        self.failures += 1
        if len(self.wrong) < MOST_WRONG:
            what = f"{script.number} ({script.order.value})" if script else "(no header)"
            self.wrong.append(f"{who} {what}: {type(why).__name__}: {why}")


class End:
    """One end of a connection, which knows what it should hear."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self.sent = self.got = 0
        """With the header."""

    async def says_header(self, number: int) -> None:
        """Which script this is."""
        await self._loop.sock_sendall(self._connection, number.to_bytes(HEADER, "big"))
        self.sent += HEADER

    async def hears_header(self) -> int:
        """The counterpart."""
        data = b""
        while len(data) < HEADER:
            more = await self._loop.sock_recv(self._connection, HEADER - len(data))
            if not more:
                raise Wrong(f"an end after {len(data)} bytes of the header")
            data += more
        self.got += HEADER
        return int.from_bytes(data, "big")

    async def says(self, flow: Flow, begin: int, end: int) -> None:
        """This part of the flow, with its silences."""
        for rest in flow.silences:
            if begin <= rest.after < end:
                await self._says(flow, begin, rest.after)
                await asyncio.sleep(rest.seconds)
                begin = rest.after
        await self._says(flow, begin, end)

    async def _says(self, flow: Flow, begin: int, end: int) -> None:
        for start in range(begin, end, PIECE):
            piece = flow.part(start, min(start + PIECE, end))
            await self._loop.sock_sendall(self._connection, piece)
            self.sent += len(piece)

    async def hears(self, flow: Flow, begin: int, end: int | None = None) -> None:
        """This part of the flow, or all that comes until the FIN; stalls where the flow says so. Every byte is compared."""
        at, rests = begin, [rest for rest in flow.stalls if rest.after >= begin]
        while end is None or at < end:
            if rests and rests[0].after <= at:
                await asyncio.sleep(rests.pop(0).seconds)
                continue
            most = min(PIECE, (end or at + PIECE) - at)
            if rests:
                most = min(most, rests[0].after - at)
            data = await self._loop.sock_recv(self._connection, most)
            if not data:
                if end is not None or at != flow.size:
                    raise TooEarly(f"FIN after {at} of {flow.size} bytes")
                return
            if data != flow.part(at, at + len(data)):
                raise Wrong(f"other bytes than were sent, between {at} and {at + len(data)}")
            at += len(data)
            if at > flow.size:
                raise Wrong(f"{at} bytes, {flow.size} were sent")
            self.got += len(data)

    def finishes(self) -> None:
        """FIN."""
        self._connection.shutdown(socket.SHUT_WR)

    def resets(self) -> None:
        """RST, whatever was read (SO_LINGER with no time to linger)."""
        linger = struct.pack("ii", 1, 0)
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._connection.close()


async def steady(end: End, script: Script, *, client: bool) -> None:
    """One end of a connection whose bytes all arrive."""
    says, hears = (script.up, script.down) if client else (script.down, script.up)
    first = Order.CLIENT_FIRST if client else Order.SERVER_FIRST

    async def speaks() -> None:
        await end.says(says, 0, says.size)
        end.finishes()

    if script.order is Order.BOTH:
        await _both(speaks(), end.hears(hears, 0))
    elif script.order is Order.TURNS:
        await _in_turns(end, script, client=client)
    elif script.order is first:
        await speaks()
        await end.hears(hears, 0)
    else:
        await end.hears(hears, 0)
        await speaks()


async def _in_turns(end: End, script: Script, *, client: bool) -> None:
    says, hears = (script.up, script.down) if client else (script.down, script.up)

    def part(flow: Flow, turn: int) -> tuple[int, int]:
        return flow.size * turn // script.turns, flow.size * (turn + 1) // script.turns

    for turn in range(script.turns):
        if not client:
            await end.hears(hears, *part(hears, turn))
        await end.says(says, *part(says, turn))
        if client:
            await end.hears(hears, *part(hears, turn))
    end.finishes()
    await end.hears(hears, hears.size)


async def torn(end: End, script: Script, *, client: bool) -> None:
    """One end of a connection that is reset: by this end, or the other one must be told."""
    says, hears = (script.up, script.down) if client else (script.down, script.up)
    if (script.order is Order.CLIENT_RESETS) == client:
        hearing = asyncio.ensure_future(end.hears(hears, 0))
        try:
            await end.says(says, 0, script.cut)
            await asyncio.sleep(script.hesitates)
        finally:
            hearing.cancel()
            (heard,) = await asyncio.gather(hearing, return_exceptions=True)
        if isinstance(heard, Exception):
            raise heard
        end.resets()
        return
    results = await asyncio.gather(
        end.says(says, 0, says.size), end.hears(hears, 0), return_exceptions=True
    )
    # The kernel tells the error once, to the first who asks: the other one sees EPIPE, or an end.
    serious = [r for r in results if isinstance(r, Wrong) and not isinstance(r, TooEarly)]
    if any(_is_reset(result) for result in results) and not serious:
        return
    raise next(
        (r for r in (*serious, *results) if isinstance(r, BaseException)),
        Wrong("FIN instead of RST"),
    )


def _is_reset(result: object) -> bool:
    return isinstance(result, OSError) and result.errno in (errno.ECONNRESET, errno.EPIPE)


async def _both(*halves: object) -> None:
    async with asyncio.TaskGroup() as tasks:
        for half in halves:
            tasks.create_task(half)  # type: ignore[arg-type]


class Server:
    """Answers as the script of each connection says."""

    def __init__(self, seed: int) -> None:
        self.tally = Tally()
        self._seed = seed
        self._running: set[asyncio.Task[None]] = set()

    async def accepts(self, listener: socket.socket) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            task = asyncio.ensure_future(self.serves(connection))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def rests(self) -> None:
        """Until every connection has ended; each has a deadline of its own."""
        while self._running:
            await asyncio.wait(self._running)

    async def serves(self, connection: socket.socket) -> None:
        """One connection."""
        script = None
        try:
            async with asyncio.timeout(DEADLINE):
                with connection:
                    end = End(connection)
                    script = Script.of(self._seed, await end.hears_header())
                    if script.torn:
                        # The client tears nothing before this: so both know of every connection.
                        await asyncio.get_running_loop().sock_sendall(connection, b".")
                        end.sent += 1
                        await torn(end, script, client=False)
                        self.tally.torn.add(end)
                    else:
                        await steady(end, script, client=False)
                        self.tally.steady.add(end)
        except (Exception, ExceptionGroup) as why:
            self.tally.fails("server", script, _first(why))


async def serve(asked: argparse.Namespace) -> Tally:
    """Until standard input ends."""
    listeners = [socket.create_server((asked.host, 0), backlog=1024) for _ in range(2)]
    for listener in listeners:
        listener.setblocking(False)
    server = Server(asked.seed)
    tasks = [asyncio.ensure_future(server.accepts(listener)) for listener in listeners]
    names = ["{}:{}".format(*listener.getsockname()) for listener in listeners]
    print("ready", *names, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.rests()
    for task in tasks:
        task.cancel()
    return server.tally


class Client:
    """Does one script after the other."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.tally = Tally()
        self._asked = asked
        self._numbers = count(asked.first, asked.step)
        self._end = time.monotonic() + asked.seconds

    async def works(self) -> None:
        """One of many at once."""
        while time.monotonic() < self._end and self.tally.failures < MOST_WRONG:
            script = Script.of(self._asked.seed, next(self._numbers))
            try:
                async with asyncio.timeout(DEADLINE):
                    await self.asks(script)
            except (Exception, ExceptionGroup) as why:
                self.tally.fails("client", script, _first(why))

    async def asks(self, script: Script) -> None:
        """One connection."""
        loop = asyncio.get_running_loop()
        with socket.socket() as connection:
            connection.setblocking(False)
            to = self._asked.torn if script.torn else self._asked.steady
            await loop.sock_connect(connection, to)
            end = End(connection)
            await end.says_header(script.number)
            if not script.torn:
                await steady(end, script, client=True)
                self.tally.steady.add(end)
                return
            if await loop.sock_recv(connection, 1) != b".":
                raise Wrong("not the server's first byte")
            end.got += 1
            await torn(end, script, client=True)
            self.tally.torn.add(end)


async def ask(asked: argparse.Namespace) -> Tally:
    """Until the time is over."""
    client = Client(asked)
    print("ready", flush=True)
    await _both(*(client.works() for _ in range(asked.workers)))
    return client.tally


def _first(why: Exception) -> BaseException:
    """Of a group, the one that says most."""
    found: BaseException = why
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def main() -> None:
    """Serve or ask."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak.ends")
    verbs = parser.add_subparsers(dest="verb", required=True)
    server = verbs.add_parser("serve")
    server.add_argument("host")
    client = verbs.add_parser("ask")
    client.add_argument("--steady", type=address, required=True)
    client.add_argument("--torn", type=address, required=True)
    client.add_argument("--first", type=int, default=0)
    client.add_argument("--step", type=int, default=1)
    client.add_argument("--workers", type=int, default=16)
    client.add_argument("--seconds", type=float, required=True)
    for one in (server, client):
        one.add_argument("--seed", type=int, required=True)
    asked = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        tally = asyncio.run(serve(asked) if asked.verb == "serve" else ask(asked))
        print(json.dumps(asdict(tally)), flush=True)


if __name__ == "__main__":
    main()
