"""The admin port over real sockets: bounds, hostile clients, and leaving. What is answered is `test_routes.py`'s."""

from __future__ import annotations

import asyncio
import errno
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Self

import pytest

from ztunnel.admin import connection as connection_module
from ztunnel.admin import hangup
from ztunnel.admin import server as server_module
from ztunnel.admin.connection import http_date
from ztunnel.admin.listen import listen
from ztunnel.admin.messages import Answer, Request, empty, plain
from ztunnel.admin.server import CONNECTIONS, AdminServer
from ztunnel.errors import SettingsError

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Pieces:
    """A body that the test feeds."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self.closed = asyncio.Event()

    async def next_piece(self) -> bytes:
        piece = await self.pieces.get()
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self) -> None:
        self.closed.set()


class Site:
    """Answers to know again, and the server around them."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.body = Pieces()
        self.let_go = asyncio.Event()
        self.asked = asyncio.Event()
        self.given_up = asyncio.Event()
        self.server = AdminServer(["127.0.0.1:0"], lambda: self.answer)
        host, _, port = self.server.addresses[0].rpartition(":")
        self.address = host, int(port)

    async def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        self.asked.set()
        match request.path:
            case "/slow":
                try:
                    await self.let_go.wait()
                except asyncio.CancelledError:
                    self.given_up.set()
                    raise
                return plain(200, "late\n")
            case "/pieces":
                return Answer(status=200, kind="application/json", body=self.body)
            case "/fails":
                raise RuntimeError("no answer today")
            case "/":
                return plain(200, "hello\n")
            case _:
                return empty(404)

    async def connect(self) -> Client:
        return Client(*await asyncio.open_connection(*self.address))

    async def ask(self, raw: bytes) -> tuple[int, dict[str, str], bytes]:
        async with await self.connect() as client:
            client.writer.write(raw)
            return await client.answer()


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:-2])}
            body = b""
            if headers.get("transfer-encoding") == "chunked":
                while size := int(await self.reader.readline(), 16):
                    body += await self.reader.readexactly(size)
                    await self.reader.readexactly(2)
                await self.reader.readexactly(2)
            else:
                body = await self.reader.readexactly(int(headers.get("content-length", 0)))
            return int(head[0].split()[1]), headers, body

    async def rest(self) -> bytes:
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


@asynccontextmanager
async def running() -> AsyncIterator[Site]:
    site = Site()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(site.server.run())
        try:
            yield site
        finally:
            await site.server.stop()
            await site.server.finish(1)
            task.cancel()


@pytest.mark.asyncio
async def test_an_answer_has_the_headers_that_upstreams_has() -> None:
    async with running() as site:
        status, headers, body = await site.ask(GET)
        assert (status, body) == (200, b"hello\n")
        assert list(headers) == ["content-type", "content-length", "date"]
        assert headers["content-type"] == "text/plain"
        status, headers, body = await site.ask(GET.replace(b"/", b"/nothing", 1))
        assert (status, list(headers), body) == (404, ["content-length", "date"], b"")


def test_a_date_is_written_as_the_standard_has_it() -> None:
    assert http_date(784111777.9) == "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.asyncio
async def test_a_connection_serves_many_requests() -> None:
    async with running() as site, await site.connect() as client:
        client.writer.write(GET * 3)
        for _ in range(3):
            assert (await client.answer())[2] == b"hello\n"
        client.writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde" + GET)
        for _ in range(2):
            assert (await client.answer())[0] == 200
        assert [request.method for request in site.requests] == ["GET", "GET", "GET", "POST", "GET"]


@pytest.mark.asyncio
async def test_a_client_that_has_finished_sending_still_gets_its_answer() -> None:
    async with running() as site, await site.connect() as client:
        client.writer.write(GET.replace(b"/", b"/slow", 1))
        client.writer.write_eof()
        await site.asked.wait()
        site.let_go.set()
        assert (await client.answer())[2] == b"late\n"
        assert await client.rest() == b""


SLOW = GET.replace(b"/", b"/slow", 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_nothing_goes_on_for_a_client_that_is_gone(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hangup, "PATIENCE", 0)
    async with running() as site, asyncio.timeout(10):
        async with await site.connect() as client:
            client.writer.write(SLOW)
            await site.asked.wait()
            if how == "resets":
                client.writer.transport.abort()
        await site.given_up.wait()
        assert (await site.ask(GET))[0] == 200


@pytest.mark.asyncio
async def test_who_has_finished_sending_and_waits_long_is_told_to_wait_and_gets_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hangup, "PATIENCE", 0)
    async with running() as site, await site.connect() as client:
        client.writer.write(SLOW)
        client.writer.write_eof()
        # Another part of the answer is not there to be waited for: this one is.
        assert (await client.answer())[:2] == (102, {})
        assert not site.given_up.is_set()
        site.let_go.set()
        assert (await client.answer())[::2] == (200, b"late\n")


