"""The admin port: listens, accepts, bounds, and leaves without tearing an answer apart.

Accepting never ends because of an error (spec/reliability.md U1). What speaks HTTP is loaded with the first
connection: a proxy that nobody asks needs none of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ztunnel.admin.listen import bound, listen
from ztunnel.fields import Bare, fields

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from ztunnel.admin.connection import Connection, Respond

log = logging.getLogger(__name__)

# People and scrapers are few (spec/reliability.md T19): who finds no room waits in the kernel's queue.
CONNECTIONS = 64
# For the rest of an answer, after a connection's time is over: a client that is there and does not read would keep its place.
FAREWELL = 1.0
# After an accept that failed, most likely for want of descriptors.
PAUSE = 0.5


class AdminServer:
    """Sockets from the start, connections while `run` runs."""

    def __init__(self, addresses: Iterable[str], routes: Callable[[], Respond]) -> None:
        """Listens on these loopback addresses (`ip:port`), or raises `OSError`; `routes` is asked once, late."""
        self._sockets = listen(addresses)
        self.addresses = bound(self._sockets)
        """Where, as bound."""
        self._routes = routes
        self._respond: Respond | None = None
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._accepting: list[asyncio.Task[None]] = []
        self._clients: dict[asyncio.Task[None], _Client] = {}
        self._stopped = False

    async def run(self) -> None:
        """Serves until it was told to stop and the last connection has ended."""
        async with asyncio.TaskGroup() as group:
            for one in self._sockets if not self._stopped else ():
                task = group.create_task(self._accept(one, group), name="admin accept")
                self._accepting.append(task)

    async def stop(self) -> None:
        """No more connections; those that nobody uses end now, the others with their request."""
        self._stopped = True
        for task in self._accepting:
            task.cancel()
        if self._accepting:
            # The loop lets go of a listener first: it would go on watching its number, whoever had that next.
            await asyncio.wait(self._accepting)
        self.close()
        self._tell_drained()
        for task, client in self._clients.items():
            if client.connection is None or client.connection.idle:
                task.cancel()
            else:
                client.connection.leave_soon()

    async def finish(self, within: float) -> None:
        """Waits so many seconds for what `stop` has left; the end of `run` cuts the rest."""
        if self._clients:
            await asyncio.wait(list(self._clients), timeout=within)

    def close(self) -> None:
        """Gives the addresses back; for one that does not run, or no longer."""
        for one in self._sockets:
            one.close()

    def _tell_drained(self) -> None:
        # Where upstream says it, in its words; that it listens is told with the other listeners.
        for address in self.addresses:
            about = fields(address=Bare(address), component="admin")
            logging.getLogger("ztunnel.hyper_util").info("listener drained", extra=about)

    async def _accept(self, listener: socket.socket, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._slots.acquire()
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:
                self._slots.release()
                log.warning(
                    "the admin port cannot take a connection; is the limit of open files reached?",
                    extra=fields(stage="accept", side="local", component="admin", error=error),
                )
                await asyncio.sleep(PAUSE)
                continue
            except BaseException:
                self._slots.release()
                raise
            client = _Client()
            task = group.create_task(self._serve(accepted, client), name="admin connection")
            self._clients[task] = client
            task.add_done_callback(self._ended)

    async def _serve(self, accepted: socket.socket, client: _Client) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=accepted)
        except OSError:
            accepted.close()  # gone before it was greeted
            return
        try:
            client.connection = self._greet(reader, writer)
            await client.connection.run()
        except Exception:
            # Ours to mend, and no reason to deny the next one an answer.
            log.exception(
                "a connection of the admin port ended by a mistake of ours; please report it",
                extra=fields(stage="admin connection", side="local"),
            )
        finally:
            writer.close()
            await _gone(writer)

    def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Connection:
        # Here, not above: some 15 ms and half a megabyte, for those who are asked something.
        from ztunnel.admin.connection import Connection

        if self._respond is None:
            self._respond = self._routes()
        return Connection(reader, writer, self._respond)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._clients[task]
        self._slots.release()


async def _gone(writer: asyncio.StreamWriter) -> None:
    """Waits for the end of a connection that is closed, or makes one."""
    try:
        with contextlib.suppress(OSError):
            async with asyncio.timeout(FAREWELL):
                await writer.wait_closed()
    finally:
        writer.transport.abort()


@dataclass(slots=True)
class _Client:
    """Somebody who has connected; without a connection, not yet greeted."""

    connection: Connection | None = None
