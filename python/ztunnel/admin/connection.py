"""HTTP/1.1 on one connection of the admin port: h11 decides what bytes mean, this moves them.

Every wait has a bound: a head within two seconds and 8 KiB, as upstream, a body within the same, the whole connection
within a minute, not counting what an answer takes to be found (a profile). A client may close its sending side and still
gets its answer; for one that is gone, nothing goes on (`hangup.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import h11

from ztunnel.admin.hangup import Watch
from ztunnel.admin.messages import Answer, Request, empty, plain
from ztunnel.fields import fields

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Respond: TypeAlias = Callable[[Request], Awaitable[Answer]]

log = logging.getLogger(__name__)

# spec/control.md §10
HEAD_WITHIN = 2.0
HEAD_BYTES = 8 * 1024
# No endpoint reads one: enough to be polite, too little to be a burden.
BODY_BYTES = 64 * 1024
READ_BYTES = 16 * 1024
LIFETIME = 60.0
# The longest profile is of 300 seconds; putting it together takes some more.
ANSWER_WITHIN = 330.0


class Connection:
    """One client, from its first byte to its last."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, respond: Respond
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._respond = respond
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._leaving = False
        self._life: asyncio.Timeout | None = None
        self.idle = True
        """Nothing of a request has come: nobody loses anything if this ends now."""

    def leave_soon(self) -> None:
        """Ends it with the request that is under way."""
        self._leaving = True

    async def run(self) -> None:
        """Answers requests until one of the two sides has enough. Raises nothing that a client can cause."""
        try:
            async with asyncio.timeout(LIFETIME) as self._life:
                while await self._exchange():
                    self._http.start_next_cycle()
                    self.idle = True
                    if self._leaving:
                        return
        except (TimeoutError, ConnectionError, h11.LocalProtocolError, _Broken):
            # A client that is gone or too slow, or an answer that cannot be completed: it sees its connection closed.
            pass
        finally:
            self._writer.close()

    async def _exchange(self) -> bool:
        """One request and its answer; whether another may follow."""
        try:
            async with asyncio.timeout(HEAD_WITHIN):
                request = await self._next_request()
                if request is None:
                    return False
                whole = await self._skip_body()
        except h11.RemoteProtocolError as error:
            await self._send(empty(error.error_status_hint), last=True, head_only=False)
            return False
        answer = await self._answer_who_waits(request) if whole else empty(413)
        if answer is None:
            return False
        try:
            last = self._leaving or not whole
            await self._send(answer, last=last, head_only=request.method == "HEAD")
        finally:
            if answer.body is not None:
                answer.body.close()
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _next_request(self) -> Request | None:
        """None: the client has nothing more to ask."""
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self.idle = False
                if event.http_version not in (b"1.0", b"1.1"):
                    raise h11.RemoteProtocolError("another HTTP", error_status_hint=505)
                names = {name for name, _ in event.headers}
                if {b"content-length", b"transfer-encoding"} <= names:
                    # RFC 9112 §6.1: whoever sends both may be trying to hide a second request in the first.
                    raise h11.RemoteProtocolError("two lengths", error_status_hint=400)
                return Request(
                    method=event.method.decode(),
                    target=event.target.decode("latin-1"),
                    headers=tuple(
                        (name.decode("latin-1"), value.decode("latin-1"))
                        for name, value in event.headers
                    ),
                )
            if isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                return None
            await self._receive()

    async def _skip_body(self) -> bool:
        """Reads what nobody needs, so that closing does not tear the answer away; whether it came to an end."""
        left = BODY_BYTES
        while left >= 0:
            if self._http.they_are_waiting_for_100_continue:
                # They need not send it: the answer comes first, and ends the connection.
                return True
            event = self._http.next_event()
            if isinstance(event, h11.Data):
                left -= len(event.data)
            elif event is h11.NEED_DATA:
                await self._receive()
            else:
                return True
        return False

    async def _receive(self) -> None:
        data = await self._reader.read(READ_BYTES)
        self.idle = False
        self._http.receive_data(data)

    async def _answer_who_waits(self, request: Request) -> Answer | None:
        """The answer; None if nobody waits for it any more, who would have been told by then."""
        watch = Watch(self._reader, self._writer, self._http.receive_data, self._go_on_waiting)
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(self._answer(request), name="admin answer")
            watching = group.create_task(watch.until_gone(), name="admin client")
            await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done() and watching.result():
                answering.cancel()
            else:
                await asyncio.wait({answering})
            watching.cancel()
        return None if answering.cancelled() else answering.result()

    async def _go_on_waiting(self) -> bool:
        """Sends an interim response, if this client knows what that is."""
        if self._http.their_http_version != b"1.1" or self._http.our_state is not h11.SEND_RESPONSE:
            return False
        await self._write(h11.InformationalResponse(status_code=102, headers=[], reason=PROCESSING))
        return True

    async def _answer(self, request: Request) -> Answer:
        with self._time_out():
            try:
                return await self._respond(request)
            except Exception as error:
                log.exception(
                    "an admin request failed by a mistake of ours; please report it",
                    extra=fields(stage="admin answer", side="local", path=request.path[:80]),
                )
                return plain(500, f"{error}\n")

    @contextmanager
    def _time_out(self) -> Iterator[None]:
        """Stops the clock of the whole connection, within bounds."""
        life, now = self._life, asyncio.get_running_loop().time
        ends = life.when() if life is not None else None
        if life is None or ends is None:
            yield
            return
        began = now()
        life.reschedule(began + ANSWER_WITHIN)
        try:
            yield
        finally:
            if not life.expired():
                life.reschedule(ends + now() - began)

    async def _send(self, answer: Answer, *, last: bool, head_only: bool) -> None:
        if self._http.our_state not in (h11.SEND_RESPONSE, h11.IDLE):
            return
        headers = list(answer.headers)
        if answer.kind is not None:
            headers.append(("content-type", answer.kind))
        if answer.body is None and not head_only:
            headers.append(("content-length", str(len(answer.text))))
        headers.append(("date", http_date(time.time())))
        if last:
            headers.append(("connection", "close"))
        reason = REASONS.get(answer.status, "").encode()
        await self._write(h11.Response(status_code=answer.status, headers=headers, reason=reason))
        if not head_only:
            await self._send_body(answer)
        await self._write(h11.EndOfMessage())

    async def _send_body(self, answer: Answer) -> None:
        if answer.body is None:
            await self._write(h11.Data(data=answer.text))
            return
        try:
            while piece := await answer.body.next_piece():
                await self._write(h11.Data(data=piece))
        except (OSError, ValueError) as error:
            if isinstance(error, (ConnectionError, TimeoutError)):
                raise
            # No end of the message: the client must not take half of it for the whole.
            log.error(
                "an admin answer was cut before its end; ask again",
                extra=fields(stage="admin answer", side="local", error=error),
            )
            raise _Broken from error

    async def _write(
        self, event: h11.InformationalResponse | h11.Response | h11.Data | h11.EndOfMessage
    ) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)
            await self._writer.drain()


class _Broken(Exception):
    """The answer ends before its end."""


def http_date(seconds: float) -> str:
    """RFC 9110 §5.6.7, whatever the locale."""
    t = time.gmtime(seconds)
    day, month = DAYS[t.tm_wday], MONTHS[t.tm_mon - 1]
    return (
        f"{day}, {t.tm_mday:02} {month} {t.tm_year} {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT"
    )


# Of every status that is sent from here (RFC 9110 §15).
REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}
PROCESSING = b"Processing"  # 102 (RFC 2518 §10.1)
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