@pytest.mark.asyncio
async def test_an_old_client_that_has_finished_sending_is_sent_nothing_but_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hangup, "PATIENCE", 0)
    decided = asyncio.Event()
    decide = connection_module.Connection._go_on_waiting

    async def told(self: connection_module.Connection) -> bool:
        try:
            return await decide(self)
        finally:
            decided.set()

    monkeypatch.setattr(connection_module.Connection, "_go_on_waiting", told)
    async with running() as site, await site.connect() as client:
        client.writer.write(b"GET /slow HTTP/1.0\r\n\r\n")
        client.writer.write_eof()
        async with asyncio.timeout(10):
            await decided.wait()
        site.let_go.set()
        assert (await client.rest()).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.asyncio
async def test_who_asks_the_next_thing_meanwhile_gets_both_answers() -> None:
    async with running() as site, await site.connect() as client:
        client.writer.write(SLOW)
        await site.asked.wait()
        client.writer.write(GET)
        site.let_go.set()
        assert [(await client.answer())[2] for _ in range(2)] == [b"late\n", b"hello\n"]


@pytest.mark.asyncio
async def test_an_old_client_gets_its_answer_until_the_end_of_the_connection() -> None:
    async with running() as site, await site.connect() as client:
        client.writer.write(b"GET /pieces HTTP/1.0\r\n\r\n")
        for piece in (b"[1,", b"2]", b""):
            site.body.pieces.put_nowait(piece)
        whole = await client.rest()
        assert whole.endswith(b"\r\n\r\n[1,2]")
        assert b"chunked" not in whole


@pytest.mark.asyncio
async def test_a_body_of_unknown_length_comes_in_chunks() -> None:
    async with running() as site:
        for piece in (b"[1,", b"2]", b""):
            site.body.pieces.put_nowait(piece)
        status, headers, body = await site.ask(GET.replace(b"/", b"/pieces", 1))
        assert (status, body) == (200, b"[1,2]")
        assert headers["content-type"] == "application/json"
        assert site.body.closed.is_set()


@pytest.mark.asyncio
async def test_half_of_a_body_is_never_taken_for_the_whole() -> None:
    async with running() as site, await site.connect() as client:
        client.writer.write(GET.replace(b"/", b"/pieces", 1))
        site.body.pieces.put_nowait(b"[1,")
        site.body.pieces.put_nowait(OSError("the dump stopped before its end"))
        whole = await client.rest()
        assert whole.endswith(b"3\r\n[1,\r\n")
        assert site.body.closed.is_set()


@pytest.mark.asyncio
async def test_who_goes_away_closes_the_body() -> None:
    async with running() as site:
        async with await site.connect() as client:
            client.writer.write(GET.replace(b"/", b"/pieces", 1))
            await client.reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(10):
            while not site.body.closed.is_set():
                site.body.pieces.put_nowait(b"x" * 100_000)
                await asyncio.sleep(0.001)


@pytest.mark.asyncio
async def test_a_failing_answer_says_so_and_the_port_goes_on() -> None:
    async with running() as site, await site.connect() as client:
        client.writer.write(GET.replace(b"/", b"/fails", 1) + GET)
        assert (await client.answer())[::2] == (500, b"no answer today\n")
        assert (await client.answer())[0] == 200


HOSTILE = {
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "another HTTP": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "a length beside chunks": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET", 400
    ),
    "chunked twice": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501),
    "a folded header": (b"GET / HTTP/1.1\r\nHost: a\r\n X: y\r\nb\r\n\r\n", 400),
    "one byte too many": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 8192, 431),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    "a length below zero": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
    "an unknown coding": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    "a header without a name": (b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400),
    "a NUL": (b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an endless head": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000, 431),
    "an endless line": (b"GET /" + b"a" * 20_000, 431),
    "a huge body": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n" + b"x" * 99_999, 413),
    "bad chunks": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
}  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.parametrize("case", HOSTILE)
async def test_bad_requests_are_refused_and_the_connection_ends(case: str) -> None:
    raw, status = HOSTILE[case]
    async with running() as site, await site.connect() as client:
        client.writer.write(raw)
        assert (await client.answer())[0] == status
        assert await client.rest() == b""
        assert site.requests == []
        assert (await site.ask(GET))[0] == 200


# Wishes that a client may have and nobody here fulfils (spec/reliability.md BI-A).
UNMOVED = {
    "a range": b"Range: bytes=0-0,1-1,2-2",
    "many ranges": b"Range: bytes=" + b"0-,5-" * 1000,
    "every coding": b"Accept-Encoding: " + b"gzip;q=1.0, " * 500,
    "a socket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13",
    "HTTP/2": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
    "events": b"Accept: text/event-stream",
    "a condition": b'If-None-Match: *\r\nIf-Match: "x"',
}


@pytest.mark.asyncio
@pytest.mark.parametrize("case", UNMOVED)
async def test_wishes_that_nobody_fulfils_change_no_answer(case: str) -> None:
    async with running() as site:
        raw = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + UNMOVED[case] + b"\r\n\r\n"
        status, headers, body = await site.ask(raw)
        assert (status, body) == (200, b"hello\n")
        assert "content-encoding" not in headers
        assert "upgrade" not in headers


