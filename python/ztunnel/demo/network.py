"""Which network a process or a socket is in: this machine's own, or one of two namespaces (`namespaces.py`)."""

from __future__ import annotations

import socket
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Side(Enum):
    """Of the wire."""

    NEAR = "a"
    FAR = "b"


class Network(Protocol):
    """How to get to a side."""

    def command(self, side: Side, command: Sequence[str]) -> list[str]:
        """The command, made to run there."""
        ...

    def tcp_socket(self, side: Side) -> socket.socket:
        """A TCP socket that lives there, for IPv4."""
        ...


class OneMachine:
    """Both sides are here; only their loopback addresses differ."""

    def command(self, side: Side, command: Sequence[str]) -> list[str]:
        """As it is."""
        del side
        return list(command)

    def tcp_socket(self, side: Side) -> socket.socket:
        """As any other."""
        del side
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
