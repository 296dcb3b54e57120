"""The way in: a local port whose connections go through a tunnel to one authority.

Tunnels are shared: a new connection takes a stream of one that has room, and only dials when none
has; connections that come while a dial is under way wait for that one.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Self

from bench.pure_python.flow import Flow, reset_socket
from bench.pure_python.identity import IdentityError, check_exact
from bench.pure_python.tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.pure_python.identity import Credentials

log = logging.getLogger("pure_python")

DIAL_DEADLINE = 10.0


class Client:
    """`async with Client(...) as client:` listens on `client.port` until the end."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        peer: tuple[str, int],
        expected: Sequence[str],
        authority: str,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._context = credentials.client_context()
        self._peer = peer
        self._check = partial(check_exact, expected=expected)
        self._request = [(":method", "CONNECT"), (":authority", authority), *headers]
        self._listen = listen
        self._tasks: set[asyncio.Task[None]] = set()
        self._dialling = asyncio.Lock()
        self._tunnels: list[Tunnel] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        """Open the local port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Accepted(self), *self._listen, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the port and every tunnel."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for tunnel in self._tunnels:
            tunnel.abort()
        await asyncio.gather(
            *self._tasks,
            *(tunnel.wait_closed() for tunnel in self._tunnels),
            return_exceptions=True,
        )

    @property
    def tunnels(self) -> int:
        """How many tunnels are up."""
        return sum(not tunnel.closed.done() for tunnel in self._tunnels)

    def connect(self, flow: Flow, local: asyncio.Transport) -> None:
        """Give an accepted connection its stream: at once where a tunnel has room."""
        if tunnel := self._usable():
            self._open(tunnel, flow)
            return
        task = asyncio.get_running_loop().create_task(self._dial_for(flow, local))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial_for(self, flow: Flow, local: asyncio.Transport) -> None:
        try:
            async with asyncio.timeout(DIAL_DEADLINE), self._dialling:
                tunnel = self._usable() or await self._dial()
        except (OSError, IdentityError, TimeoutError) as error:
            log.warning("no tunnel to %s:%d: %s", *self._peer, str(error) or type(error).__name__)
            reset_socket(local)
            return
        if not local.is_closing():
            self._open(tunnel, flow)

    async def _dial(self) -> Tunnel:
        loop = asyncio.get_running_loop()
        _, tunnel = await loop.create_connection(
            lambda: Tunnel(client_side=True, check=self._check),
            *self._peer,
            ssl=self._context,
            server_hostname="",
        )
        await tunnel.ready
        self._tunnels = [old for old in self._tunnels if not old.closed.done()]
        self._tunnels.append(tunnel)
        return tunnel

    def _open(self, tunnel: Tunnel, flow: Flow) -> None:
        flow.tunnel = tunnel
        flow.stream_id = tunnel.open(flow, self._request)

    def _usable(self) -> Tunnel | None:
        return next((tunnel for tunnel in self._tunnels if tunnel.usable), None)


class _Accepted(Flow):
    """A flow that starts at its local socket; nothing is read until the far side has answered."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._local is not None:
            self._local.pause_reading()
            self._client.connect(self, self._local)
