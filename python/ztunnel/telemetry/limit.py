"""How often a message may repeat: so many a second, then only their number (spec/reliability.md T18).

`Limiter` counts and is handed the time; `Limited` stands in a handler and remembers to tell. A class of messages is a
line of the code: what stands in it differs, the text before its arguments does not. Information is not limited, as
nobody outside can have it repeated at will. Counterpart: `rust/proxy/src/telemetry/log/limit.rs`.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from dataclasses import dataclass
from typing import TypeAlias

from ztunnel.fields import fields

PERIOD = 1.0
# More than Rust's ten: a mesh file's mistakes, twenty lines, are one answer to one person.
PER_PERIOD = 50
# Texts that are put together before they are logged make a class each: past this, they are as good as information.
CLASSES = 256
LONGEST = 120
"""Characters of a message that tell its class."""
TELLER = "ztunnel.telemetry"

Class: TypeAlias = tuple[str, int, str]


@dataclass(slots=True)
class _Window:
    began: float
    passed: int = 0
    held: int = 0


class Limiter:
    """Pure, and for one thread at a time."""

    def __init__(self) -> None:
        self._windows: dict[Class, _Window] = {}

    def admits(self, kind: Class, now: float) -> bool:
        """Whether one more message of this class passes."""
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= CLASSES and not self._make_room(now):
                return True
            window = self._windows[kind] = _Window(began=now)
        if now - window.began >= PERIOD and not window.held:
            window.began, window.passed = now, 0
        if window.passed < PER_PERIOD:
            window.passed += 1
            return True
        window.held += 1
        return False

    def report(self, now: float) -> list[tuple[Class, int]]:
        """Classes whose second is over, with how many were held back; they may speak again."""
        told = []
        for kind, window in self._windows.items():
            if window.held and now - window.began >= PERIOD:
                told.append((kind, window.held))
                window.began, window.passed, window.held = now, 0, 0
        return told

    @property
    def holds(self) -> bool:
        """Whether there is something to report."""
        return any(window.held for window in self._windows.values())

    def _make_room(self, now: float) -> bool:
        over = [k for k, w in self._windows.items() if not w.held and now - w.began >= PERIOD]
        for kind in over:
            del self._windows[kind]
        return bool(over)


class Limited(logging.Filter):
    """Holds back what its handler has had enough of, and tells how much that was."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler
        self._limiter = Limiter()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        if record.levelno < logging.WARNING or record.name == TELLER:
            return True
        kind = (record.name, record.levelno, str(record.msg)[:LONGEST])
        with self._lock:
            admitted = self._limiter.admits(kind, time.monotonic())
            if not admitted and self._timer is None:
                self._remember()
        return admitted

    def end(self) -> None:
        """Tells what is left to tell."""
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._tell(time.monotonic() + PERIOD)

    def _remember(self) -> None:
        # A thread for a second, and only after a flood: no line may come that could do it.
        timer = threading.Timer(PERIOD, self._on_time)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            # No thread is to be had: whoever says something must not fail for it, and the next line tries again.
            return
        self._timer = timer

    def _on_time(self) -> None:
        self._tell(time.monotonic())
        with self._lock:
            if self._timer is None:
                return  # ended
            self._timer = None
            if self._limiter.holds:
                self._remember()

    def _tell(self, now: float) -> None:
        with self._lock:
            told = self._limiter.report(now)
        for (name, level, message), count in told:
            text = f"suppressed {count} similar messages"
            line = logging.LogRecord(TELLER, level, "", 0, text, None, None)
            target = name.removeprefix("ztunnel.").replace(".", "::")
            line.__dict__.update(fields(**{"class": f"{target}: {message}"}))
            self._handler.handle(line)


_last: Limited | None = None


def limit(handler: logging.Handler) -> None:
    """Makes a handler one that repeats itself no more than so often; what it still has to tell comes at the end."""
    global _last  # the process has one log
    if _last is None:
        atexit.register(_end)
    else:
        _last.end()
    _last = Limited(handler)
    handler.addFilter(_last)


def _end() -> None:
    if _last is not None:
        _last.end()
