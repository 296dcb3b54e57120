"""The application at the far end: `python -m bench.application HOST [PORT]`, prints `ready HOST:PORT`.

The first byte of a connection says what it wants, so that one process serves every workload:

    E           echo what comes, until the end
    D + 8 bytes send that many bytes, then finish
    U + 8 bytes take that many bytes, answer with one

Nothing here is measured. It is one epoll loop for the small things and a thread for each bulk
transfer, with the kernel moving the bytes (sendfile out, MSG_TRUNC in), so that on two cores it
takes as little as possible from the proxies.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import sys
import threading

CHUNK = 1024 * 1024


def serve(listener: socket.socket) -> None:
    """Serve until killed."""
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            ready = key.fileobj
            assert isinstance(ready, socket.socket)
            if ready is listener:
                connection, _peer = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(connection, selectors.EVENT_READ, "new")
                continue
            with contextlib.suppress(OSError):
                if _turn(selector, ready, fresh=key.data == "new"):
                    continue
            with contextlib.suppress(KeyError):
                selector.unregister(ready)
            ready.close()


def _turn(selector: selectors.BaseSelector, ready: socket.socket, *, fresh: bool) -> bool:
    """Handle what one connection has to say; False if it has ended."""
    data = ready.recv(64 * 1024)
    if fresh and data and data[:1] in b"DU":
        selector.unregister(ready)
        while len(data) < 9:
            data += ready.recv(9 - len(data))
        (size,) = struct.unpack(">Q", data[1:9])
        job = send_bytes if data[:1] == b"D" else _take
        size -= 0 if data[:1] == b"D" else len(data) - 9
        threading.Thread(target=_bulk, args=(job, ready, size), daemon=True).start()
        return True
    if fresh:
        selector.modify(ready, selectors.EVENT_READ, "echo")
        data = data[1:] or data  # the mode byte alone is echoed as a greeting
    ready.sendall(data)
    return bool(data)


def _bulk(job: object, connection: socket.socket, size: int) -> None:
    assert callable(job)
    with connection, contextlib.suppress(OSError):
        job(connection, size)


def send_bytes(connection: socket.socket, size: int) -> None:
    """Send `size` zero bytes out of the page cache."""
    zeros = os.memfd_create("zeros")
    try:
        os.truncate(zeros, CHUNK)
        while size:
            size -= os.sendfile(connection.fileno(), zeros, 0, min(size, CHUNK))
    finally:
        os.close(zeros)


def take_bytes(connection: socket.socket, size: int) -> None:
    """Read and drop `size` bytes; `ConnectionError` if they end early."""
    scratch = bytearray(CHUNK)
    while size:
        taken = connection.recv_into(scratch, min(size, CHUNK), socket.MSG_TRUNC)
        if not taken:
            raise ConnectionError(f"{size} bytes are missing")
        size -= taken


def _take(connection: socket.socket, size: int) -> None:
    take_bytes(connection, size)
    connection.sendall(b".")


def main() -> None:
    """Listen and serve."""
    wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    listener = socket.create_server((sys.argv[1], wanted), backlog=4096)
    host, port = listener.getsockname()
    print(f"ready {host}:{port}", flush=True)
    serve(listener)


if __name__ == "__main__":
    main()
