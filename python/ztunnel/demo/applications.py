"""Two plain TCP services behind node B; neither has heard of a mesh.

    python -m ztunnel.demo.applications GREETER-ADDRESS SOURCE-ADDRESS

* greeter: speaks first, as SMTP and MySQL do, and says whom it sees; then it echoes
* source: takes a decimal number and a newline, sends that many zero bytes

Prints `ready` and ends with its standard input.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 1024 * 1024


def greet(connection: socket.socket) -> None:
    """A banner, then an echo."""
    host = connection.getpeername()[0]
    connection.sendall(f"220 hello {host}, the server speaks first\r\n".encode())
    while data := connection.recv(64 * 1024):
        connection.sendall(data)


def pour(connection: socket.socket) -> None:
    """As many zero bytes as were asked for, by sendfile so that the application costs next to nothing."""
    with connection.makefile("rb") as reader:
        left = int(reader.readline(32))
    zeros = os.memfd_create("zeros")
    try:
        os.truncate(zeros, BLOCK)
        while left:
            left -= os.sendfile(connection.fileno(), zeros, 0, min(left, BLOCK))
    finally:
        os.close(zeros)


def serve(listener: socket.socket, talk: Callable[[socket.socket], None]) -> None:
    """A thread for each connection, until the process ends."""
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_one, args=(connection, talk), daemon=True).start()


def _one(connection: socket.socket, talk: Callable[[socket.socket], None]) -> None:
    with connection, contextlib.suppress(OSError, ValueError):
        talk(connection)


def main() -> None:
    """See the top of the file."""
    for address, talk in zip(sys.argv[1:], (greet, pour), strict=True):
        host, _, port = address.rpartition(":")
        listener = socket.create_server((host, int(port)), backlog=256)
        threading.Thread(target=serve, args=(listener, talk), daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
