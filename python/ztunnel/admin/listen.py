"""The sockets of the admin port: loopback addresses and no others (spec/reliability.md T33)."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ztunnel import spelling
from ztunnel.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

BACKLOG = 64


def listen(addresses: Iterable[str]) -> list[socket.socket]:
    """Opens a socket on each `ip:port`; with an `OSError` that names the address, none stays open."""
    with ExitStack() as undo:
        opened = [undo.enter_context(_listen(address)) for address in addresses]
        undo.pop_all()
    return opened


def bound(sockets: Iterable[socket.socket]) -> list[str]:
    """Where they listen, `ip:port`."""
    return [_text(*one.getsockname()[:2]) for one in sockets]


def _listen(address: str) -> socket.socket:
    if not spelling.is_loopback_socket_address(address):
        raise SettingsError(f"the admin port is for loopback addresses only: {address}")
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    six = ":" in host
    one = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
    try:
        # A predecessor's connections in TIME_WAIT must not keep us out.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if six:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setblocking(False)
        one.bind((host, int(port)))
        one.listen(BACKLOG)
    except OSError as error:
        one.close()
        text = f"admin: cannot listen: {error.strerror}: {address}"
        raise OSError(error.errno, text) from None
    except BaseException:
        one.close()
        raise
    return one


def _text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
