"""One bulk stream for so long, and how fast it was once it had found its speed."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bench.application import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.workloads import Address

Direction = Literal["up", "down"]
# More than can go through in any time that is asked for.
ENDLESS = 2**40
DEADLINE = 30.0


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What went through after the first seconds."""

    first: float
    """Bytes a second while it was still finding its speed,"""
    steady: float
    """and afterwards."""


def carries(to: Address, direction: Direction, finding: float, seconds: float) -> Speed:
    """Runs `finding` + `seconds`; the application is `bench.application`."""
    with socket.create_connection(to, DEADLINE) as connection, _zeros() as zeros:
        connection.sendall((b"U" if direction == "up" else b"D") + struct.pack(">Q", ENDLESS))
        connection.setblocking(False)
        poll = select.poll()
        poll.register(connection, select.POLLOUT if direction == "up" else select.POLLIN)
        scratch = bytearray(CHUNK)
        begin = time.perf_counter()
        bytes_, found = 0, None
        while (now := time.perf_counter() - begin) < finding + seconds:
            if found is None and now >= finding:
                found = (now, bytes_)
            if not poll.poll(100):
                continue
            if direction == "up":
                bytes_ += os.sendfile(connection.fileno(), zeros, 0, CHUNK)
            else:
                got = connection.recv_into(scratch, CHUNK, socket.MSG_TRUNC)
                if not got:
                    raise ConnectionError("the application stopped sending by itself")
                bytes_ += got
        if found is None:
            raise TimeoutError("nothing was measured")
        return Speed(first=found[1] / found[0], steady=(bytes_ - found[1]) / (now - found[0]))


@contextlib.contextmanager
def _zeros() -> Iterator[int]:
    zeros = os.memfd_create("zeros")
    try:
        os.truncate(zeros, CHUNK)
        yield zeros
    finally:
        os.close(zeros)
