"""What the load generator does, and what it saw. Sockets and clocks; it does not know whom it drives.

Every workload takes the address of the way in and gives a `Run`. CPU time is not its business: the
harness reads the proxies' clocks before and after.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from bench.application import send_bytes, take_bytes

Address = tuple[str, int]

DEADLINE = 60.0


@dataclass(kw_only=True)
class Run:
    """One pass of one workload."""

    units: float
    """How much was done: GiB, round trips, connections."""
    seconds: float
    latencies: list[float] = field(default_factory=list)
    """In seconds, one for each round trip."""


def connect(way_in: Address) -> socket.socket:
    """A connection that answers within a minute or fails."""
    connection = socket.create_connection(way_in, timeout=DEADLINE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # The kernel keeps the deadline, not Python: a Python time-out makes the socket non-blocking, and
    # then sendfile has to wait in a second call.
    connection.settimeout(None)
    limit = struct.pack("ll", int(DEADLINE), 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    return connection


def bulk_down(way_in: Address, size: int) -> Run:
    """One connection, application to client."""
    with connect(way_in) as connection:
        begin = time.perf_counter()
        connection.sendall(b"D" + struct.pack(">Q", size))
        take_bytes(connection, size)
        return Run(units=size / 2**30, seconds=time.perf_counter() - begin)


def bulk_up(way_in: Address, size: int) -> Run:
    """One connection, client to application, until the application has it all."""
    with connect(way_in) as connection:
        begin = time.perf_counter()
        connection.sendall(b"U" + struct.pack(">Q", size))
        send_bytes(connection, size)
        take_bytes(connection, 1)
        return Run(units=size / 2**30, seconds=time.perf_counter() - begin)


def ping_pong(way_in: Address, connections: int, size: int, trips: int) -> Run:
    """`connections` with one message of `size` on its way in each, `trips` in all."""
    sockets = {}
    poll = select.epoll()
    for _ in range(connections):
        connection = greeted(way_in)
        sockets[connection.fileno()] = connection
        poll.register(connection.fileno(), select.EPOLLIN)
    message, latencies = bytes(size), []
    sent = dict.fromkeys(sockets, 0.0)
    missing = dict.fromkeys(sockets, size)
    begin = time.perf_counter()
    for number, connection in sockets.items():
        sent[number] = time.perf_counter()
        connection.sendall(message)
    running = connections
    started = connections
    while running:
        events = poll.poll(DEADLINE)
        if not events:
            raise TimeoutError(f"{running} answers are missing")
        for number, _ in events:
            connection = sockets[number]
            data = connection.recv(missing[number])
            if not data:
                raise ConnectionError("a connection ended in the middle")
            missing[number] -= len(data)
            if missing[number]:
                continue
            now = time.perf_counter()
            latencies.append(now - sent[number])
            if started < trips:
                started += 1
                sent[number], missing[number] = now, size
                connection.sendall(message)
            else:
                running -= 1
    seconds = time.perf_counter() - begin
    poll.close()
    for connection in sockets.values():
        connection.close()
    return Run(units=len(latencies), seconds=seconds, latencies=latencies)


def connections(way_in: Address, count: int, at_once: int) -> Run:
    """Connect, say one byte, hear it, close; `at_once` of them at a time."""

    def one(_: int) -> float:
        begin = time.perf_counter()
        greeted(way_in).close()
        return time.perf_counter() - begin

    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(one, range(at_once)))  # the tunnel is up and the threads are running
        begin = time.perf_counter()
        latencies = list(threads.map(one, range(count)))
        return Run(units=count, seconds=time.perf_counter() - begin, latencies=latencies)


def greeted(way_in: Address) -> socket.socket:
    """A connection over which a byte has gone there and back."""
    connection = connect(way_in)
    connection.sendall(b"E")
    take_bytes(connection, 1)
    return connection
