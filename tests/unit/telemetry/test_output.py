"""Log lines whose reader reads, stops reading, or goes away."""

from __future__ import annotations

import logging
import os
import pty
import select
import threading
from typing import TYPE_CHECKING, TextIO

import pytest

from ztunnel.telemetry import log as telemetry
from ztunnel.telemetry import output
from ztunnel.telemetry.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE = 10.0
WRITER = "python log"


class Pipe:
    """A handler of a pipe, and the reader at its other end."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        self.stream: TextIO = os.fdopen(writing, "w")
        self.handler = Output(self.stream)

    def say(self, text: str) -> None:
        _say(self.handler, text)

    def fill(self) -> int:
        """As somebody else who logs, until nothing fits; gives how much that was."""
        writing, filled = self.stream.fileno(), 0
        poll = select.poll()
        poll.register(writing, select.POLLOUT)
        while poll.poll(0):
            filled += os.write(writing, b"x" * select.PIPE_BUF)
        return filled

    def read(self, size: int) -> bytes:
        found = b""
        while len(found) < size and (piece := os.read(self.reading, size - len(found))):
            found += piece
        return found

    def rest(self) -> list[str]:
        """All lines to the end, which is now."""
        assert self.handler.finish(DEADLINE)
        self.stream.close()
        with os.fdopen(self.reading) as lines:
            return lines.read().splitlines()


def _say(handler: Output, text: str) -> None:
    handler.handle(logging.LogRecord("ztunnel", logging.INFO, "", 0, text, None, None))


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    one = Pipe()
    yield one
    one.stream.close()


def is_writing() -> bool:
    return any(thread.name == WRITER for thread in threading.enumerate())


def test_a_log_that_is_read_has_no_thread(pipe: Pipe) -> None:
    pipe.say("one")
    pipe.say("two")
    assert not is_writing()
    assert pipe.rest() == ["one", "two"]


def test_nobody_waits_for_a_reader_that_has_stopped_and_what_is_too_much_is_counted(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "MAX_LINES", 3)
    filled = pipe.fill()
    for number in range(10):
        pipe.say(f"line {number}")
    assert not pipe.handler.finish(0)
    pipe.read(filled)
    lines = pipe.rest()
    assert lines[:3] == ["line 0", "line 1", "line 2"]
    # The thread has taken one more out of the queue, or not yet.
    assert lines[3:] in (
        ["lines of the log were lost, as nobody read them"],
        ["line 3", "lines of the log were lost, as nobody read them"],
    )
    assert not is_writing()


def test_a_long_line_stays_one_and_in_its_place(pipe: Pipe) -> None:
    said = ["a" * 100_000, "b"]
    reader: list[bytes] = []
    reading = threading.Thread(target=lambda: reader.append(pipe.read(100_003)))
    reading.start()
    for line in said:
        pipe.say(line)
    reading.join(DEADLINE)
    assert reader[0].decode().splitlines() == said
    assert pipe.rest() == []


def test_a_reader_that_has_gone_holds_nobody(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    pipe.fill()
    pipe.say("waits")
    os.close(pipe.reading)
    assert pipe.handler.finish(DEADLINE)
    pipe.say("fails at once")
    assert not is_writing()


def test_a_terminal_that_nobody_reads_holds_nobody() -> None:
    # It calls itself ready for as long as one byte fits, and a line has more.
    screen, terminal = pty.openpty()
    handler = Output(os.fdopen(terminal, "w"))
    said = [f"{number} {'x' * 700}" for number in range(100)]

    def say() -> None:
        for line in said:
            _say(handler, line)

    with os.fdopen(screen) as shown:
        assert in_time(say)
        assert not handler.finish(0)
        assert [shown.readline().rstrip() for _ in said] == said
    assert handler.finish(DEADLINE)


@pytest.mark.parametrize("ours", [True, False])
def test_nobody_waits_for_room_that_somebody_else_took(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    look = output._is_ready

    def look_and_be_late(descriptor: int, milliseconds: int | None) -> bool:
        ready = look(descriptor, milliseconds)
        if milliseconds == 0:
            pipe.fill()
        return ready

    def denied(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(output, "_is_ready", look_and_be_late)
    if not ours:
        # As in a container whose pipes are another user's: what helps then is that somebody made them so.
        monkeypatch.setattr(os, "open", denied)
        os.set_blocking(pipe.stream.fileno(), False)
    assert in_time(lambda: pipe.say("one"))
    monkeypatch.undo()
    reading = threading.Thread(target=lambda: pipe.read(1 << 20), daemon=True)
    reading.start()
    assert pipe.handler.finish(DEADLINE)
    assert not is_writing()


def in_time(call: Callable[[], object]) -> bool:
    """Whether it ends; left to itself if not, as nothing can end it."""
    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    caller.join(DEADLINE)
    return not caller.is_alive()


def test_the_packages_log_is_one_of_these(pipe: Pipe) -> None:
    logger = logging.getLogger("ztunnel")
    keep = logger.handlers[:], logger.level, logger.propagate, logging.raiseExceptions
    try:
        telemetry.set_up(stream=pipe.stream)
        assert [type(handler) for handler in logger.handlers] == [Output]
    finally:
        logger.handlers[:], logger.level, logger.propagate, logging.raiseExceptions = keep
