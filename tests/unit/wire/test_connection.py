"""The way to a server of the control plane: its addresses, one after the other."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from ztunnel.endpoint import Endpoint, SystemRoots
from ztunnel.errors import EndpointUnreachable
from ztunnel.wire import connection as module

pytestmark = pytest.mark.asyncio

ENDPOINT = Endpoint(host="istiod", port=15012, roots=SystemRoots(), cluster_id="c")


def swallowing(clean_up: ExitStack) -> tuple[int, tuple[str, int]]:
    """A listener whose queue is full: Linux answers nothing to whoever comes then."""
    listener = clean_up.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    for _ in range(4):
        caller = clean_up.enter_context(socket.socket())
        caller.setblocking(False)
        caller.connect_ex(listener.getsockname())
    return socket.AF_INET, listener.getsockname()


def led_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[int, tuple[str, int]]) -> None:
    async def resolve(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
        return list(addresses)

    monkeypatch.setattr(module, "_resolve", resolve)
    monkeypatch.setattr(module, "CONNECT", 0.5)


async def test_an_address_that_swallows_everything_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ExitStack() as clean_up:
        server = clean_up.enter_context(socket.create_server(("127.0.0.1", 0)))
        good = socket.AF_INET, server.getsockname()
        led_to(monkeypatch, swallowing(clean_up), swallowing(clean_up), good)
        connected = clean_up.enter_context(await module._connect(ENDPOINT))
        assert connected.getpeername() == server.getsockname()


async def test_addresses_that_swallow_everything_take_no_longer_than_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ExitStack() as clean_up:
        led_to(monkeypatch, swallowing(clean_up), swallowing(clean_up))
        with pytest.raises(
            EndpointUnreachable, match=r"^no connection to istiod:15012 within 0.5 s$"
        ):
            await module._connect(ENDPOINT)


async def test_why_the_last_address_refused_is_what_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ExitStack() as clean_up:
        closed = socket.create_server(("127.0.0.1", 0))
        refusing = socket.AF_INET, closed.getsockname()
        closed.close()
        led_to(monkeypatch, swallowing(clean_up), refusing)
        with pytest.raises(ConnectionRefusedError):
            await module._connect(ENDPOINT)
