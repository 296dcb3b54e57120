"""The way out: a TLS listener that turns CONNECT requests into connections to applications.

The order of checks and their statuses follow spec/dataplane.md §3.2, without mesh or policy.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Self

from bench.pure_python.flow import Flow
from bench.pure_python.identity import check_trust_domain
from bench.pure_python.tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.pure_python.identity import Credentials

log = logging.getLogger("pure_python")

DIAL_DEADLINE = 10.0


def allow_everyone(_peer: str, _authority: str) -> bool:
    """Let every peer of the trust domain through."""
    return True


class Server:
    """`async with Server(...) as server:` listens on `server.port` until the end."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        trust_domain: str = "cluster.local",
        listen: tuple[str, int] = ("127.0.0.1", 0),
        allow: Callable[[str, str], bool] = allow_everyone,
    ) -> None:
        self._context = credentials.server_context()
        self._check = partial(check_trust_domain, trust_domain=trust_domain)
        self._listen = listen
        self._allow = allow
        self._tasks: set[asyncio.Task[None]] = set()
        self._tunnels: set[Tunnel] = set()
        self.requests: list[dict[str, str]] = []  # the last few, for tests
        self.port = 0

    async def __aenter__(self) -> Self:
        """Open the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._accept, *self._listen, ssl=self._context, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the port and break off every tunnel."""
        self._server.close()
        self.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(
            *self._tasks,
            *(tunnel.wait_closed() for tunnel in self._tunnels),
            return_exceptions=True,
        )

    def kill(self) -> None:
        """End every tunnel as a killed process would."""
        for tunnel in self._tunnels:
            tunnel.abort()

    async def drain(self, deadline: float) -> bool:
        """GOAWAY everywhere, then wait for the streams to finish; True if they did in time."""
        self._server.close()
        for tunnel in list(self._tunnels):
            tunnel.shut_down()
        waiting = [tunnel.closed for tunnel in self._tunnels if not tunnel.closed.done()]
        if not waiting:
            return True
        _, late = await asyncio.wait(waiting, timeout=deadline)
        return not late

    def _accept(self) -> Tunnel:
        self._tunnels = {tunnel for tunnel in self._tunnels if not tunnel.closed.done()}
        tunnel = Tunnel(client_side=False, check=self._check, on_request=self._request)
        self._tunnels.add(tunnel)
        return tunnel

    def _request(self, tunnel: Tunnel, stream_id: int, headers: dict[str, str]) -> None:
        self.requests = [*self.requests[-99:], headers]
        authority = headers.get(":authority", "")
        host, _, port = authority.rpartition(":")
        if headers.get(":method") != "CONNECT" or not host or not port.isdecimal():
            tunnel.respond(stream_id, 400, end=True)
        elif not self._allow(tunnel.peer, authority):
            log.warning("denied: %s to %s", tunnel.peer, authority)
            tunnel.respond(stream_id, 401, end=True)
        else:
            flow = _Requested(tunnel, stream_id)
            tunnel.flows[stream_id] = flow
            dial = self._connect(tunnel, flow, host.strip("[]"), int(port))
            task = asyncio.get_running_loop().create_task(dial)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self, tunnel: Tunnel, flow: Flow, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(DIAL_DEADLINE):
                await loop.create_connection(lambda: flow, host, port)
        except OSError as error:
            log.warning("cannot reach %s:%d: %s", host, port, error)
            tunnel.respond(flow.stream_id, 503, end=True)
            flow.stream_reset()


class _Requested(Flow):
    """A flow that starts at its stream: 200 goes out when the application has accepted."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.tunnel is not None and not self._over:
            self.tunnel.respond(self.stream_id, 200, end=False)
        super().connection_made(transport)