@pytest.mark.asyncio
async def test_a_long_pipeline_is_answered_in_its_order_by_one_connection() -> None:
    count = 2000
    async with running() as site, await site.connect() as client:
        answered = 0

        async def ask() -> None:
            for _ in range(count // 100):
                client.writer.write(GET * 100)
                await client.writer.drain()

        async with asyncio.TaskGroup() as both:
            asking = both.create_task(ask())
            while answered < count:
                assert (await client.answer())[0] == 200
                answered += 1
            await asking
        assert len(site.requests) == count


@pytest.mark.asyncio
async def test_silence_and_drips_end_with_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "HEAD_WITHIN", 0.2)
    async with running() as site:
        for said in (b"", GET[:-2], b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"):
            async with await site.connect() as client:
                client.writer.write(said)
                assert await client.rest() == b""
        assert site.requests == []


@pytest.mark.asyncio
async def test_who_reads_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "LIFETIME", 0.3)
    async with running() as site, await site.connect() as client:
        client.writer.write(GET.replace(b"/", b"/pieces", 1))
        for _ in range(200):
            site.body.pieces.put_nowait(b"x" * 100_000)
        async with asyncio.timeout(10):
            await site.body.closed.wait()


@pytest.mark.asyncio
async def test_who_reads_nothing_and_stays_leaves_its_place_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "LIFETIME", 0.3)
    monkeypatch.setattr(server_module, "FAREWELL", 0.1)
    monkeypatch.setattr(server_module, "CONNECTIONS", 1)
    async with running() as site, await site.connect() as client:
        client.writer.write(GET.replace(b"/", b"/pieces", 1))
        for _ in range(200):
            site.body.pieces.put_nowait(b"x" * 100_000)
        await site.asked.wait()
        assert (await site.ask(GET))[0] == 200


@pytest.mark.asyncio
async def test_who_reads_nothing_does_not_hold_the_end_of_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "FAREWELL", 0.1)
    site = Site()
    serving = asyncio.ensure_future(site.server.run())
    async with await site.connect() as client:
        client.writer.write(GET.replace(b"/", b"/pieces", 1))
        # More than both ends' kernels take.
        site.body.pieces.put_nowait(b"x" * 50_000_000)
        async with asyncio.timeout(10):
            await client.reader.readexactly(1000)
            await site.server.stop()
            serving.cancel()
            await asyncio.wait([serving])
        assert site.body.closed.is_set()


@pytest.mark.asyncio
async def test_a_body_that_waits_to_be_invited_is_not_waited_for() -> None:
    async with running() as site, await site.connect() as client:
        client.writer.write(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
        )
        assert (await client.answer())[0] == 200
        assert await client.rest() == b""


@pytest.mark.asyncio
async def test_a_crowd_waits_for_its_turn() -> None:
    async with running() as site:
        crowd = [await site.connect() for _ in range(CONNECTIONS + 5)]
        for client in crowd:
            client.writer.write(GET)
        served = 0
        for client in crowd:
            async with client:
                served += (await client.answer())[0] == 200
        assert served == len(crowd)


@pytest.mark.asyncio
async def test_accepting_goes_on_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of upstream, one failed accept ended the port for ever (spec/reliability.md U1)."""
    loop = asyncio.get_running_loop()
    accept, failures = loop.sock_accept, [errno.EMFILE, errno.ECONNABORTED]

    async def sometimes(listener: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise OSError(failures.pop(), "no")
        return await accept(listener)

    monkeypatch.setattr(loop, "sock_accept", sometimes)
    monkeypatch.setattr("ztunnel.admin.server.PAUSE", 0.01)
    async with running() as site:
        assert (await site.ask(GET))[0] == 200
        assert failures == []


@pytest.mark.asyncio
async def test_leaving_refuses_new_clients_ends_idle_ones_and_finishes_answers() -> None:
    async with running() as site, await site.connect() as idle, await site.connect() as busy:
        idle.writer.write(GET)
        await idle.answer()
        site.asked.clear()
        busy.writer.write(GET.replace(b"/", b"/slow", 1) + GET)
        await site.asked.wait()
        await site.server.stop()
        with pytest.raises(ConnectionRefusedError):
            await site.connect()
        assert await idle.rest() == b""
        site.let_go.set()
        assert (await busy.answer())[::2] == (200, b"late\n")
        assert await busy.rest() == b""
        assert len(site.requests) == 2, "the next one is not begun"


def test_two_cannot_listen_on_one_address() -> None:
    (first,) = listen(["127.0.0.1:0"])
    port = first.getsockname()[1]
    before = _open_sockets()
    with pytest.raises(
        OSError, match="admin: cannot listen: Address already in use: 127"
    ) as raised:
        listen(["127.0.0.1:0", f"127.0.0.1:{port}"])
    assert raised.value.errno == errno.EADDRINUSE
    assert _open_sockets() == before
    first.close()


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "10.0.0.1:0", "localhost:0", "127.1"])
def test_nobody_else_can_be_let_in(address: str) -> None:
    with pytest.raises(SettingsError, match="for loopback addresses only: "):
        listen([address])


def _open_sockets() -> int:
    from pathlib import Path

    return sum(
        "socket:" in str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()
    )
