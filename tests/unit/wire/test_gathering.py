"""When the door before a socket is shut, and that it never stays so."""

from __future__ import annotations

import asyncio
import fcntl
import select
import socket
import struct
import termios
import time
from typing import TYPE_CHECKING

import pytest

from ztunnel.wire.gathering import MOMENT, MUCH, Gathering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE = 5.0


class Timers:
    """Time that is moved by hand, and at most one timer."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.due: tuple[float, Callable[[], object]] | None = None

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object], /) -> asyncio.TimerHandle:
        assert self.due is None, "a second timer"
        self.due = when, callback
        timers = self

        class Handle(asyncio.TimerHandle):
            def __init__(self) -> None:
                pass

            def cancel(self) -> None:
                timers.due = None

        return Handle()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        if self.due is not None and self.due[0] <= self.now:
            self.due[1]()


class House:
    """A door before a connection of the loopback."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near, self.far = near, far
        self.timers = Timers()
        self.door = Gathering(near, self.timers)

    @property
    def shut(self) -> bool:
        return self.near.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) > 1

    def come(self, after: float, *, many: bool = False) -> None:
        """Somebody comes and goes, so that nobody is inside."""
        self.timers.advance(after)
        self.door.came(many)
        self.door.shut()


@pytest.fixture
def house() -> Iterator[House]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    with near, far:
        yield House(near, far)


def test_whoever_comes_to_a_quiet_house_finds_it_open(house: House) -> None:
    for _ in range(3):
        house.come(2 * MOMENT)
        assert not house.shut
    assert house.timers.due is None


def test_who_comes_right_behind_waits_for_a_moment_at_most(house: House) -> None:
    house.come(1.0)
    house.come(MOMENT / 2)
    assert house.shut
    house.timers.advance(MOMENT)
    assert not house.shut


def test_a_crowd_goes_on_gathering_and_one_alone_does_not(house: House) -> None:
    house.come(1.0)
    house.come(MOMENT / 2)
    for _ in range(3):
        house.come(MOMENT, many=True)
        assert house.shut
    # Such as a server that waits for our answer to its last one.
    house.come(MOMENT, many=False)
    assert not house.shut


def test_a_stream_that_is_closed_leaves_the_door_open_and_no_timer(house: House) -> None:
    house.come(1.0)
    house.come(MOMENT / 2)
    house.door.open()
    assert (house.shut, house.timers.due) == (False, None)


def test_a_socket_that_is_gone_is_no_trouble(house: House) -> None:
    house.come(1.0)
    house.near.close()
    house.come(MOMENT / 2)
    assert house.timers.due is not None
    house.timers.advance(MOMENT)
    house.door.open()


def test_a_shut_door_is_opened_by_its_moment_by_many_bytes_and_by_the_end(house: House) -> None:
    poll = select.poll()
    poll.register(house.near, select.POLLIN)
    house.come(1.0)
    house.come(MOMENT / 2)
    house.far.sendall(b"a")
    arrived(house.near, 1)
    assert poll.poll(0) == []
    house.door.open()
    assert poll.poll(DEADLINE * 1000)
    house.near.recv(1)
    house.come(MOMENT, many=True)
    assert house.shut
    house.far.sendall(b"b" * (MUCH + 1))
    assert poll.poll(DEADLINE * 1000)
    assert house.shut
    house.near.recv(2 * MUCH)
    house.far.close()
    assert poll.poll(DEADLINE * 1000)


def arrived(connected: socket.socket, size: int) -> None:
    """Waits until so many bytes can be read, which nobody is told of."""
    until = time.monotonic() + DEADLINE
    waiting = 0
    while waiting < size and time.monotonic() < until:
        answer = fcntl.ioctl(connected, termios.FIONREAD, b"\0\0\0\0")
        (waiting,) = struct.unpack("i", answer)
    assert waiting >= size
