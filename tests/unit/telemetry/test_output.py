"""Log lines whose reader reads, stops reading, or goes away."""

from __future__ import annotations

import logging
import os
import select
import threading
from typing import TYPE_CHECKING, TextIO

import pytest

from ztunnel.telemetry import log as telemetry
from ztunnel.telemetry import output
from ztunnel.telemetry.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE = 10.0
WRITER = "python log"


class Pipe:
    """A handler of a pipe, and the reader at its other end."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        self.stream: TextIO = os.fdopen(writing, "w")
        self.handler = Output(self.stream)

    def say(self, text: str) -> None:
        self.handler.handle(logging.LogRecord("ztunnel", logging.INFO, "", 0, text, None, None))

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


def test_the_packages_log_is_one_of_these(pipe: Pipe) -> None:
    logger = logging.getLogger("ztunnel")
    keep = logger.handlers[:], logger.level, logger.propagate, logging.raiseExceptions
    try:
        telemetry.set_up(stream=pipe.stream)
        assert [type(handler) for handler in logger.handlers] == [Output]
    finally:
        logger.handlers[:], logger.level, logger.propagate, logging.raiseExceptions = keep
