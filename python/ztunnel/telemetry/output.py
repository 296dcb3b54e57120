"""Where log lines go, whose reader may have stopped reading.

Nobody who logs waits for it: the event loop does, and would renew no certificate meanwhile (spec/reliability.md F23). A line
is written at once where it fits; else a thread writes it and those behind it, and what is too much is dropped and counted.
Knows no format and no level. Counterpart: `rust/proxy/src/telemetry/log/queue.rs`.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import select
import stat
import threading
from collections import deque
from typing import TextIO

from ztunnel.fields import fields

# Of lines that wait for a reader. A minute of a bad day.
MAX_LINES = 1024
MAX_BYTES = 1024 * 1024
# What a pipe that can be written to takes without blocking (pipe(7), PIPE_BUF; select.PIPE_BUF is the same).
AT_ONCE = select.PIPE_BUF
OWN = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# For what is left at the end of the program.
FAREWELL = 1.0


class Output(logging.StreamHandler[TextIO]):
    """A stream. One that is no file, pipe, terminal or socket, such as a test's, is written to as ever."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._lost = 0
        self._state = threading.Lock()
        self._writer: threading.Thread | None = None
        self._has_descriptor = _has_descriptor(stream)
        if self._has_descriptor:
            self._is_file, self._is_terminal = _is_file(stream), stream.isatty()
            atexit.register(self.finish, FAREWELL)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record's line, or leaves it to be written, or drops it."""
        if not self._has_descriptor:
            super().emit(record)
            return
        try:
            # Asked each time: the number of a stream that is closed may be another's by now.
            self._take(self._line(record), self.stream.fileno())
        except Exception:
            self.handleError(record)

    def finish(self, within: float) -> bool:
        """Waits so many seconds for what is left to be written; whether it was."""
        writer = self._writer
        if writer is not None:
            writer.join(within)
        return writer is None or not writer.is_alive()

    def _line(self, record: logging.LogRecord) -> bytes:
        text = self.format(record) + self.terminator
        return text.encode(self.stream.encoding or "utf-8", "backslashreplace")

    def _take(self, line: bytes, descriptor: int) -> None:
        with self._state:
            # A line whose beginning is written has its place: nothing else waits yet.
            line = line if self._writer is not None else self._at_once(line, descriptor)
            if not line:
                return
            if len(self._waiting) >= MAX_LINES or self._bytes + len(line) > MAX_BYTES:
                self._lost += 1
                return
            self._waiting.append(line)
            self._bytes += len(line)
            if self._writer is None:
                self._begin(descriptor)

    def _at_once(self, line: bytes, descriptor: int) -> bytes:
        """Writes what can be written without a wait, or raises at once; gives what is left."""
        if self._is_file:
            _write(descriptor, line)
            return b""
        if len(line) > AT_ONCE:
            return line
        try:
            # Our own description of the same thing: the shared one is everybody's, and should go on blocking.
            own = os.open(f"/proc/self/fd/{descriptor}", OWN)
        except OSError:
            # A socket; a pipe of another user's, or without a reader. What was free a moment ago may be taken by whoever
            # writes beside us, and a terminal says that it is ready for one byte.
            ready = not self._is_terminal and _is_ready(descriptor, 0)
            return _write_some(descriptor, line) if ready else line
        try:
            return _write_some(own, line)
        finally:
            os.close(own)

    def _begin(self, descriptor: int) -> None:
        # Only while it is needed: a node whose log is read has no thread for it.
        writer = threading.Thread(
            target=self._run, args=(descriptor,), name="python log", daemon=True
        )
        try:
            writer.start()
        except RuntimeError:
            # No thread is to be had; the next line tries again.
            self._drop()
            return
        self._writer = writer

    def _run(self, descriptor: int) -> None:
        try:
            while (line := self._next()) is not None:
                # Past Python's own buffer, whose lock a thread that hangs would take to the end of the program.
                _write(descriptor, line)
        except OSError:
            with self._state:
                self._drop()
                self._writer = None

    def _next(self) -> bytes | None:
        """The next line; None, and the end of the thread, if there is none."""
        with self._state:
            if self._waiting:
                line = self._waiting.popleft()
                self._bytes -= len(line)
                return line
            if self._lost:
                lost, self._lost = self._lost, 0
                return self._line(_losses(lost))
            self._writer = None
            return None

    def _drop(self) -> None:
        self._lost += len(self._waiting)
        self._waiting.clear()
        self._bytes = 0


def _write(descriptor: int, line: bytes) -> None:
    while line := _write_some(descriptor, line):
        # Whoever has the other end of the same description made it so.
        _is_ready(descriptor, None)


def _write_some(descriptor: int, line: bytes) -> bytes:
    """Writes until all is written or a wait would be needed, if that is left to us; gives what is left."""
    with contextlib.suppress(BlockingIOError):
        while line:
            line = line[os.write(descriptor, line) :]
    return line


def _is_ready(descriptor: int, milliseconds: int | None) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(milliseconds))


def _losses(lost: int) -> logging.LogRecord:
    text = "lines of the log were lost, as nobody read them"
    record = logging.LogRecord("ztunnel.telemetry", logging.WARNING, "", 0, text, None, None)
    record.__dict__.update(fields(lines=lost))
    return record


def _has_descriptor(stream: TextIO) -> bool:
    try:
        stream.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    return True


def _is_file(stream: TextIO) -> bool:
    return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
